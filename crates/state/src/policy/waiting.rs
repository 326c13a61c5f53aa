//! Jobs that wait while no executor takes tasks, and how long that may last.

use polybolos_model::{ErrorClass, JobId, TaskError};

use super::{Event, Patience};
use crate::{ClusterState, Command, Executor, Job, JobError};

/// Jobs that one entry gives up at most; the next tick takes the rest.
const MAX_GIVEN_UP: usize = 1_000;

/// Whether any executor takes tasks.
pub fn takes_tasks(state: &ClusterState) -> bool {
    state.executors().any(Executor::takes_tasks)
}

/// Since when the job has waited, if no executor has taken tasks since `no_executor_since_ms`.
pub fn waits_since_ms(state: &ClusterState, job: &Job, no_executor_since_ms: u64) -> u64 {
    no_executor_since_ms.max(job.submitted_at_ms).max(state.reopened_at_ms(job.id))
}

/// One command for each job that has waited for too long, in the order of submission.
pub(super) fn given_up(
    state: &ClusterState,
    events: &[Event],
    somebody_came: bool,
    patience: Patience,
    now_ms: u64,
) -> Vec<Command> {
    let limit_ms = patience.no_executor_wait_ms;
    let told = events.iter().rev().find_map(|event| match event {
        Event::NoExecutor { since_ms, running } => Some((*since_ms, running)),
        _ => None,
    });
    let Some((since_ms, running)) = told.filter(|_| limit_ms > 0 && !somebody_came && !takes_tasks(state))
    else {
        return Vec::new();
    };
    let waited_ms = |job: &Job| now_ms.saturating_sub(waits_since_ms(state, job, since_ms));
    let waits = |job: &&Job| !running.contains(&job.id) && !state.is_publishing(job.id);
    let due = state.active_jobs().filter(|job| waits(job) && waited_ms(job) >= limit_ms);
    due.take(MAX_GIVEN_UP).map(|job| give_up(job.id, waited_ms(job))).collect()
}

fn give_up(job: JobId, waited_ms: u64) -> Command {
    let message = format!(
        "query {job} waited {} s for an executor, and none takes tasks: start one (`polybolos executor`) and run the \
         query again; `polybolos scheduler --no-executor-wait` says how long queries wait",
        waited_ms / 1_000
    );
    Command::FailJob { job, error: JobError::of_job(TaskError::new(ErrorClass::Retryable, message)) }
}
