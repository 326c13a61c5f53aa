//! What planning for a cluster can refuse, each with what to do about it.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use polybolos_model::{StageGraphError, StageId, limits::MAX_PLAN_BYTES};

/// Why a physical plan can't become a stage graph, or a stage's bytes can't become a task.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PlanError {
    /// No codec knows the operator.
    #[error(
        "the operator {operator} can't be sent to an executor: {reason}; register a codec for it on every node"
    )]
    NotEncodable { operator: String, reason: String },
    /// The operator makes no sense in a distributed query.
    #[error("the operator {operator} can't run on a cluster: {reason}")]
    Unsupported { operator: String, reason: String },
    /// The statement would write what is not read back as it was, or not to files.
    #[error("the statement can't write: {reason}")]
    Unwritable { reason: String },
    #[error(
        "the plan of stage {stage} is {bytes} bytes; at most {MAX_PLAN_BYTES} are allowed (fewer files, columns or literals help)"
    )]
    TooLarge { stage: StageId, bytes: usize },
    #[error("the plan of stage {stage} nests too deeply to be sent: {reason}")]
    TooDeep { stage: StageId, reason: String },
    #[error("the query does not fit the limits of a cluster: {0}")]
    Graph(#[from] StageGraphError),
    /// The bytes were made by another version, or the session lacks a function that the plan uses.
    #[error(
        "a stage's plan can't be decoded: {0}; are all nodes of the same version, with the same functions?"
    )]
    Decode(String),
    #[error("stage {stage} has {tasks} tasks; there is no task {partition}")]
    NoSuchTask { stage: StageId, tasks: usize, partition: u32 },
    /// A task needs a template that [`crate::decode_stage`] made.
    #[error("the plan is not a decoded stage: its root is {root}")]
    NotAStage { root: String },
    /// DataFusion refused to rebuild an operator over its new inputs.
    #[error("{context}: {source}")]
    DataFusion { context: &'static str, source: Arc<DataFusionError> },
}

impl PlanError {
    pub(crate) fn datafusion(context: &'static str) -> impl Fn(DataFusionError) -> Self {
        move |source| Self::DataFusion { context, source: Arc::new(source) }
    }
}
