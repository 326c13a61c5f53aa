//! What a finished task tells about itself.

use serde::{Deserialize, Serialize};

/// Size of one output partition of one task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStats {
    pub rows: u64,
    /// In memory, before compression.
    pub bytes: u64,
}

/// Metrics of one operator of a stage's plan in one task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorMetrics {
    /// Position of the operator in the stage's plan, counted from the root in depth-first preorder.
    pub node: u32,
    /// Metric name (`output_rows`, `elapsed_compute` in ns, …) and its value, summed over partitions.
    pub values: Vec<(String, u64)>,
}

/// What a task cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMetrics {
    pub rows_in: u64,
    pub bytes_in: u64,
    pub rows_out: u64,
    pub bytes_out: u64,
    pub spilled_bytes: u64,
    /// From the executor's start of the attempt to its end.
    pub elapsed_us: u64,
    pub operators: Vec<OperatorMetrics>,
}

/// The label of an executor that copies its outputs to a durable store and reads them there: the store's URL, the same
/// on all executors of a cluster.
pub const SHUFFLE_DURABLE_LABEL: &str = "polybolos.shuffle-durable";

/// The label of such an executor that says when it copies: `background` or `before`.
pub const SHUFFLE_DURABLE_MODE_LABEL: &str = "polybolos.shuffle-durable-mode";
