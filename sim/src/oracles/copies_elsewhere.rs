//! A second attempt of a task that still runs goes to another executor.
//! From: docs/failure-contract.md, "a task far slower than its siblings".

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use polybolos_model::{AttemptId, ExecutorId, Incarnation, TaskId, simulation::Fact};

use super::{Check, Oracle, Reference};
use crate::moment::{Moment, What};

/// What the log knew of the task when an attempt was launched. While it is the same, nobody has called the attempt off.
type Seen = (u32, usize, Option<Incarnation>, Option<AttemptId>);

#[derive(Debug, Default)]
pub(super) struct CopiesElsewhere {
    launched: BTreeMap<TaskId, Vec<(AttemptId, ExecutorId, Seen)>>,
    /// Started and not ended, by host.
    running: BTreeMap<Arc<str>, BTreeSet<AttemptId>>,
}

impl CopiesElsewhere {
    fn launched(&mut self, task: TaskId, attempt: AttemptId, executor: &ExecutorId, seen: Seen) -> Check {
        let known = self.launched.entry(task).or_default();
        let runs = |other: &AttemptId| self.running.values().any(|running| running.contains(other));
        let beside = known.iter().find(|(other, on, then)| {
            other.term == attempt.term && on == executor && *then == seen && runs(other)
        });
        if let Some((other, ..)) = beside {
            return Err(format!(
                "attempt {attempt} of task {task} was launched on {executor}, where attempt {other} of it runs"
            ));
        }
        known.push((attempt, executor.clone(), seen));
        Ok(())
    }
}

fn seen(reference: &Reference, task: TaskId, executor: &ExecutorId) -> Option<Seen> {
    let state = reference.state();
    // A decision on how the stage reads its inputs calls off what was launched before.
    let adapted = state.adapted_after(task.job, task.stage);
    let run = state.job(task.job)?.run(task.stage)?;
    let incarnation = state.executor(executor).filter(|e| e.is_present()).map(|e| e.incarnation);
    Some((run.epoch, run.tasks.get(task.partition as usize)?.past.len(), incarnation, adapted))
}

impl Oracle for CopiesElsewhere {
    fn name(&self) -> &'static str {
        "copies-elsewhere"
    }

    fn on_moment(&mut self, moment: &Moment, reference: &Reference) -> Check {
        let host = &moment.host;
        match &moment.what {
            What::Up { .. } | What::Down { .. } | What::Exited { .. } => {
                self.running.remove(host);
            }
            What::Fact(Fact::AttemptStarted { attempt, .. }) => {
                self.running.entry(Arc::clone(host)).or_default().insert(*attempt);
            }
            What::Fact(Fact::AttemptEnded { attempt, .. }) => {
                if let Some(running) = self.running.get_mut(host) {
                    running.remove(attempt);
                }
            }
            What::Fact(Fact::Launched { executor, task, attempt, .. }) => {
                // One that lags behind decides by a state that the reference does not have any more.
                let is_ahead = reference.applied_by(host) == Some(reference.last_index());
                if let Some(seen) = seen(reference, *task, executor).filter(|_| is_ahead) {
                    return self.launched(*task, *attempt, executor, seen);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::ErrorClass;

    use super::{super::testing::*, *};

    fn launched(number: u64, counter: u64) -> Fact {
        let (executor, task, attempt) = (executor(number), task(0, 0), attempt(counter));
        Fact::Launched { term: attempt.term, executor, task, attempt }
    }

    fn started(number: u64, counter: u64) -> Fact {
        let (executor, task, attempt) = (executor(number), task(0, 0), attempt(counter));
        Fact::AttemptStarted { executor, task, attempt, busy: 1, slots: 2 }
    }

    #[test]
    fn a_copy_beside_its_original_is_found() {
        let mut lab = Lab::with_job(CopiesElsewhere::default());
        lab.fact(LEADER, launched(1, 1)).unwrap();
        lab.fact(LEADER, launched(1, 2)).unwrap();
        lab.fact("executor-1", started(1, 2)).unwrap();
        lab.fact(LEADER, launched(2, 3)).unwrap();
        assert!(lab.fact(LEADER, launched(1, 4)).is_err());
        lab.commit(vec![fail(1, task(0, 0), 2, ErrorClass::Retryable)]).unwrap();
        lab.fact(LEADER, launched(1, 4)).unwrap();
    }
}
