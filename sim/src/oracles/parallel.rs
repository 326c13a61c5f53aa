//! No job has more attempts running at once than it allows, as far as the leader that launched them can know.
//! From: docs/operations.md, "`polybolos.max_parallel_tasks`".
//!
//! What a leader can't know runs on for a while beside what it launches: attempts on executors that are cut off, of former
//! leaders, and those that it has called off. None of these is counted here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use polybolos_model::{AttemptId, ExecutorId, Incarnation, JobId, TaskId, simulation::Fact};
use polybolos_state::ClusterState;

use super::{Check, Oracle, Reference};
use crate::moment::{Moment, What};

/// An attempt, and what the log knew when it was launched. While that is the same, nobody has called it off.
#[derive(Debug)]
struct Launched {
    task: TaskId,
    executor: ExecutorId,
    incarnation: Option<Incarnation>,
    epoch: u32,
}

#[derive(Debug, Default)]
pub(super) struct Parallel {
    /// Of the last term, since an executor has registered: its leader may have begun anew, and forgotten what ran.
    launched: BTreeMap<AttemptId, Launched>,
    /// Started and not ended, by host.
    running: BTreeMap<Arc<str>, BTreeSet<AttemptId>>,
}

impl Parallel {
    fn count(&self, state: &ClusterState, job: JobId) -> usize {
        let running = self.running.values().flatten();
        let known = running.filter_map(|attempt| self.launched.get(attempt));
        known.filter(|launched| launched.task.job == job && is_wanted(state, launched)).count()
    }

    fn check(&self, state: &ClusterState, job: JobId) -> Check {
        let most = state.job(job).map_or(0, |job| state.settings(job).max_parallel_tasks);
        let count = self.count(state, job);
        if most > 0 && count > most as usize {
            return Err(format!("{count} attempts of job {job} run at once, which allows {most}"));
        }
        Ok(())
    }
}

fn incarnation(state: &ClusterState, executor: &ExecutorId) -> Option<Incarnation> {
    state.executor(executor).filter(|known| known.takes_tasks()).map(|known| known.incarnation)
}

fn epoch(state: &ClusterState, task: TaskId) -> u32 {
    state.job(task.job).and_then(|job| job.run(task.stage)).map_or(0, |run| run.epoch)
}

fn is_wanted(state: &ClusterState, launched: &Launched) -> bool {
    let Launched { task, executor, .. } = launched;
    let run = state.running_job(task.job).and_then(|job| job.run(task.stage));
    let known = incarnation(state, executor);
    run.is_some_and(|run| run.epoch == launched.epoch && run.open.contains(&task.partition))
        && known.is_some()
        && known == launched.incarnation
}

impl Oracle for Parallel {
    fn name(&self) -> &'static str {
        "parallel-tasks"
    }

    fn on_moment(&mut self, moment: &Moment, reference: &Reference) -> Check {
        let (host, state) = (&moment.host, reference.state());
        match &moment.what {
            What::Up { .. } | What::Down { .. } | What::Exited { .. } => {
                self.running.remove(host);
            }
            What::Fact(Fact::Registered { .. }) => self.launched.clear(),
            What::Fact(Fact::Launched { executor, task, attempt, .. }) => {
                self.launched.retain(|other, _| other.term == attempt.term);
                let launched = Launched {
                    task: *task,
                    executor: executor.clone(),
                    incarnation: incarnation(state, executor),
                    epoch: epoch(state, *task),
                };
                self.launched.insert(*attempt, launched);
            }
            What::Fact(Fact::AttemptStarted { task, attempt, .. }) => {
                self.running.entry(Arc::clone(host)).or_default().insert(*attempt);
                if self.launched.contains_key(attempt) {
                    return self.check(state, task.job);
                }
            }
            What::Fact(Fact::AttemptEnded { attempt, .. }) => {
                if let Some(running) = self.running.get_mut(host) {
                    running.remove(attempt);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::{ReplicaId, simulation::AttemptEnd};
    use polybolos_state::Command;

    use super::{super::testing::*, *};

    /// [`JOB`] with at most one at once.
    fn lab() -> Lab<Parallel> {
        let mut lab = Lab::new(Parallel::default());
        let replica = Command::RegisterReplica { replica: ReplicaId(1), folder: 1, version: 3 };
        lab.commit(vec![replica, Command::RaiseVersion { to: 3 }]).unwrap();
        let mut limited = submit(JOB, None);
        if let Command::SubmitJob { options, .. } = &mut limited {
            options.insert("polybolos.max_parallel_tasks".to_owned(), "1".to_owned());
        }
        lab.commit(vec![register(1, 1), register(2, 2), limited]).unwrap();
        lab
    }

    /// Of stage 0, launched and started.
    fn start(lab: &mut Lab<Parallel>, number: u64, partition: u32, counter: u64) -> Check {
        let (task, attempt) = (task(0, partition), attempt(counter));
        let launched = Fact::Launched { term: attempt.term, executor: executor(number), task, attempt };
        lab.fact(LEADER, launched).unwrap();
        let executor = executor(number);
        let host = executor.to_string();
        lab.fact(&host, Fact::AttemptStarted { executor, task, attempt, busy: 1, slots: 2 })
    }

    #[test]
    fn one_more_than_a_job_allows_is_found() {
        let mut lab = lab();
        start(&mut lab, 1, 0, 1).unwrap();
        assert!(start(&mut lab, 2, 1, 2).is_err());
    }

    #[test]
    fn what_has_ended_or_is_of_no_use_does_not_count() {
        let mut lab = lab();
        start(&mut lab, 1, 0, 1).unwrap();
        let (task, attempt) = (task(0, 0), attempt(1));
        let ended = Fact::AttemptEnded { executor: executor(1), task, attempt, end: AttemptEnd::Completed };
        lab.fact("executor-1", ended).unwrap();
        start(&mut lab, 1, 1, 2).unwrap();
        lab.commit(vec![lose(1, 1)]).unwrap();
        start(&mut lab, 2, 0, 3).unwrap();
        assert!(start(&mut lab, 2, 1, 4).is_err());
    }
}
