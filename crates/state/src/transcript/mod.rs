//! The state machine's behaviour as transcripts: a command a line, and under it the exact outcome.
//!
//! Commands that stand on one line, parted by `;`, share an entry. `UPDATE_EXPECT=1` rewrites the outcomes; read them
//! as a diff. Words and shapes are in [`parse`], outcomes in [`render`].

mod adapt;
mod catalogue;
mod cluster;
mod deaths;
mod drain;
mod durable;
mod executors;
mod jobs;
mod loss;
mod parse;
mod render;
mod reopen;
mod restarts;
mod rollback;
mod story;
mod tasks;
mod terms;
mod writes;

use expect_test::Expect;
use polybolos_model::Term;

pub(crate) use parse::graph;

use crate::{
    Applied, ClusterState, Command, Entry, invariants,
    policy::{self, Event, Patience},
};

/// A state and the clock and term of its leader.
pub(crate) struct Lab {
    pub(crate) state: ClusterState,
    pub(crate) now_ms: u64,
    pub(crate) term: Term,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self { state: ClusterState::new("test"), now_ms: 1_000, term: Term(1) }
    }

    /// What its leader would write.
    pub(crate) fn entry(&self, commands: Vec<Command>) -> Entry {
        Entry::new(self.state.version(), self.term, self.now_ms, commands)
    }

    /// Applies the commands as one entry and checks every invariant.
    pub(crate) fn apply(&mut self, commands: Vec<Command>) -> Applied {
        let before = self.state.clone();
        let count = commands.len();
        let applied = self.state.apply(&self.entry(commands));
        assert_eq!(applied.outcomes.len(), count, "one outcome for each command");
        invariants::check(&self.state).unwrap();
        invariants::check_step(&before, &self.state).unwrap();
        applied
    }

    /// The outcomes of one line, a line each.
    pub(crate) fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["at", ms] => {
                self.now_ms = ms.parse().unwrap();
                String::new()
            }
            ["term", term] => {
                self.term = Term(term.parse().unwrap());
                String::new()
            }
            ["show", what @ ..] => render::show(&self.state, what),
            _ => {
                let commands = line.split(';').map(|command| parse::command(self, command)).collect();
                let applied = self.apply(commands);
                applied.outcomes.iter().map(|outcome| format!("  {}\n", render::outcome(outcome))).collect()
            }
        }
    }

    /// The same for what the leader makes of the line's commands, which somebody requests.
    pub(crate) fn decide(&mut self, line: &str) -> String {
        let requests: Vec<Event> =
            line.split(';').map(|command| Event::Request(self.parse(command))).collect();
        let entry = policy::decide(&self.state, &requests, Patience::default(), self.term, self.now_ms);
        let applied = self.apply(entry.map_or(Vec::new(), |entry| entry.commands));
        applied.outcomes.iter().map(|outcome| format!("  {}\n", render::outcome(outcome))).collect()
    }

    /// One line of a transcript with its outcomes.
    pub(crate) fn tell(&mut self, line: &str) -> String {
        format!("{line}\n{}", self.run(line))
    }

    /// A line of one command.
    pub(crate) fn parse(&self, line: &str) -> Command {
        parse::command(self, line)
    }

    pub(crate) fn run_all(&mut self, lines: &[&str]) {
        for line in lines {
            self.run(line);
        }
    }
}

fn check(script: &str, expect: Expect) {
    let mut lab = Lab::new();
    let mut out = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        out += &lab.tell(line);
    }
    expect.assert_eq(&out);
}
