//! Jobs that have not ended in the time that they were given.

use polybolos_model::{ErrorClass, JobId, TaskError, settings::RUN_MS};
use thiserror::Error;

use crate::{ClusterState, Command, Job, JobError, extension::SETTINGS_VERSION};

/// Jobs that one entry stops at most; the next tick takes the rest.
const MAX_STOPPED: usize = 1_000;

/// A job has run for longer than its `polybolos.max_run_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "query {job} has not ended within {limit_ms} ms of its submit (polybolos.max_run_ms), and was stopped after {ran_ms} \
     ms with {done} of {total} tasks done: raise the limit or take it off (`SET polybolos.max_run_ms = 0`), let it come \
     before others (`SET polybolos.priority = high`), or ask for less"
)]
pub struct Overrun {
    pub job: JobId,
    pub limit_ms: u64,
    /// From its submit on, waits included.
    pub ran_ms: u64,
    /// Tasks.
    pub done: usize,
    pub total: usize,
}

impl Overrun {
    /// Time is a resource like others: the query may well be right.
    fn into_command(self) -> Command {
        let error = TaskError::new(ErrorClass::Resources, self.to_string());
        Command::FailJob { job: self.job, error: JobError::of_job(error) }
    }
}

/// One command for each job whose time is over, in the order of submission. Called at each tick, also while nobody is
/// blamed for silence: this is about the cluster's time alone. Files that are being published make a job succeed, and a
/// result that is made again belongs to one that has.
pub fn overruns(state: &ClusterState, now_ms: u64) -> Vec<Command> {
    if state.version() < SETTINGS_VERSION {
        return Vec::new();
    }
    let may_be_stopped = |job: &&Job| !job.status.is_ended() && !state.is_publishing(job.id);
    // All active jobs are looked at: the one setting is read, not all of them.
    let over = state.active_jobs().filter_map(|job| overrun(job, now_ms).filter(|_| may_be_stopped(&job)));
    over.take(MAX_STOPPED).map(Overrun::into_command).collect()
}

fn overrun(job: &Job, now_ms: u64) -> Option<Overrun> {
    let limit_ms = u64::from(RUN_MS.count_in(&job.options));
    let ran_ms = now_ms.saturating_sub(job.submitted_at_ms);
    (limit_ms > 0 && ran_ms >= limit_ms).then(|| Overrun {
        job: job.id,
        limit_ms,
        ran_ms,
        done: job.tasks_done(),
        total: job.tasks_total(),
    })
}
