//! The services of a replica, and how what they ask for is told from what is wrong with it.

mod anywhere;
mod attach;
mod cluster;
mod export;
mod planning;
mod query;
mod results;
mod show;
mod status;
mod submit;
mod tasks;
mod watch;

use std::str::FromStr;

pub(crate) use attach::ExecutorRpc;
pub(crate) use cluster::ClusterRpc;
pub(crate) use planning::PlanningRpc;
use polybolos_model::{IdParseError, JobId};
use polybolos_proto::{
    status_with,
    v1::{ErrorDetail, error_detail::Reason},
};
use polybolos_state::{Change, Rejection, limits::MAX_ADDRESS_BYTES};
pub(crate) use query::QueryRpc;
use tonic::{Code, Status};

use crate::{error::RequestError, input::Refusal};

fn statement_status(code: Code, message: impl Into<String>) -> Status {
    let detail = ErrorDetail { reason: Reason::Statement.into(), ..ErrorDetail::default() };
    status_with(code, message, &detail)
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected(rejection) => rejected(rejection),
            Refusal::Unserved(error) => error.into(),
        }
    }
}

/// What the state refused, as the client is told.
fn rejected(rejection: Rejection) -> Status {
    let message = rejection.to_string();
    let (code, reason, job) = match rejection {
        Rejection::JobNotFound { job } => return RequestError::JobNotFound { job: job.to_string() }.into(),
        Rejection::JobEnded { job, .. } | Rejection::JobActive { job, .. } => {
            (Code::FailedPrecondition, Reason::JobEnded, Some(job))
        }
        Rejection::JobPublishing { job } => (Code::FailedPrecondition, Reason::Statement, Some(job)),
        Rejection::JobIdInUse { job } => (Code::Unavailable, Reason::Unspecified, Some(job)),
        Rejection::InvalidGraph { .. }
        | Rejection::SqlTooLong { .. }
        | Rejection::DefinitionTooLarge { .. }
        | Rejection::TargetTooLong { .. } => (Code::InvalidArgument, Reason::TooLarge, None),
        Rejection::TooManyJobs
        | Rejection::TooManyWrites
        | Rejection::TooManyRelations
        | Rejection::TooManySessions
        | Rejection::TooManyOptions { .. }
        | Rejection::TooManyExecutors => (Code::ResourceExhausted, Reason::Busy, None),
        Rejection::RelationExists { .. } => (Code::AlreadyExists, Reason::Statement, None),
        Rejection::RelationNotFound { .. } => (Code::NotFound, Reason::Statement, None),
        Rejection::WrongKind { .. } | Rejection::RelationName { .. } | Rejection::OptionTooLarge { .. } => {
            (Code::InvalidArgument, Reason::Statement, None)
        }
        Rejection::UnknownVersion { .. }
        | Rejection::StaleTerm { .. }
        | Rejection::TaskNotFound { .. }
        | Rejection::AlreadyComplete { .. }
        | Rejection::AttemptOver { .. }
        | Rejection::InputsRolledBack { .. }
        | Rejection::OutputCount { .. }
        | Rejection::ExecutorNotFound { .. }
        | Rejection::StaleIncarnation { .. }
        | Rejection::ExecutorIdInUse { .. }
        | Rejection::AddressInUse { .. }
        | Rejection::NoSlots { .. }
        | Rejection::BadAddress { .. }
        | Rejection::LabelsTooLarge { .. }
        | Rejection::VersionNotInUse { .. }
        | Rejection::NeedsVersion { .. }
        | Rejection::ClusterNamed { .. }
        | Rejection::BadClusterId { .. }
        | Rejection::ReplicaFolder { .. }
        | Rejection::ReplicaRetired { .. }
        | Rejection::TooManyReplicas
        | Rejection::ReplicaTooOld { .. }
        | Rejection::VersionTooNew { .. }
        | Rejection::NotReopened { .. }
        | Rejection::NoReplicas { .. }
        | Rejection::NoWrite { .. }
        | Rejection::WriteUnderWay { .. }
        | Rejection::StageDecided { .. }
        | Rejection::StageNotReady { .. }
        | Rejection::BadShares { .. }
        | Rejection::LaunchedUndecided { .. }
        | Rejection::NotDraining { .. } => (Code::Unavailable, Reason::Unspecified, None),
    };
    let job_id = job.map(|job| job.to_string()).unwrap_or_default();
    status_with(code, message, &ErrorDetail { reason: reason.into(), job_id, leader: String::new() })
}

/// A job id of a request. One that isn't well-formed belongs to no job.
fn job_id(text: &str) -> Result<JobId, Status> {
    text.parse().map_err(|error: IdParseError| {
        let detail = ErrorDetail {
            reason: Reason::JobNotFound.into(),
            job_id: error.text.clone(),
            leader: String::new(),
        };
        status_with(Code::NotFound, error.to_string(), &detail)
    })
}

/// `HOST:PORT`, as others can connect to it.
fn is_address(text: &str) -> bool {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    let is_port = port.and_then(|port| port.parse::<u16>().ok()).is_some_and(|port| port > 0);
    is_port && text.len() <= MAX_ADDRESS_BYTES
}

/// A name that may be left out.
fn optional_name<T: FromStr<Err = IdParseError>>(text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed =
        text.parse::<T>().map_err(|error| statement_status(Code::InvalidArgument, error.to_string()));
    parsed.map(Some)
}

/// Commands whose success is told by nothing but an empty message.
fn done(outcome: Result<Change, Refusal>) -> Result<(), Status> {
    outcome.map(|_| ()).map_err(Into::into)
}
