//! What the next leader does with what the last one left: a transcript over two terms, and a leader that begins anew
//! within its own.

use std::fmt::Write;

use expect_test::expect;
use polybolos_model::{AttemptId, ExecutorId, TaskId, Term};

use crate::{
    Command, Dispatcher, Launch, Reported,
    limits::STREAM_GRACE_MS,
    policy::{Event, Patience, decide},
    transcript::Lab,
};

/// A leader with its log, and what it said and did.
struct Leader {
    lab: Lab,
    dispatcher: Dispatcher,
    out: String,
}

impl Leader {
    fn first(lines: &[&str]) -> Self {
        let mut lab = Lab::new();
        lab.run_all(lines);
        Self { lab, dispatcher: Dispatcher::new(Term(1)), out: String::new() }
    }

    /// Another replica leads: it has the log, and nothing else.
    fn fail_over(&mut self, at_ms: u64) {
        self.lab.term.0 += 1;
        self.dispatcher = Dispatcher::new(self.lab.term);
        self.dispatcher.await_executors(&self.lab.state);
        writeln!(self.out, "term {} leads", self.lab.term).unwrap();
        self.at(at_ms);
    }

    /// The policy decides on a tick at this time.
    fn at(&mut self, at_ms: u64) {
        self.lab.now_ms = at_ms;
        let entry = decide(&self.lab.state, &[Event::Tick], Patience::default(), self.lab.term, at_ms);
        let commands = entry.map(|entry| entry.commands);
        let lost = commands.iter().flatten().map(|command| match command {
            Command::LoseExecutor { executor, reason, .. } => format!(" loses {executor} as {reason}"),
            other => format!(" {other:?}"),
        });
        let lost: String = lost.collect();
        let entry = if commands.is_some() { " an entry" } else { " nothing" };
        writeln!(self.out, "at {at_ms}:{entry}{lost}").unwrap();
        if let Some(commands) = commands {
            self.lab.apply(commands);
        }
    }

    /// A line of the log.
    fn log(&mut self, line: &str) {
        self.out += &self.lab.tell(line);
    }

    fn attach(&mut self, name: &str, runs: &[Launch]) {
        let id = ExecutorId::new(name).unwrap();
        self.lab.run(&format!("register {name}"));
        let incarnation = self.lab.state.executor(&id).unwrap().incarnation;
        let tell = |launch: &Launch| Reported {
            task: launch.task,
            attempt: launch.attempt,
            epoch: Some(launch.epoch),
        };
        let runs: Vec<Reported> = runs.iter().map(tell).collect();
        let adoption = self.dispatcher.attach(&self.lab.state, &id, incarnation, &runs);
        let words = |attempts: &[AttemptId]| attempts.iter().map(|a| format!(" {a}")).collect::<String>();
        let (adopted, cancel) = (words(&adoption.adopted), words(&adoption.cancel));
        writeln!(self.out, "{name} attaches: adopt{adopted}; cancel{cancel}").unwrap();
    }

    fn plan(&mut self) -> Vec<Launch> {
        let launches = self.dispatcher.plan(&self.lab.state, 0);
        for launch in &launches {
            let (task, executor) = (launch.task, &launch.executor);
            let name = format!("{}/{}/{}", task.job.0, task.stage, task.partition);
            writeln!(self.out, "  launch {} {name} on {executor}", launch.attempt).unwrap();
        }
        if launches.is_empty() {
            self.out += "  launch nothing\n";
        }
        launches
    }
}

