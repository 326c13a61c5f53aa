//! Planning defaults for a cluster, and what fits a single task.

use std::sync::Arc;

use datafusion::{
    datasource::{physical_plan::FileScanConfig, source::DataSourceExec},
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties, empty::EmptyExec, placeholder_row::PlaceholderRowExec,
    },
    prelude::SessionConfig,
};

/// A query that reads no more than this from files is one task: a task reads it in the time that an exchange takes.
pub const SINGLE_TASK_BYTES: u64 = 8 * 1024 * 1024;

/// A join side of at most this size by the optimizer's estimate is broadcast instead of hashing both sides. Between
/// Spark's `autoBroadcastJoinThreshold` (10 MB) and Trino's `join-max-broadcast-table-size` (100 MB).
pub const BROADCAST_BYTES: usize = 32 * 1024 * 1024;
/// The same in rows, where no size is known.
pub const BROADCAST_ROWS: usize = 2_000_000;

/// Session defaults for a cluster of `slots` slots in all; a user's `SET` may change each of them.
///
/// - As many partitions as slots: one wave of tasks.
/// - No round-robin exchanges: moving rows costs more here than what they even out, and where a row goes would
///   depend on the order of arrival.
/// - Larger join sides are broadcast than in one process: that saves moving the other side, and keeps its scan in
///   the task of the join, whose dynamic filter can then prune it.
/// - Existing orders are not kept across an exchange: the reader sorts again, and needs no sorted runs.
pub fn cluster_config(slots: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(slots.max(1))
        .with_round_robin_repartition(false)
        .with_prefer_existing_sort(false)
        .with_information_schema(true);
    let options = config.options_mut();
    options.optimizer.hash_join_single_partition_threshold = BROADCAST_BYTES;
    options.optimizer.hash_join_single_partition_threshold_rows = BROADCAST_ROWS;
    // The default is the number of cores of whatever machine plans.
    options.execution.planning_concurrency = slots.max(1);
    config
}

/// The same session, for a query that is one task.
pub fn single_task_config(config: &SessionConfig) -> SessionConfig {
    config.clone().with_target_partitions(1)
}

/// Whether `plan` reads so little that it should be planned again with [`single_task_config`].
///
/// Sizes are those of the files, before any pruning. A plan with a source of unknown size fits only if that source has
/// one partition. A plan that is one task already fits.
pub fn plan_fits_one_task(plan: &Arc<dyn ExecutionPlan>) -> bool {
    scanned_bytes(plan).is_some_and(|bytes| bytes <= SINGLE_TASK_BYTES)
}

/// Bytes that the files and memory tables of `plan` hold, or `None` if a source can't tell.
pub(crate) fn scanned_bytes(plan: &Arc<dyn ExecutionPlan>) -> Option<u64> {
    let children = plan.children();
    if !children.is_empty() {
        return children
            .into_iter()
            .try_fold(0u64, |sum, child| Some(sum.saturating_add(scanned_bytes(child)?)));
    }
    if let Some(source) = plan.downcast_ref::<DataSourceExec>() {
        if let Some(files) = source.data_source().downcast_ref::<FileScanConfig>() {
            let files = files.file_groups.iter().flat_map(|group| group.files());
            return Some(files.map(|file| file.effective_size()).sum());
        }
        let statistics = source.data_source().partition_statistics(None).ok()?;
        let known = statistics.total_byte_size.get_value().map(|&bytes| bytes as u64);
        return known.or_else(|| one_partition(plan));
    }
    if plan.is::<PlaceholderRowExec>() || plan.is::<EmptyExec>() {
        return Some(0);
    }
    one_partition(plan)
}

/// A source that can't be divided gains nothing from more tasks.
fn one_partition(plan: &Arc<dyn ExecutionPlan>) -> Option<u64> {
    (plan.output_partitioning().partition_count() == 1).then_some(0)
}
