//! What can go wrong, one type per operation, and how a client is told.

use datafusion::error::DataFusionError;
use polybolos_consensus::ReplicasError;
use polybolos_model::{
    JobId, StageGraphError,
    limits::{MAX_ERROR_BYTES, MAX_INLINE_RESULT_BYTES, MAX_SQL_BYTES},
};
use polybolos_planner::PlanError;
use polybolos_proto::{
    status_with,
    v1::{ErrorDetail, error_detail::Reason},
};
use polybolos_state::policy::QueueFull;
use tonic::{Code, Status};

use crate::front::StoreError;

/// A replica can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("can't listen on {address}: {source}; is the port in use by another process?")]
    Listen { address: String, source: std::io::Error },
    #[error("can't open the log: {0}")]
    Log(#[from] polybolos_consensus::OpenError),
    #[error("can't set up planning: {0}")]
    Planning(String),
    #[error(transparent)]
    Times(#[from] polybolos_state::policy::PatienceError),
}

/// A statement is not planned. Says what is wrong with which part of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanningError {
    #[error(
        "the SQL text is {bytes} bytes long; at most {MAX_SQL_BYTES} are allowed (load long lists of values from a file)"
    )]
    SqlTooLong { bytes: usize },
    #[error(
        "the answer is {bytes} bytes; at most {MAX_INLINE_RESULT_BYTES} are returned by this statement (select fewer rows)"
    )]
    AnswerTooLarge { bytes: usize },
    #[error("the statement is too deep: at most {most} {what} are allowed (lists in brackets are not deep)")]
    TooDeep { what: &'static str, most: usize },
    #[error("the statement is empty")]
    Empty,
    #[error("{count} statements were given at once; submit them one by one")]
    Several { count: usize },
    #[error("{what} is not supported")]
    Unsupported { what: String },
    #[error("{statement} needs a session: send a session id with each statement")]
    NoSession { statement: &'static str },
    #[error("{option} is set for each executor when it starts, not by SET")]
    RuntimeOption { option: String },
    #[error("option '{option}' can't be set to '{value}': {reason}")]
    Option { option: String, value: String, reason: String },
    #[error("the catalogue has one schema, '{expected}': '{name}' can't be created or dropped")]
    Schema { name: String, expected: String },
    #[error("'{name}' is provided by the program that runs this cluster and can't be replaced or dropped")]
    Provided { name: String },
    #[error("no file was found at '{location}'")]
    NoFiles { location: String },
    #[error("'{location}' is no URL of a folder or file: {reason}")]
    Location { location: String, reason: String },
    #[error("the schema of '{location}' can't be read: {reason}")]
    Schemaless { location: String, reason: String },
    #[error("view '{name}' would read itself, through {path}")]
    Cycle { name: String, path: String },
    #[error(
        "the definition of '{name}' in the catalogue can't be read: {reason}; drop it and create it again"
    )]
    Stored { name: String, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("not supported: {0}")]
    NotImplemented(String),
    #[error("{0}")]
    DataFusion(String),
    #[error("planning took longer than {ms} ms and was given up; is an object store slow?")]
    Deadline { ms: u64 },
    #[error("{waiting} statements wait to be planned already; try again later")]
    Busy { waiting: usize },
    #[error(
        "planning ended without an answer, by a fault of this engine; please report it with the statement"
    )]
    Lost,
}

impl From<DataFusionError> for PlanningError {
    fn from(error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::NotImplemented(what) => Self::NotImplemented(cut(what.clone())),
            _ => Self::DataFusion(describe(&error)),
        }
    }
}

/// An error of DataFusion's in words, bounded, without a backtrace.
pub(crate) fn describe(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::SQL(parser, _) => {
            let text = parser.to_string();
            format!("syntax error: {}", text.strip_prefix("sql parser error: ").unwrap_or(&text))
        }
        DataFusionError::External(source) => source.to_string(),
        _ => error.strip_backtrace(),
    };
    cut(text)
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_ERROR_BYTES {
        let end = (0..=MAX_ERROR_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" … (cut)");
    }
    text
}

impl From<PlanningError> for Status {
    fn from(error: PlanningError) -> Self {
        let (code, reason) = match &error {
            PlanningError::SqlTooLong { .. }
            | PlanningError::TooDeep { .. }
            | PlanningError::AnswerTooLarge { .. }
            | PlanningError::Plan(
                PlanError::TooLarge { .. } | PlanError::Graph(StageGraphError::TooLarge { .. }),
            ) => (Code::InvalidArgument, Reason::TooLarge),
            PlanningError::Busy { .. } => (Code::ResourceExhausted, Reason::Busy),
            PlanningError::Deadline { .. } => (Code::DeadlineExceeded, Reason::Statement),
            // It would end so again: not to be repeated.
            PlanningError::Lost => (Code::Internal, Reason::Statement),
            PlanningError::Unsupported { .. } | PlanningError::NotImplemented(_) => {
                (Code::Unimplemented, Reason::Statement)
            }
            PlanningError::Empty
            | PlanningError::Several { .. }
            | PlanningError::NoSession { .. }
            | PlanningError::RuntimeOption { .. }
            | PlanningError::Option { .. }
            | PlanningError::Schema { .. }
            | PlanningError::Provided { .. }
            | PlanningError::NoFiles { .. }
            | PlanningError::Location { .. }
            | PlanningError::Schemaless { .. }
            | PlanningError::Cycle { .. }
            | PlanningError::Stored { .. }
            | PlanningError::Store(_)
            | PlanningError::Plan(_)
            | PlanningError::DataFusion(_) => (Code::InvalidArgument, Reason::Statement),
        };
        status_with(code, cut(error.to_string()), &detail(reason, None))
    }
}

