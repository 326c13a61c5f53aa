//! The nouns of the cluster: identities, limits, errors and the stage graph, as plain data.
//!
//! ```text
//!   planner ──▶ StageGraph ──▶ state (through the log) ──▶ scheduler ──▶ executor
//! ```
//!
//! Every other room may import this one; it imports none. Deliberately absent: behaviour, IO, wire formats,
//! and any knowledge of DataFusion. A plan is opaque bytes here.

mod error;
mod graph;
mod ids;
pub mod limits;
pub mod recorded;
pub mod settings;
mod share;
pub mod simulation;
mod task;
mod write;

pub use error::{ErrorClass, FetchFailure, TaskError};
pub use graph::{Exchange, ReadMode, Stage, StageGraph, StageGraphError, StageInput};
pub use ids::{
    AttemptId, ExecutorId, IdParseError, IdempotencyKey, Incarnation, JobId, ReplicaId, SessionId, StageId,
    TaskId, Term,
};
pub use share::{Share, ShareError, SharesInWords, Split};
pub use task::{
    OperatorMetrics, PartitionStats, SHUFFLE_DURABLE_LABEL, SHUFFLE_DURABLE_MODE_LABEL, TaskMetrics,
};
pub use write::{STAGED_SUFFIX, STAGING_FOLDER, WriteTarget};
