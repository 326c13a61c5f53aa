//! Where tasks count as completed only once their outputs are in the durable store, no loss of an executor makes a
//! completed task run again.
//! From: issue 5, "with durable shuffle on nothing runs again".

use std::collections::BTreeSet;

use polybolos_model::TaskId;
use polybolos_state::{Change, Command};

use super::{Check, Commit, Oracle};
use crate::schedule::{DurableShuffle, Schedule};

#[derive(Debug)]
pub(super) struct DurableStays {
    judges: bool,
    /// Completed while an older version was in use, which does not tell what is durable.
    untold: BTreeSet<TaskId>,
}

impl DurableStays {
    pub(super) fn new(schedule: &Schedule) -> Self {
        let judges = schedule.cluster.durable_shuffle == DurableShuffle::Before;
        Self { judges, untold: BTreeSet::new() }
    }
}

impl Oracle for DurableStays {
    fn name(&self) -> &'static str {
        "durable-stays"
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        if !self.judges {
            return Ok(());
        }
        for (command, outcome) in commit.entry.commands.iter().zip(&commit.applied.outcomes) {
            if let (Command::CompleteTask { task, .. }, Ok(Change::TaskCompleted { .. })) = (command, outcome)
            {
                self.untold.insert(*task);
            }
        }
        for outcome in commit.applied.outcomes.iter().flatten() {
            let (executor, effects) = match outcome {
                Change::Lost { executor, effects, .. } | Change::Left { executor, effects, .. } => {
                    (executor, effects)
                }
                Change::Registered { replaced: Some((executor, _)), effects, .. } => (executor, effects),
                _ => continue,
            };
            // With one that is not durable its readers may go back too.
            if effects.rerun.iter().any(|task| self.untold.remove(task)) {
                continue;
            }
            if let Some(task) = effects.rerun.first() {
                return Err(format!("task {task} runs again for the loss of {executor}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::ReplicaId;

    use super::{super::testing::*, *};

    #[test]
    fn a_completed_task_that_runs_again_is_found() {
        let mut lab = Lab::new(DurableStays { judges: true, untold: BTreeSet::new() });
        let replica = Command::RegisterReplica { replica: ReplicaId(1), folder: 1, version: 3 };
        lab.commit(vec![register(1, 1), register(2, 2), submit(JOB, None)]).unwrap();
        lab.commit(vec![complete(1, task(0, 0), 1)]).unwrap();
        lab.commit(vec![lose(1, 1)]).unwrap();
        lab.commit(vec![replica, Command::RaiseVersion { to: 3 }]).unwrap();
        let Command::CompleteTask { executor, incarnation, task, attempt, outputs, metrics } =
            complete(2, task(0, 0), 2)
        else {
            unreachable!()
        };
        let (epoch, durable) = (0, false);
        let done = Command::CompleteTaskIn {
            executor,
            incarnation,
            task,
            attempt,
            epoch,
            durable,
            outputs,
            metrics,
        };
        lab.commit(vec![done]).unwrap();
        assert!(lab.commit(vec![lose(2, 2)]).is_err());
    }
}
