//! A job is given up for the deaths of executors only after as many as it allows died while they ran one of its tasks, and
//! then at once.
//! From: docs/failure-contract.md, "a task whose executors die".

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{AttemptId, ExecutorId, Incarnation, JobId, TaskId, settings::JobSettings};
use polybolos_state::{Change, ClusterState, Command, Job};

use super::{Check, Commit, Oracle};

/// Counted here and not read from the state, which could have miscounted.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    /// The lives that ended under each task while it was not done.
    died: BTreeMap<TaskId, BTreeSet<(ExecutorId, Incarnation)>>,
}

impl Oracle for Deaths {
    fn name(&self) -> &'static str {
        "deaths"
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        // What an entry says of a task beside its deaths may have ended the attempt before.
        let settled: BTreeSet<AttemptId> = commit.entry.commands.iter().filter_map(ends).collect();
        for (command, outcome) in commit.entry.commands.iter().zip(&commit.applied.outcomes) {
            match (command, outcome) {
                (Command::RegisterExecutor { executor, process_id, .. }, Ok(_)) => {
                    self.came_back(commit.before, executor, *process_id);
                }
                (Command::TasksDied { executor, incarnation, tasks }, Ok(change)) => {
                    let life = (executor.clone(), *incarnation);
                    for (task, attempt) in tasks {
                        if ran(commit.before, *task, *attempt) && !settled.contains(attempt) {
                            self.died.entry(*task).or_default().insert(life.clone());
                        }
                    }
                    if let Change::DeathsCounted { effects, .. } = change {
                        let at = format!("index {}", commit.index);
                        effects.failed.iter().try_for_each(|job| self.may_end(commit.before, *job, &at))?;
                    }
                }
                _ => {}
            }
        }
        commit.after.active_jobs().try_for_each(|job| self.may_go_on(job))
    }
}

/// The attempt that the command is the end of.
fn ends(command: &Command) -> Option<AttemptId> {
    match command {
        Command::CompleteTask { attempt, .. }
        | Command::CompleteTaskIn { attempt, .. }
        | Command::FailTask { attempt, .. } => Some(*attempt),
        _ => None,
    }
}

/// Whether the attempt may have run: its job is active, its task not done, and nobody has told of its end.
fn ran(state: &ClusterState, task: TaskId, attempt: AttemptId) -> bool {
    let job = state.job(task.job).filter(|job| !job.status.is_ended());
    let run = job.and_then(|job| job.task(task.stage, task.partition));
    run.is_some_and(|run| run.completed.is_none() && !run.is_past(attempt))
}

impl Deaths {
    /// As the same process: it was only not heard of.
    fn came_back(&mut self, before: &ClusterState, executor: &ExecutorId, process_id: u64) {
        let Some(known) = before.executor(executor).filter(|known| known.process_id == process_id) else {
            return;
        };
        for died in self.died.values_mut() {
            died.retain(|(id, life)| id != executor || *life != known.incarnation);
        }
    }

    fn worst(&self, job: JobId) -> Option<(TaskId, usize)> {
        let of_job = self.died.iter().filter(|(task, _)| task.job == job);
        of_job.map(|(task, died)| (*task, died.len())).max_by_key(|(_, died)| *died)
    }

    fn may_end(&self, before: &ClusterState, job: JobId, at: &str) -> Check {
        let most = before.job(job).map_or(0, |job| before.settings(job).max_task_deaths);
        let worst = self.worst(job).map_or(0, |(_, died)| died);
        if worst >= most as usize {
            return Ok(());
        }
        Err(format!(
            "{at}: job {job} was given up after {worst} executors died under a task of it; {most} may"
        ))
    }

    fn may_go_on(&self, job: &Job) -> Check {
        let most = JobSettings::read(&job.options).max_task_deaths as usize;
        match self.worst(job.id) {
            Some((task, died)) if died >= most => {
                Err(format!("job {} goes on after {died} executors died under {task}", job.id))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::ReplicaId;
    use polybolos_state::{Applied, Effects, Entry};

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
    }

    #[test]
    fn a_job_that_goes_on_too_long_is_found() {
        let state = Lab::with_job(Deaths::default()).state;
        let mut oracle = Deaths::default();
        commit(&mut oracle, &state, died(1), vec![]).unwrap();
        commit(&mut oracle, &state, died(2), vec![]).unwrap();
        assert!(commit(&mut oracle, &state, died(3), vec![]).is_err(), "the state counted nothing");
    }

    #[test]
    fn true_histories_pass() {
        let mut lab = Lab::with_job(Deaths::default());
        let replica = Command::RegisterReplica { replica: ReplicaId(1), folder: 1, version: 3 };
        lab.commit(vec![replica, Command::RaiseVersion { to: 3 }]).unwrap();
        for life in 0..3 {
            let incarnation = lab.state.executor(&executor(1)).unwrap().incarnation;
            let tasks = vec![(task(0, 0), attempt(100 + life))];
            lab.commit(vec![Command::TasksDied { executor: executor(1), incarnation, tasks }]).unwrap();
            lab.commit(vec![register(1, 100 + life)]).unwrap();
        }
        assert!(lab.state.active_jobs().next().is_none(), "it was given up");
    }
}
