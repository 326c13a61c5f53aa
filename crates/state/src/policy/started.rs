//! Jobs that run as the leader knows, and wait as the log knows.

use crate::{ClusterState, Command, Dispatcher, JobStatus};

/// Jobs that one entry calls running at most; the next tick takes the rest.
const MAX_STARTED: usize = 1_000;

/// The command by which the log learns of them, if there are any. Called at each tick and not at each start, so that small
/// jobs, which are over by then, cost no entry of their own.
pub fn started(state: &ClusterState, dispatcher: &Dispatcher) -> Option<Command> {
    if state.version() < Command::STARTS_VERSION {
        return None;
    }
    let queued = state.active_jobs().filter(|job| job.status == JobStatus::Queued);
    let running = queued.filter(|job| dispatcher.running_of(job.id).next().is_some());
    let jobs: Vec<_> = running.map(|job| job.id).take(MAX_STARTED).collect();
    (!jobs.is_empty()).then_some(Command::JobsStarted { jobs })
}
