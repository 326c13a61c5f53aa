//! What really ran, from the logs of all processes: when executors started attempts, and when the replicated log
//! committed completions.
//!
//! A completion counts as committed from the first moment at which any replica applied it. What began earlier may have
//! been decided without that knowledge; what began later ran again for nothing.

use std::collections::BTreeMap;

use crate::fleet::Fleet;

/// `RFC 3339` with microseconds, which compares as text.
type Stamp = String;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    at: Stamp,
    attempt: String,
    /// Who told.
    node: String,
}

/// By task (`JOB/STAGE/PARTITION`).
#[derive(Debug, Default)]
pub(crate) struct Audit {
    starts: BTreeMap<String, Vec<Event>>,
    /// The first time that each attempt's completion was applied anywhere.
    commits: BTreeMap<String, Vec<Event>>,
}

impl Audit {
    /// What a process must log for it.
    pub(crate) const EXECUTOR_FILTER: &str = "info,polybolos_executor::task=debug";
    pub(crate) const SCHEDULER_FILTER: &str = "info,openraft=off,polybolos_consensus::completions=debug";

    pub(crate) fn of(fleet: &Fleet) -> Self {
        let mut audit = Self::default();
        for node in &fleet.executors {
            node.history().lines().for_each(|line| audit.start(&node.name, line));
        }
        for node in &fleet.schedulers {
            node.history().lines().for_each(|line| audit.commit(&node.name, line));
        }
        audit
    }

    fn start(&mut self, node: &str, line: &str) {
        if !line.ends_with("polybolos_executor::task: started") {
            return;
        }
        let field = |name| field(line, name).unwrap_or_else(|| panic!("no {name} in {line}"));
        let task = format!("{}/{}/{}", field("job"), field("stage"), field("partition"));
        self.starts.entry(task).or_default().push(event(line, node));
    }

    fn commit(&mut self, node: &str, line: &str) {
        if !line.contains("polybolos_consensus::completions: committed") {
            return;
        }
        let (task, event) = (field(line, "task").unwrap(), event(line, node));
        let commits = self.commits.entry(task.to_owned()).or_default();
        match commits.iter_mut().find(|known| known.attempt == event.attempt) {
            Some(known) if known.at > event.at => *known = event,
            Some(_) => {}
            None => commits.push(event),
        }
    }

    /// Tasks whose completion was committed.
    pub(crate) fn completed(&self) -> usize {
        self.commits.len()
    }

    /// Tasks of which more than one attempt began, all before a completion was committed: the price of not logging
    /// starts.
    pub(crate) fn started_twice(&self) -> Vec<String> {
        let several = self.starts.iter().filter(|(_, starts)| starts.len() > 1);
        several
            .map(|(task, starts)| {
                let commits = self.commits.get(task);
                format!("task {task}: {starts:?}, committed {commits:?}")
            })
            .collect()
    }

    /// Attempts that began after the completion of their task was committed, and tasks that were completed by more
    /// than one.
    pub(crate) fn reruns(&self) -> Vec<String> {
        let mut reruns = Vec::new();
        for (task, commits) in &self.commits {
            if commits.len() > 1 {
                reruns.push(format!("task {task} was completed more than once: {commits:?}"));
            }
            let Some(first) = commits.iter().min_by_key(|commit| &commit.at) else { continue };
            let late = self.starts.get(task).into_iter().flatten().filter(|start| start.at > first.at);
            reruns.extend(late.map(|start| format!("task {task}: {start:?} after {first:?}")));
        }
        reruns
    }

    /// Completions of which no executor tells the start: the logs are not whole.
    pub(crate) fn unexplained(&self) -> Vec<&String> {
        self.commits.keys().filter(|task| !self.starts.contains_key(*task)).collect()
    }
}

fn event(line: &str, node: &str) -> Event {
    let at = line.split_whitespace().next().unwrap_or_default().to_owned();
    Event { at, attempt: field(line, "attempt").unwrap_or_default().to_owned(), node: node.to_owned() }
}

/// The value of `name=VALUE` in a line of the log.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut words = line.split([' ', '{', '}']);
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn a_start_after_the_commit_is_noticed() {
    let start = |second: u32, attempt: &str| {
        format!(
            "2030-01-01T00:00:0{second}.000000Z DEBUG task{{job=a1 stage=0 partition=3 attempt={attempt}}}: polybolos_executor::task: started"
        )
    };
    let commit = |second: u32, attempt: &str| {
        format!(
            "2030-01-01T00:00:0{second}.500000Z DEBUG polybolos_consensus::completions: committed index=9 task=a1/0/3 attempt={attempt}"
        )
    };
    let audit = |starts: &[String], commits: &[String]| {
        let mut audit = Audit::default();
        starts.iter().for_each(|line| audit.start("e1", line));
        commits.iter().for_each(|line| audit.commit("scheduler-1", line));
        audit
    };
    // Replicas apply at different times, and again after a restart: the first counts.
    let good =
        audit(&[start(1, "1.1"), start(2, "2.1")], &[commit(4, "1.1"), commit(2, "1.1"), commit(9, "1.1")]);
    assert_eq!((good.reruns(), good.completed(), good.started_twice().len()), (Vec::new(), 1, 1));
    assert_eq!(
        audit(&[start(1, "1.1"), start(3, "2.1")], &[commit(4, "1.1"), commit(2, "1.1")]).reruns().len(),
        1
    );
    assert_eq!(
        audit(&[start(1, "1.1"), start(2, "2.1")], &[commit(3, "1.1"), commit(4, "2.1")]).reruns().len(),
        1
    );
    assert_eq!(audit(&[], &[commit(3, "1.1")]).unexplained(), [&"a1/0/3".to_owned()]);
}