#[test]
fn the_next_leader_adopts_what_runs_keeps_what_is_done_and_launches_the_rest() {
    let mut leader = Leader::first(&["submit 1 hash(5,1)", "submit 2 one"]);
    ["a", "b", "c"].into_iter().for_each(|name| leader.attach(name, &[]));
    let launches = leader.plan();
    let of = |leader: &mut Leader, partition: u32| {
        let at = launches.iter().find(|l| l.task.partition == partition && l.task.job.0 == 1).unwrap();
        leader.dispatcher.ended(at.attempt);
        at.clone()
    };
    let done = of(&mut leader, 0);
    leader.log(&format!("complete {} 1/0/0 {}", done.executor, done.attempt));
    leader.log("suspect c");
    // Much later than the suspicion: the new leader has not listened so long.
    leader.fail_over(60_000);
    leader.plan();
    let still = |name: &str| -> Vec<Launch> {
        launches
            .iter()
            .filter(|l| l.executor.as_str() == name && l.attempt != done.attempt)
            .cloned()
            .collect()
    };
    leader.attach("a", &still("a"));
    leader.plan();
    // One of its attempts is over, and the report of it is still on its way.
    leader.attach("b", &still("b")[1..]);
    leader.plan();
    leader.at(60_000 + STREAM_GRACE_MS - 1);
    leader.plan();
    leader.at(60_000 + STREAM_GRACE_MS);
    leader.plan();
    let late = &still("b")[0];
    let (TaskId { job, stage, partition }, attempt) = (late.task, late.attempt);
    leader.log(&format!("complete b {}/{stage}/{partition} {attempt}", job.0));
    let cancelled = leader.dispatcher.cancel_targets(&leader.lab.state);
    writeln!(leader.out, "cancel {cancelled:?}").unwrap();
    leader.log("show job 1");
    expect![[r#"
        a attaches: adopt; cancel
        b attaches: adopt; cancel
        c attaches: adopt; cancel
          launch 1.1 1/0/0 on a
          launch 1.2 2/0/0 on b
          launch 1.3 1/0/1 on c
          launch 1.4 1/0/2 on b
          launch 1.5 1/0/3 on a
          launch 1.6 1/0/4 on c
        complete a 1/0/0 1.1
          completed 1/0/0
        suspect c
          suspected c
        term 2 leads
        at 60000: an entry
          launch nothing
        a attaches: adopt 1.5; cancel
          launch nothing
        b attaches: adopt 1.4; cancel
          launch nothing
        at 60999: nothing
          launch nothing
        at 61000: an entry loses c as its stream broke and it did not come back for 1000 ms
          launch 2.1 2/0/0 on a
          launch 2.2 1/0/1 on b
        complete b 2/0/0 1.2
          completed 2/0/0, stage complete, job succeeded
        cancel [CancelTarget { executor: ExecutorId("a"), attempt: AttemptId { term: Term(2), counter: 1 } }]
        show job 1
          1 running
          stage 0 epoch 0 reruns 0: a:1.1 - - - -
          stage 1 epoch 0 reruns 0: -
    "#]]
    .assert_eq(&leader.out);
}

#[test]
fn a_suspected_executor_is_waited_for_until_it_is_lost() {
    let mut leader = Leader::first(&["register a", "register b", "submit 1 one", "suspect b"]);
    leader.fail_over(5_000);
    leader.attach("a", &[]);
    leader.plan();
    leader.at(5_000 + STREAM_GRACE_MS);
    leader.plan();
    expect![[r#"
        term 2 leads
        at 5000: an entry
        a attaches: adopt; cancel
          launch nothing
        at 6000: an entry loses b as its stream broke and it did not come back for 1000 ms
          launch 2.1 1/0/0 on a
    "#]]
    .assert_eq(&leader.out);
}

#[test]
fn a_leader_that_begins_anew_adopts_its_own_attempts_and_names_none_twice() {
    let mut leader = Leader::first(&["submit 1 hash(3,1)"]);
    leader.attach("a", &[]);
    let launches = leader.plan();
    leader.dispatcher.restart();
    let a = ExecutorId::new("a").unwrap();
    assert!(!leader.dispatcher.is_attached(&a) && leader.dispatcher.busy_slots(&a) == 0);
    assert_eq!(leader.dispatcher.term(), Term(1));
    leader.dispatcher.await_executors(&leader.lab.state);
    leader.plan();
    leader.attach("a", &launches[..1]);
    leader.plan();
    expect![[r#"
        a attaches: adopt; cancel
          launch 1.1 1/0/0 on a
          launch 1.2 1/0/1 on a
          launch nothing
        a attaches: adopt 1.1; cancel
          launch 1.3 1/0/1 on a
    "#]]
    .assert_eq(&leader.out);
}
