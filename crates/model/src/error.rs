//! What went wrong with a task, in words a user can act on and in a class the scheduler can act on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{AttemptId, ExecutorId, StageId, limits::MAX_ERROR_BYTES};

/// Decides what happens after a failure. It survives the wire and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ErrorClass {
    /// The query itself is wrong for its data (a bad cast, a division by zero): it fails at once.
    User,
    /// Something outside the query failed (IO, a fetch, a connection): the task is tried again.
    Retryable,
    /// Memory, disk or another bounded resource ran out: tried again like `Retryable`.
    Resources,
    /// A fault of this engine: it fails at once and should be reported.
    Internal,
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user error",
            Self::Retryable => "retryable error",
            Self::Resources => "out of resources",
            Self::Internal => "internal error",
        })
    }
}

/// The shuffle output that a reader could not get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchFailure {
    pub executor: ExecutorId,
    pub stage: StageId,
    pub map_partition: u32,
    pub attempt: AttemptId,
}

/// Why one attempt of a task failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    pub class: ErrorClass,
    /// At most [`MAX_ERROR_BYTES`] long.
    pub message: String,
    /// Set when the cause is an upstream output that could not be read.
    pub fetch: Option<FetchFailure>,
}

impl TaskError {
    /// Cuts `message` to [`MAX_ERROR_BYTES`].
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_ERROR_BYTES {
            let end = (0..=MAX_ERROR_BYTES).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
            message.truncate(end);
            message.push_str(" … (cut)");
        }
        Self { class, message, fetch: None }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)?;
        if let Some(lost) = &self.fetch {
            write!(
                f,
                " (output of stage {} partition {} attempt {} on executor {})",
                lost.stage, lost.map_partition, lost.attempt, lost.executor
            )?;
        }
        Ok(())
    }
}
