//! What ran, and what of it for nothing: from the logs of the executors of one run. What counts as done they can't tell:
//! a task that an executor has completed is done when the cluster has committed that.

use std::collections::BTreeMap;

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;

/// Of one query, in ms of task time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Work {
    /// Of the attempts whose outputs count.
    pub(super) useful_ms: f64,
    /// Until the kill, of all others: cut in the middle, lost with their executor after their end, or failed later over
    /// lost inputs.
    pub(super) lost_ms: f64,
    /// After the kill, of attempts that came to nothing: for the most part waits for inputs that were gone.
    pub(super) stalled_ms: f64,
    pub(super) tasks: usize,
    /// Tasks of which more than one attempt began.
    pub(super) again: usize,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    node: usize,
    started_ms: f64,
    /// When, and whether it was completed.
    ended: Option<(f64, bool)>,
}

impl Work {
    /// `logs` of all executors, of which those at `is_dead` were killed at `killed_ms`.
    pub(super) fn of(logs: &[String], is_dead: impl Fn(usize) -> bool, killed_ms: f64) -> Self {
        let mut tasks: BTreeMap<String, BTreeMap<String, Attempt>> = BTreeMap::new();
        for (node, log) in logs.iter().enumerate() {
            for line in log.lines() {
                note(&mut tasks, node, line);
            }
        }
        let mut work = Self { tasks: tasks.len(), ..Self::default() };
        for attempts in tasks.values() {
            work.again += usize::from(attempts.len() > 1);
            let completed_at = |attempt: &Attempt| attempt.ended.filter(|(_, completed)| *completed);
            let last = attempts.values().filter_map(completed_at).map(|(at, _)| at).reduce(f64::max);
            for attempt in attempts.values() {
                match attempt.ended {
                    Some((at, true)) if Some(at) == last => work.useful_ms += at - attempt.started_ms,
                    Some((at, _)) => work.lose(attempt.started_ms, at, killed_ms),
                    None if is_dead(attempt.node) => work.lose(attempt.started_ms, killed_ms, killed_ms),
                    // Called off, which is not logged.
                    None => {}
                }
            }
        }
        work
    }

    fn lose(&mut self, from_ms: f64, to_ms: f64, killed_ms: f64) {
        self.lost_ms += (to_ms.min(killed_ms) - from_ms).max(0.0);
        self.stalled_ms += (to_ms - from_ms.max(killed_ms)).max(0.0);
    }

    /// Lost work for each unit of what the query needs.
    pub(super) fn share(&self) -> f64 {
        if self.useful_ms > 0.0 { self.lost_ms / self.useful_ms } else { 0.0 }
    }
}

fn note(tasks: &mut BTreeMap<String, BTreeMap<String, Attempt>>, node: usize, line: &str) {
    let Some((_, said)) = line.split_once("polybolos_executor::task: ") else { return };
    let fields = ["job", "stage", "partition", "attempt"].map(|name| field(line, name));
    let ([Some(job), Some(stage), Some(partition), Some(attempt)], Some(at_ms)) = (fields, stamp_ms(line))
    else {
        return;
    };
    let attempts = tasks.entry(format!("{job}/{stage}/{partition}")).or_default();
    if said.starts_with("started") {
        attempts.insert(attempt.to_owned(), Attempt { node, started_ms: at_ms, ended: None });
    } else if let Some(known) = attempts.get_mut(attempt) {
        known.ended = Some((at_ms, said.starts_with("completed")));
    }
}

/// When the log of a scheduler says that the executor is lost, in ms since the Unix epoch.
pub(super) fn lost_at_ms(log: &str, executor: &str) -> Option<f64> {
    let line = log
        .lines()
        .find(|line| line.contains("executor lost") && field(line, "executor") == Some(executor))?;
    stamp_ms(line)
}

/// The time at the begin of a line.
fn stamp_ms(line: &str) -> Option<f64> {
    let stamp = line.split_whitespace().next()?;
    Some(string_to_timestamp_nanos(stamp).ok()? as f64 / 1e6)
}

/// The value of `name=VALUE` in a line of the log.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut words = line.split([' ', '{', '}']);
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(ms: u32, partition: u32, attempt: &str, said: &str) -> String {
        format!(
            "2030-01-01T00:00:00.{ms:03}000Z DEBUG task{{job=a1 stage=0 partition={partition} attempt={attempt}}}: \
             polybolos_executor::task: {said}\n"
        )
    }

    #[test]
    fn what_ran_for_nothing_is_told_from_what_counts() {
        let killed_ms = stamp_ms("2030-01-01T00:00:00.100000Z").unwrap();
        // 0 was done and is lost with its executor; 1 was cut in the middle; 2 counts.
        let victim = [says(10, 0, "1.1", "started"), says(40, 0, "1.1", "completed rows=1")].concat()
            + &says(50, 1, "1.2", "started");
        let other = [
            says(0, 2, "1.3", "started"),
            says(100, 2, "1.3", "completed rows=1"),
            says(200, 0, "1.4", "started"),
            says(225, 0, "1.4", "failed error=x"),
            says(230, 0, "1.6", "started"),
            says(260, 0, "1.6", "completed rows=1"),
            says(300, 1, "1.5", "started"),
            says(370, 1, "1.5", "completed rows=1"),
        ]
        .concat();
        let work = Work::of(&[other, victim], |node| node == 1, killed_ms);
        assert_eq!((work.tasks, work.again), (3, 2));
        assert!((work.useful_ms - 200.0).abs() < 1.0, "{work:?}");
        assert!((work.lost_ms - 80.0).abs() < 1.0 && (work.stalled_ms - 25.0).abs() < 1.0, "{work:?}");
        assert!((work.share() - 0.4).abs() < 0.01, "{work:?}");
    }

    #[test]
    fn the_loss_of_an_executor_is_found_by_its_name() {
        let line = |name: &str, ms: u32| {
            format!(
                "2030-01-01T00:00:00.{ms:03}000Z  WARN polybolos_scheduler::effects: executor lost executor={name} incarnation=3 reason=\"x\"\n"
            )
        };
        let log = line("executor-10", 5) + &line("executor-1", 7);
        let found = lost_at_ms(&log, "executor-1").unwrap() - lost_at_ms(&log, "executor-10").unwrap();
        assert!((found - 2.0).abs() < 0.01, "{found}");
        assert_eq!(lost_at_ms(&log, "executor-2"), None);
    }
}
