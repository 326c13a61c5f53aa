//! What can go wrong with an output, a fetch and a write, one variant a fact.

use std::{io, path::PathBuf, time::Duration};

use arrow::error::ArrowError;
use arrow_flight::error::FlightError;
use datafusion::error::DataFusionError;
use polybolos_model::{ErrorClass, FetchFailure, TaskError};

use crate::{OutputKey, classify::task_error};

/// An output can't be stored or read on this executor.
#[derive(Debug, thiserror::Error)]
pub enum ShuffleError {
    #[error("this executor holds no output of {key}: it was never complete here, or it was deleted")]
    NotFound { key: OutputKey },
    #[error("the output of {key} has {partitions} partitions, and partition {partition} was asked for")]
    NoSuchPartition { key: OutputKey, partition: u32, partitions: usize },
    #[error("the output of {key} was deleted while partition {partition} was read")]
    Deleted { key: OutputKey, partition: u32 },
    #[error("the output of {key} was deleted while it was written")]
    DeletedWhileWritten { key: OutputKey },
    #[error("an output of {key} is already here; an attempt writes once")]
    Duplicate { key: OutputKey },
    #[error("the output of {key} is damaged in {}: {detail}; its task must run again", path.display())]
    Corrupt { key: OutputKey, path: PathBuf, detail: String },
    #[error("the shuffle could not {action} {}: {source}", path.display())]
    Disk { action: &'static str, path: PathBuf, source: io::Error },
    #[error("a batch in the output of {key} could not be encoded or decoded: {source}")]
    Codec { key: OutputKey, source: ArrowError },
    #[error("a row in the output of {key} is {bytes} bytes; at most {limit} can be sent to another executor")]
    RowTooLarge { key: OutputKey, bytes: usize, limit: usize },
    #[error("an output of {partitions} partitions was asked for; a task has 1 to {limit}")]
    PartitionCount { partitions: usize, limit: u32 },
    #[error("the durable store could not {action} {object}: {source}")]
    Store { action: &'static str, object: String, source: object_store::Error },
    #[error("the durable store did not {action} {object} within {} s", deadline.as_secs())]
    StoreDeadline { action: &'static str, object: String, deadline: Duration },
    #[error(
        "the durable store holds no whole output of {key}: there is no {object}; its task must run again"
    )]
    NotDurable { key: OutputKey, object: String },
    #[error(
        "the output of {key} is in the durable store only, and this executor runs without --shuffle-durable: give each \
         executor of the cluster the same URL"
    )]
    NoDurableStore { key: OutputKey },
    #[error(
        "the durable output of {key} can't be looked for before this executor is registered with its cluster"
    )]
    NoCluster { key: OutputKey },
}

impl ShuffleError {
    /// What the scheduler should do about a task that failed with this.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Disk { source, .. } => io_class(source),
            Self::NotFound { .. }
            | Self::NoSuchPartition { .. }
            | Self::Deleted { .. }
            | Self::DeletedWhileWritten { .. }
            | Self::Corrupt { .. }
            | Self::Store { .. }
            | Self::StoreDeadline { .. }
            | Self::NotDurable { .. }
            | Self::NoDurableStore { .. }
            | Self::NoCluster { .. } => ErrorClass::Retryable,
            Self::RowTooLarge { .. } => ErrorClass::User,
            Self::Duplicate { .. } | Self::Codec { .. } | Self::PartitionCount { .. } => ErrorClass::Internal,
        }
    }
}

/// Full disks and quotas are resources; a text that isn't UTF-8 is the data's fault; all else may pass.
pub(crate) fn io_class(error: &io::Error) -> ErrorClass {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => {
            ErrorClass::Resources
        }
        io::ErrorKind::InvalidData => ErrorClass::User,
        _ => ErrorClass::Retryable,
    }
}

/// A remote output could not be read, or a local one could not.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("no connection to {address}: {source}")]
    Connect { address: String, source: tonic::transport::Error },
    #[error("no connection to {address} within {} ms", deadline.as_millis())]
    ConnectTimeout { address: String, deadline: Duration },
    #[error("the connection to {address} could not be made, because this process is stopping")]
    Stopping { address: String },
    #[error("{address} answered: {} ({})", status.message(), status.code())]
    Status { address: String, status: Box<tonic::Status> },
    #[error("{address} sent nothing for {} ms", deadline.as_millis())]
    Silent { address: String, deadline: Duration },
    #[error("the executor at {address} was lost while it was read")]
    Lost { address: String },
    #[error("what {address} sent is no Arrow data: {source}")]
    Decode { address: String, source: FlightError },
    #[error("{rows} rows came, and the task that wrote them reported {expected}")]
    Rows { rows: u64, expected: u64 },
    #[error(transparent)]
    Local(#[from] ShuffleError),
}

impl FetchError {
    /// Whether another try at the same executor may succeed.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::ConnectTimeout { .. } | Self::Silent { .. } => true,
            Self::Status { .. } => !self.is_about_output(),
            Self::Stopping { .. }
            | Self::Lost { .. }
            | Self::Decode { .. }
            | Self::Rows { .. }
            | Self::Local(_) => false,
        }
    }

    /// Whether the executor answered that what was asked for can't be had: nothing is wrong with the connection.
    pub(crate) fn is_about_output(&self) -> bool {
        let Self::Status { status, .. } = self else { return false };
        matches!(
            status.code(),
            tonic::Code::NotFound
                | tonic::Code::DataLoss
                | tonic::Code::OutOfRange
                | tonic::Code::InvalidArgument
                | tonic::Code::Unimplemented
        )
    }

    pub(crate) fn from_flight(address: &str, error: FlightError) -> Self {
        match error {
            FlightError::Tonic(status) => Self::Status { address: address.to_owned(), status },
            source => Self::Decode { address: address.to_owned(), source },
        }
    }
}

/// An upstream output that a reader could not get. Travels inside [`DataFusionError::External`].
#[derive(Debug, thiserror::Error)]
#[error(
    "partition {partition} of the output of stage {} partition {} attempt {} on executor {} could not be read: {cause}",
    lost.stage, lost.map_partition, lost.attempt, lost.executor
)]
pub struct FetchFailed {
    pub lost: FetchFailure,
    /// Which output partition was asked for.
    pub partition: u32,
    #[source]
    pub cause: FetchError,
}

impl From<FetchFailed> for DataFusionError {
    fn from(error: FetchFailed) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<ShuffleError> for DataFusionError {
    fn from(error: ShuffleError) -> Self {
        Self::External(Box::new(error))
    }
}

/// A task's output could not be made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The query itself failed, or reading its inputs did.
    #[error(transparent)]
    Query(#[from] DataFusionError),
    #[error(transparent)]
    Store(#[from] ShuffleError),
}

impl From<WriteError> for TaskError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Query(error) => task_error(error),
            WriteError::Store(error) => Self::new(error.class(), error.to_string()),
        }
    }
}
