//! At most one completion of a partition is visible at any time: after the first that commits, another one needs the loss
//! of its output in between.
//! From: the design, "the first completion that commits for `(stage, partition)` wins".

use std::collections::BTreeMap;

use polybolos_model::{AttemptId, TaskId};
use polybolos_state::{Change, Command};

use super::{Check, Commit, Oracle, effects_of};

#[derive(Debug, Default)]
pub(super) struct OneVisibleCompletion {
    winners: BTreeMap<TaskId, AttemptId>,
}

impl OneVisibleCompletion {
    fn completed(&mut self, index: u64, task: TaskId, attempt: AttemptId) -> Check {
        match self.winners.insert(task, attempt) {
            None => Ok(()),
            Some(first) => Err(format!(
                "index {index} completes task {task} by attempt {attempt}, which {first} had completed; nothing of it was lost"
            )),
        }
    }
}

impl Oracle for OneVisibleCompletion {
    fn name(&self) -> &'static str {
        "one-visible-completion"
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        for (command, outcome) in commit.entry.commands.iter().zip(&commit.applied.outcomes) {
            let Ok(change) = outcome else { continue };
            if let (
                Command::CompleteTask { task, attempt, .. } | Command::CompleteTaskIn { task, attempt, .. },
                Change::TaskCompleted { .. },
            ) = (command, change)
            {
                self.completed(commit.index, *task, *attempt)?;
            }
            for task in effects_of(change).into_iter().flat_map(|effects| &effects.rerun) {
                if self.winners.remove(task).is_none() {
                    return Err(format!(
                        "index {} runs task {task} again, which was not complete",
                        commit.index
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn a_second_completion_is_found_unless_the_first_was_lost() {
        let mut lab = Lab::with_job(OneVisibleCompletion::default());
        lab.commit(vec![complete(1, task(0, 0), 1), complete(2, task(0, 1), 2)]).unwrap();
        lab.commit(vec![complete(2, task(0, 0), 3)]).unwrap();
        lab.commit(vec![lose(1, 1)]).unwrap();
        lab.commit(vec![complete(2, task(0, 0), 4)]).unwrap();
        assert!(lab.oracle.completed(9, task(0, 0), attempt(5)).is_err());
        assert!(lab.oracle.completed(9, task(0, 1), attempt(6)).is_err());
    }
}
