//! A job is given up for the deaths of executors only after as many as it allows died while they ran one of its tasks, and
//! then at once.
//! From: docs/failure-contract.md, "a task whose executors die".

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{ExecutorId, Incarnation, TaskId, settings::JobSettings};
use polybolos_state::{Change, Command};

use super::{Check, Commit, Oracle};

/// Counted here and not read from the state, which could have miscounted.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    /// At least those that count: of a task that was done by then it does not.
    told: BTreeMap<TaskId, BTreeSet<(ExecutorId, Incarnation)>>,
}

impl Oracle for Deaths {
    fn name(&self) -> &'static str {
        "deaths"
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        for (command, outcome) in commit.entry.commands.iter().zip(&commit.applied.outcomes) {
            let (Command::TasksDied { executor, incarnation, tasks }, Ok(change)) = (command, outcome) else {
                continue;
            };
            for (task, _) in tasks {
                self.told.entry(*task).or_default().insert((executor.clone(), *incarnation));
            }
            let Change::DeathsCounted { effects, .. } = change else { continue };
            for job in &effects.failed {
                let most =
                    commit.before.job(*job).map_or(0, |job| JobSettings::read(&job.options).max_task_deaths);
                let of_job = tasks.iter().filter(|(task, _)| task.job == *job);
                let worst =
                    of_job.filter_map(|(task, _)| Some(self.told.get(task)?.len())).max().unwrap_or(0);
                if worst < most as usize {
                    return Err(format!(
                        "index {}: job {job} was given up after {worst} executors died under a task of it; {most} may",
                        commit.index
                    ));
                }
            }
        }
        let active = commit.after.active_jobs();
        for job in active {
            let most = JobSettings::read(&job.options).max_task_deaths as usize;
            let counted = self.told.iter().filter(|(task, _)| task.job == job.id);
            for (task, _) in counted.filter(|(_, told)| told.len() >= most) {
                let counted = commit.after.deaths(*task).len();
                if counted >= most {
                    return Err(format!(
                        "job {} goes on after {counted} executors died under {task}",
                        job.id
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::JobId;
    use polybolos_state::{Applied, ClusterState, Effects, Entry};

    use super::{super::testing::*, *};

    fn died(incarnation: u64) -> Command {
        let tasks = vec![(task(0, 0), attempt(incarnation))];
        Command::TasksDied { executor: executor(1), incarnation: Incarnation(incarnation), tasks }
    }

    fn commit(oracle: &mut Deaths, state: &ClusterState, command: Command, failed: Vec<JobId>) -> Check {
        let entry = Entry::new(3, polybolos_model::Term(1), 0, vec![command]);
        let effects = Effects { failed, ..Effects::default() };
        let applied = Applied { outcomes: vec![Ok(Change::DeathsCounted { tasks: 1, effects })] };
        oracle.on_commit(&Commit {
            at_us: 0,
            host: host(LEADER),
            index: 9,
            term: entry.term,
            entry: &entry,
            applied: &applied,
            before: state,
            after: state,
        })
    }

    #[test]
    fn a_job_that_is_given_up_too_early_is_found() {
        let state = Lab::with_job(Deaths::default()).state;
        let mut oracle = Deaths::default();
        commit(&mut oracle, &state, died(1), vec![]).unwrap();
        commit(&mut oracle, &state, died(1), vec![]).unwrap();
        assert!(commit(&mut oracle, &state, died(2), vec![JOB]).is_err());
        commit(&mut oracle, &state, died(3), vec![JOB]).unwrap();
    }
}