/// A request that this replica does not serve, or that is about a job which can't answer it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("there is no query {job} (any more)")]
    JobNotFound { job: String },
    #[error("query {job} is {state}; {expected}")]
    JobState { job: JobId, state: &'static str, expected: &'static str },
    #[error("this replica is not the leader{}", hint(leader))]
    NotLeader { leader: String },
    #[error("no majority of the scheduler replicas can be reached, so nothing can be decided ({replicas})")]
    NoQuorum { replicas: String },
    #[error("the cluster has no name yet, as it is just being founded; try again at once")]
    Founding,
    #[error(
        "the leader changed while the request was under way; whether it took effect is not known, it is safe to repeat with the same key"
    )]
    Unknown,
    /// The same, for what has no key.
    #[error(
        "the leader changed while the statement was under way; whether it took effect is not known, and a repetition may find that it did"
    )]
    UnknownStatement,
    #[error("the log did not take the request, and nothing was changed ({reason})")]
    NotCommitted { reason: String },
    #[error("the replicated log stopped ({reason})")]
    LogStopped { reason: String },
    #[error("the scheduler did not answer within {ms} ms; it is safe to repeat the request")]
    Deadline { ms: u64 },
    #[error("this scheduler is stopping")]
    Stopping,
    #[error(
        "the statement and its plan need {bytes} bytes in the log, which is too much (fewer files, columns or literals help)"
    )]
    TooLarge { bytes: usize },
    #[error(transparent)]
    QueueFull(#[from] QueueFull),
    /// To an executor.
    #[error("{reason}")]
    Refused { reason: String },
}

fn hint(leader: &str) -> String {
    if leader.is_empty() { ", and no leader is known yet".to_owned() } else { format!("; ask {leader}") }
}

fn detail(reason: Reason, job: Option<String>) -> ErrorDetail {
    ErrorDetail { reason: reason.into(), job_id: job.unwrap_or_default(), leader: String::new() }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        let message = error.to_string();
        let (code, detail) = match error {
            RequestError::JobNotFound { job } => (Code::NotFound, detail(Reason::JobNotFound, Some(job))),
            RequestError::JobState { job, .. } => {
                (Code::FailedPrecondition, detail(Reason::JobEnded, Some(job.to_string())))
            }
            RequestError::NotLeader { leader } => {
                (Code::Unavailable, ErrorDetail { leader, ..detail(Reason::NotLeader, None) })
            }
            RequestError::NoQuorum { .. } => (Code::Unavailable, detail(Reason::NoQuorum, None)),
            RequestError::Founding
            | RequestError::Unknown
            | RequestError::UnknownStatement
            | RequestError::NotCommitted { .. }
            | RequestError::LogStopped { .. }
            | RequestError::Stopping => (Code::Unavailable, detail(Reason::Unspecified, None)),
            RequestError::QueueFull(_) => (Code::ResourceExhausted, detail(Reason::Busy, None)),
            RequestError::TooLarge { .. } => (Code::InvalidArgument, detail(Reason::TooLarge, None)),
            RequestError::Refused { .. } => (Code::FailedPrecondition, detail(Reason::Unspecified, None)),
            RequestError::Deadline { .. } => (Code::DeadlineExceeded, detail(Reason::Unspecified, None)),
        };
        status_with(code, message, &detail)
    }
}

/// The set of replicas was not changed or copied, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Replicas(ReplicasError),
    #[error(
        "this cluster keeps its state in the memory of its only scheduler, so that it can have no replicas"
    )]
    OneForGood,
    #[error("it was not done within {ms} ms, and may still be: ask for the status")]
    Deadline { ms: u64 },
    #[error("0 is no id of a replica; ids begin with 1")]
    NoId,
    #[error("'{address}' is no address; give HOST:PORT as the other replicas reach it")]
    Address { address: String },
    #[error("there is no live executor '{executor}': `polybolos status` lists those that are")]
    NoExecutor { executor: String },
    #[error(
        "entries of version {version} are in use, and draining needs version {needs}: upgrade all schedulers first"
    )]
    TooOld { version: u16, needs: u16 },
}

impl From<ClusterError> for Status {
    fn from(error: ClusterError) -> Self {
        let message = error.to_string();
        let code = match error {
            ClusterError::Request(error) => return error.into(),
            ClusterError::Replicas(error) => match error {
                ReplicasError::NotLeader { .. } | ReplicasError::Stopped { .. } => Code::Unavailable,
                ReplicasError::NotAMember { .. } => Code::NotFound,
                ReplicasError::Retired { .. }
                | ReplicasError::OtherAddress { .. }
                | ReplicasError::NotAVoter { .. }
                | ReplicasError::LastVoter { .. }
                | ReplicasError::NotCaughtUp { .. }
                | ReplicasError::Refused { .. } => Code::FailedPrecondition,
                ReplicasError::NotMoved { .. } | ReplicasError::UnderWay => Code::Aborted,
                ReplicasError::Unknown { .. } => Code::DeadlineExceeded,
            },
            ClusterError::OneForGood | ClusterError::TooOld { .. } => Code::FailedPrecondition,
            ClusterError::NoExecutor { .. } => Code::NotFound,
            ClusterError::Deadline { .. } => Code::DeadlineExceeded,
            ClusterError::NoId | ClusterError::Address { .. } => Code::InvalidArgument,
        };
        status_with(code, message, &detail(Reason::Unspecified, None))
    }
}
