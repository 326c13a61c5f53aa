//! Files that attempts of this executor have staged and that nobody may want.
//!
//! The scheduler sweeps what a job leaves behind. But an attempt of an executor that counts as lost may write after the
//! sweep; then it is this executor that removes the files, as soon as it hears that the job has ended.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use polybolos_model::{AttemptId, JobId};
use polybolos_planner::StagedFiles;

/// Attempts whose files are remembered. With one more the oldest is left to the sweep.
const MAX_ATTEMPTS: usize = 100_000;

/// By attempt, from its start to the end of its job.
#[derive(Debug, Default)]
pub(crate) struct Staged(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    cluster: Option<String>,
    files: BTreeMap<AttemptId, (JobId, StagedFiles)>,
}

impl Staged {
    /// What was staged for another cluster is not this one's to remove.
    pub(crate) fn set_cluster(&self, cluster: &str) {
        let mut state = self.lock();
        if state.cluster.as_deref() != Some(cluster) {
            *state = State { cluster: Some(cluster.to_owned()), ..State::default() };
        }
    }

    pub(crate) fn begin(&self, attempt: AttemptId, job: JobId, files: StagedFiles) {
        let mut state = self.lock();
        state.files.insert(attempt, (job, files));
        if state.files.len() > MAX_ATTEMPTS {
            state.files.pop_first();
        }
    }

    /// Nobody wants what the attempt wrote.
    pub(crate) fn remove(&self, attempt: AttemptId) {
        let removed = self.lock().files.remove(&attempt);
        remove_all(removed.map(|(_, files)| files).into_iter().collect());
    }

    /// Nobody wants what is still staged for the job.
    pub(crate) fn remove_job(&self, of: JobId) {
        let removed =
            self.lock().files.extract_if(.., |_, (job, _)| *job == of).map(|(_, (_, files))| files).collect();
        remove_all(removed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In the background, one after the other.
fn remove_all(all: Vec<StagedFiles>) {
    if all.is_empty() {
        return;
    }
    tokio::spawn(async move {
        for files in all {
            files.remove().await;
        }
    });
}
