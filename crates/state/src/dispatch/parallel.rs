//! How many tasks of one job run at once: never more than its `polybolos.max_parallel_tasks`.
//!
//! It is looked up when an attempt is about to be launched or adopted, and nothing is kept of it: a job that waits costs
//! nothing more by it, and one that runs a look into its options for each turn that it has.

use std::collections::BTreeMap;

use polybolos_model::{JobId, settings::PARALLEL_TASKS};

use super::Dispatcher;
use crate::{ClusterState, Job, extension::SETTINGS_VERSION};

impl Dispatcher {
    /// Whether one more attempt of the job may run beside those that do.
    pub(super) fn may_run_more(&self, state: &ClusterState, job: &Job) -> bool {
        max_parallel_tasks(state, job).is_none_or(|most| self.busy_with(job.id) < most)
            || polybolos_model::mutant!("parallel-limit-ignored")
    }

    /// Attempts of the job that run. Those that have told that they completed do not: the next one need not wait until
    /// that is committed.
    pub fn busy_with(&self, job: JobId) -> u32 {
        let count = |of: &BTreeMap<JobId, u32>| of.get(&job).copied().unwrap_or(0);
        count(&self.by_job).saturating_sub(count(&self.reported_by_job))
    }
}

/// How many attempts of the job may run at once, if there is a limit. The one setting is read, not all of them.
pub(super) fn max_parallel_tasks(state: &ClusterState, job: &Job) -> Option<u32> {
    let most = if state.version() < SETTINGS_VERSION { 0 } else { PARALLEL_TASKS.count_in(&job.options) };
    (most > 0).then_some(most)
}
