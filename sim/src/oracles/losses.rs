//! How many jobs lost an executor: one that had completed a task of theirs, or was told to run one, before they ended.
//!
//! No promise; a campaign says by it how much recovery it saw.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{ExecutorId, JobId, simulation::Fact};
use polybolos_state::{Change, ClusterState};

use super::Commit;
use crate::moment::{Moment, What};

#[derive(Debug, Default)]
pub(super) struct Losses {
    jobs: BTreeSet<JobId>,
    hit: BTreeSet<JobId>,
    /// Of jobs that have not ended: who was told to run something.
    launched: BTreeMap<JobId, BTreeSet<ExecutorId>>,
}

impl Losses {
    pub(super) fn on(&mut self, moment: &Moment) {
        if let What::Fact(Fact::Launched { executor, task, .. }) = &moment.what {
            self.launched.entry(task.job).or_default().insert(executor.clone());
        }
    }

    pub(super) fn on_commit(&mut self, commit: &Commit<'_>) {
        for outcome in commit.applied.outcomes.iter().flatten() {
            let gone = match outcome {
                Change::Submitted { job } => {
                    self.jobs.insert(*job);
                    continue;
                }
                Change::Lost { executor, .. } => executor,
                Change::Registered { replaced: Some((executor, _)), .. } => executor,
                _ => continue,
            };
            let active = commit.before.active_jobs().map(|job| job.id);
            let hit: Vec<JobId> = active.filter(|job| self.has_part_in(gone, *job, commit.before)).collect();
            self.hit.extend(hit);
        }
        self.launched.retain(|job, _| commit.after.job(*job).is_some_and(|job| commit.after.is_active(job)));
    }

    /// Jobs that were submitted, and those of them that lost an executor.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.jobs.len() as u64, self.hit.len() as u64)
    }

    fn has_part_in(&self, executor: &ExecutorId, id: JobId, state: &ClusterState) -> bool {
        let launched = self.launched.get(&id).is_some_and(|executors| executors.contains(executor));
        let mut tasks = state.job(id).into_iter().flat_map(|job| &job.runs).flat_map(|run| run.completed());
        launched || tasks.any(|(_, done)| done.executor == *executor)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Check, Oracle, Reference, testing::*},
        *,
    };

    impl Oracle for Losses {
        fn name(&self) -> &'static str {
            "losses"
        }

        fn on_moment(&mut self, moment: &Moment, _reference: &Reference) -> Check {
            self.on(moment);
            Ok(())
        }

        fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
            Losses::on_commit(self, commit);
            Ok(())
        }
    }

    #[test]
    fn a_loss_counts_for_the_jobs_that_the_executor_had_a_part_in() {
        let mut lab = Lab::with_job(Losses::default());
        lab.commit(vec![lose(1, 1)]).unwrap();
        assert_eq!(lab.oracle.counts(), (1, 0));
        lab.commit(vec![complete(2, task(0, 0), 1)]).unwrap();
        lab.commit(vec![lose(2, 2)]).unwrap();
        assert_eq!(lab.oracle.counts(), (1, 1));
    }
}
