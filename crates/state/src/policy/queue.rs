//! How many jobs may wait at once.
//!
//! Asked by the leader before a submit gets into an entry: what is refused here is nowhere in the log, and costs nobody
//! anything. A job waits while no attempt of it runs and the log does not know that one ever has: one that lost its
//! slots in the middle is not turned away by those that came later, nor counted with them.
//!
//! Deliberately absent: the bound of the state itself, [`MAX_ACTIVE_JOBS`](polybolos_model::limits::MAX_ACTIVE_JOBS), which
//! no leader can exceed.

use polybolos_model::{IdempotencyKey, JobId};
use thiserror::Error;

use crate::{ClusterState, Command, Dispatcher, Job, JobStatus, apply::Submission};

/// As many jobs wait as may. Nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "{waiting} queries wait to be run, and no more than {most} may (`polybolos scheduler --max-queued-jobs`): the query \
     was not accepted, and nothing was done; submit it again later"
)]
pub struct QueueFull {
    pub waiting: usize,
    pub most: u32,
}

/// A submit on its way into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coming {
    job: JobId,
    key: Option<IdempotencyKey>,
}

impl Coming {
    /// `None` of commands that submit nothing.
    pub fn of(command: &Command) -> Option<Self> {
        Submission::of(command).map(|new| Self { job: new.job, key: new.key.cloned() })
    }
}

/// Why the command is not taken up, if it submits a job and the queue has no place for one: `most` may wait (0: any
/// number), beside those that the free slots are for. Whoever repeats a submit is answered all the same, also while
/// the first one is still among `coming`.
pub fn queue_full<'a>(
    state: &ClusterState,
    dispatcher: &Dispatcher,
    command: &Command,
    coming: impl Iterator<Item = &'a Coming> + Clone,
    most: u32,
) -> Option<QueueFull> {
    let new = Submission::of(command)?;
    let is_repeated = |first: &Coming| new.key.is_some() && first.key.as_ref() == new.key;
    if state.known_submit(&new).is_some() || coming.clone().any(is_repeated) {
        return None;
    }
    no_place(state, dispatcher, coming, most)
}

/// The same for any submit that is not a repeated one.
pub fn no_place<'a>(
    state: &ClusterState,
    dispatcher: &Dispatcher,
    coming: impl Iterator<Item = &'a Coming> + Clone,
    most: u32,
) -> Option<QueueFull> {
    let all = state.active_job_count() + coming.clone().count();
    if most == 0 || all < most as usize {
        return None;
    }
    let places = most as usize + dispatcher.free_slots(state);
    let runs = |job: JobId| dispatcher.running_of(job).next().is_some();
    let coming = coming.filter(|new| !runs(new.job)).count();
    let waits = |job: &&Job| job.status == JobStatus::Queued && !runs(job.id);
    // The newest first: those before them run. No more are counted than it takes.
    let waiting = coming + state.active_jobs().rev().filter(waits).take(places).count();
    (waiting >= places).then_some(QueueFull { waiting, most })
}
