//! What can go wrong, in kinds that a program can act on.

use std::{fmt, time::Duration};

use polybolos_model::{AttemptId, ErrorClass, JobId, StageId};
use polybolos_proto::v1;

/// Why a call or a query did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// Nothing was done: no scheduler answered as the leader.
    #[error("no scheduler could be reached at {}: {last} (check the addresses and that the schedulers run)", addresses.join(", "))]
    Unreachable { addresses: Vec<String>, last: String },
    /// The statement is wrong or can't be done; nothing was executed.
    #[error("{message}")]
    Statement { message: String },
    /// The first real error of the job.
    #[error("query {job} failed: {error}")]
    JobFailed { job: JobId, error: Box<JobFailure> },
    #[error("query {job} was cancelled: {reason}")]
    Cancelled { job: JobId, reason: String },
    /// The job has ended in a way that doesn't allow what was asked.
    #[error("query {job} has ended: {message}")]
    Ended { job: JobId, message: String },
    #[error("query {job} is not known: it never existed or was forgotten after its end")]
    NotFound { job: JobId },
    /// Refused before or by the scheduler; a smaller statement, plan or answer is needed.
    #[error("{message}")]
    TooLarge { message: String },
    /// The cluster takes no more work now; try again later.
    #[error("the cluster is busy: {message}")]
    Busy { message: String },
    /// The outcome is unknown: the call may have been done. Repeating it with the same key is safe.
    #[error("{what} got no answer within {:.1} s and may have been done (last: {last})", waited.as_secs_f32())]
    Deadline { what: &'static str, waited: Duration, last: String },
    /// Too few scheduler replicas run, or reach each other, to decide anything. `states` is what one of them said.
    #[error("{what} found no quorum for {:.1} s, and {}: {states}",
        waited.as_secs_f32(), if *may_be_done { "may have been done" } else { "nothing was done" })]
    NoQuorum { what: &'static str, waited: Duration, states: String, may_be_done: bool },
    /// The query was accepted, and nobody can be asked how it goes on: it runs, or has ended.
    #[error(
        "query {job} was accepted, and whether it has ended is unknown (`jobs show {job}` tells later): {source}"
    )]
    Unfollowed { job: JobId, source: Box<ClientError> },
    /// The cluster can't do it as it is now; the message says why, and nothing was changed.
    #[error("{message}")]
    Refused { message: String },
    /// Rows are missing from here on; those handed out before are right.
    #[error(
        "partition {partition} of the result of query {job} could not be read from {address} after {batches} batches: {last}"
    )]
    Fetch { job: JobId, partition: u32, address: String, batches: u64, last: String },
    /// Rows that were handed out are void.
    #[error(
        "query {job} can't be finished: an executor was lost, and rows that were handed out already would come out \
         differently now: discard them and run the query again"
    )]
    RolledBack { job: JobId },
    /// An answer breaks the protocol: another version, or a fault of this engine.
    #[error("unexpected answer: {what}")]
    Protocol { what: String },
}

/// The first real error of a job and where it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFailure {
    pub class: ErrorClass,
    pub message: String,
    /// Absent, like the next three, when no task is to blame.
    pub stage: Option<StageId>,
    /// The task's partition of its stage.
    pub task: Option<u32>,
    pub attempt: Option<AttemptId>,
    pub executor: Option<String>,
}

impl From<v1::JobError> for JobFailure {
    fn from(error: v1::JobError) -> Self {
        Self {
            // A class of a later version is nothing that this one can act on.
            class: polybolos_proto::error_class(error.class).unwrap_or(ErrorClass::Internal),
            message: error.message,
            stage: error.stage_id.map(StageId),
            task: error.partition,
            attempt: error.attempt.map(Into::into),
            executor: Some(error.executor_id).filter(|id| !id.is_empty()),
        }
    }
}

impl fmt::Display for JobFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut place = vec![self.class.to_string()];
        place.extend(self.stage.map(|id| format!("stage {id}")));
        place.extend(self.task.map(|id| format!("task {id}")));
        place.extend(self.attempt.map(|id| format!("attempt {id}")));
        place.extend(self.executor.as_ref().map(|id| format!("executor {id}")));
        write!(f, " ({})", place.join(", "))
    }
}
