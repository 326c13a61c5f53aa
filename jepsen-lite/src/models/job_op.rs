//! What clients ask of a job, and what they are told.

use serde_json::Value;

use super::{Model, bad_input, bad_output};
use crate::{HistoryError, Operation};

/// What the engine says of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Status {
    /// There is no such job.
    Unknown,
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "unknown" => Self::Unknown,
            "queued" => Self::Queued,
            "running" => Self::Running,
            "succeeded" => Self::Succeeded,
            "failed" => Self::Failed,
            "cancelled" => Self::Cancelled,
            _ => return None,
        })
    }

    pub(crate) fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    pub(crate) fn show(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What an answer tells of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) digest: Option<String>,
    pub(crate) rows: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobOp {
    Submit { auto_cancel: bool, job: Option<String> },
    Status { status: Status, job: Option<String> },
    Cancel { left: Option<Status> },
    Fetch { answer: Answer, job: Option<String> },
    Query { auto_cancel: bool, end: Status, answer: Answer, job: Option<String> },
    Release,
}

const STATUS: &str = "an object with \"status\": queued, running, succeeded, failed, cancelled or unknown";
const END: &str =
    "an object with \"status\" succeeded, failed or cancelled, with \"digest\" if it has a result";

impl JobOp {
    pub(crate) fn parse(op: &Operation, answered: bool) -> Result<Option<Self>, HistoryError> {
        let parsed = match op.f.as_str() {
            "submit" | "query" if !answered => Self::Submit { auto_cancel: auto_cancel(op)?, job: None },
            "submit" => match text(&op.output, "job") {
                job @ Some(_) => Self::Submit { auto_cancel: auto_cancel(op)?, job },
                None => return Err(bad_output(op, "an object with the job's id as \"job\"")),
            },
            "status" | "fetch" if !answered => return Ok(None),
            "status" => match status(&op.output) {
                Ok(Some(status)) => Self::Status { status, job: text(&op.output, "job") },
                Ok(None) | Err(()) => return Err(bad_output(op, STATUS)),
            },
            "cancel" if !answered => Self::Cancel { left: None },
            "cancel" => Self::Cancel { left: status(&op.output).map_err(|()| bad_output(op, STATUS))? },
            "fetch" => match answer(op)? {
                answer @ Answer { digest: Some(_), .. } => {
                    Self::Fetch { answer, job: text(&op.output, "job") }
                }
                Answer { digest: None, .. } => {
                    return Err(bad_output(op, "an object with the result's digest as \"digest\", a string"));
                }
            },
            "query" => match status(&op.output).map(|status| status.unwrap_or(Status::Succeeded)) {
                Ok(end) if end.is_end() && (op.output.is_object() || op.output.is_null()) => Self::Query {
                    auto_cancel: auto_cancel(op)?,
                    end,
                    answer: answer(op)?,
                    job: text(&op.output, "job"),
                },
                Ok(_) | Err(()) => return Err(bad_output(op, END)),
            },
            "release" => Self::Release,
            _ => return Err(Model::Job.unknown_function(op)),
        };
        Ok(Some(parsed))
    }

    /// The job's id, where the answer told it.
    pub(crate) fn job(&self) -> Option<&str> {
        match self {
            Self::Submit { job, .. }
            | Self::Status { job, .. }
            | Self::Fetch { job, .. }
            | Self::Query { job, .. } => job.as_deref(),
            Self::Cancel { .. } | Self::Release => None,
        }
    }

    /// What the answer says of the job. A submit says that there is one.
    pub(crate) fn status(&self) -> Option<Status> {
        match self {
            Self::Submit { .. } => Some(Status::Queued),
            Self::Status { status, .. } => Some(*status),
            Self::Cancel { left } => *left,
            Self::Fetch { .. } => Some(Status::Succeeded),
            Self::Query { end, .. } => Some(*end),
            Self::Release => None,
        }
    }

    pub(crate) fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Fetch { answer, .. } | Self::Query { answer, .. } => Some(answer),
            Self::Submit { .. } | Self::Status { .. } | Self::Cancel { .. } | Self::Release => None,
        }
    }
}

/// The digest that the oracle gave for the result of this job.
pub(crate) fn expected(op: &Operation) -> Option<String> {
    text(&op.input, "expect")
}

fn auto_cancel(op: &Operation) -> Result<bool, HistoryError> {
    match op.input.get("auto_cancel") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(bad_input(op, "an object with \"auto_cancel\" true or false")),
    }
}

/// None if there is no status.
fn status(value: &Value) -> Result<Option<Status>, ()> {
    match value.get("status") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Status::parse(text).map(Some).ok_or(()),
        Some(_) => Err(()),
    }
}

fn answer(op: &Operation) -> Result<Answer, HistoryError> {
    let rows = match op.output.get("rows") {
        None | Some(Value::Null) => None,
        Some(rows) => {
            Some(rows.as_u64().ok_or_else(|| bad_output(op, "an object with \"rows\", a number of rows"))?)
        }
    };
    Ok(Answer { digest: text(&op.output, "digest"), rows })
}

/// A text, or a number as text.
fn text(value: &Value, field: &str) -> Option<String> {
    match value.get(field)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
