//! A task that failed for a reason of its own is not launched again, by the leader that knows of it, before its backoff is
//! over.
//! From: docs/failure-contract.md, "after 100 ms, doubling".

use std::collections::BTreeMap;

use polybolos_model::{AttemptId, ErrorClass, TaskId, Term, simulation::Fact};
use polybolos_state::{Change, ClusterState, Command, Fate};

use super::{Check, Commit, Oracle, Reference};
use crate::moment::{Moment, What};

/// Hosts' clocks tick in milliseconds.
const TOLERANCE_US: u64 = 5_000;

#[derive(Debug, Default)]
pub(super) struct RetriesWait {
    /// Who knows of it, and until when it waits.
    waiting: BTreeMap<TaskId, (Term, u64)>,
}

impl Oracle for RetriesWait {
    fn name(&self) -> &'static str {
        "retries-wait"
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        for (command, outcome) in commit.entry.commands.iter().zip(&commit.applied.outcomes) {
            if let (Command::FailTask { task, attempt, error, .. }, Ok(Change::TaskFailed { .. })) =
                (command, outcome)
                && matches!(error.class, ErrorClass::Retryable | ErrorClass::Resources)
                && let Some(wait_ms) = backoff_ms(commit.after, *task, *attempt)
            {
                let until_us = commit.at_us + wait_ms * 1_000 - TOLERANCE_US;
                self.waiting.insert(*task, (commit.entry.term, until_us));
            }
        }
        Ok(())
    }

    fn on_moment(&mut self, moment: &Moment, _reference: &Reference) -> Check {
        match &moment.what {
            // A leader that does not know what became of its entry has all executors register again, and may have
            // missed the failure.
            What::Fact(Fact::Registered { .. }) => self.waiting.clear(),
            What::Fact(Fact::Launched { term, task, attempt, .. }) => {
                let waits =
                    self.waiting.get(task).filter(|(known, until)| known == term && moment.at_us < *until);
                if let Some((_, until_us)) = waits {
                    return Err(format!(
                        "attempt {attempt} of task {task} was launched {} ms before its backoff was over",
                        (until_us - moment.at_us).div_ceil(1_000)
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// After the failure of this attempt, if it was its own.
fn backoff_ms(state: &ClusterState, task: TaskId, attempt: AttemptId) -> Option<u64> {
    let run = state.job(task.job)?.task(task.stage, task.partition)?;
    let own = run.past.iter().any(|past| past.attempt == attempt && past.fate == Fate::Failed);
    own.then(|| (100 << run.failures.saturating_sub(1).min(10)).min(5_000))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn launched(counter: u64) -> Fact {
        let (executor, task, attempt) = (executor(1), task(0, 0), attempt(counter));
        Fact::Launched { term: attempt.term, executor, task, attempt }
    }

    #[test]
    fn a_retry_without_its_backoff_is_found() {
        let mut lab = Lab::with_job(RetriesWait::default());
        lab.commit(vec![fail(1, task(0, 0), 1, ErrorClass::Retryable)]).unwrap();
        assert!(lab.fact(LEADER, launched(2)).is_err());
        lab.now_us += 100_000;
        lab.fact(LEADER, launched(2)).unwrap();
        lab.commit(vec![fail(1, task(0, 0), 2, ErrorClass::Resources)]).unwrap();
        lab.now_us += 150_000;
        assert!(lab.fact(LEADER, launched(3)).is_err(), "the second one waits twice as long");
        let registered = Fact::Registered {
            executor: executor(1),
            term: Term(1),
            incarnation: polybolos_model::Incarnation(1),
        };
        lab.fact("executor-1", registered).unwrap();
        lab.fact(LEADER, launched(3)).unwrap();
    }
}
