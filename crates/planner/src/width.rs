//! How many partitions a query needs so that its joins fit into memory.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::{DataType, Schema},
    physical_plan::{
        ExecutionPlan,
        joins::{HashJoinExec, PartitionMode},
        statistics::{StatisticsArgs, StatisticsContext},
    },
};

/// What a text or a list is taken for, in bytes: a view of 16 and as much again behind it.
const TEXT_BYTES: usize = 32;
/// What DataFusion's hash table has for each row of a join's build side beside its columns: an entry of 16 bytes, one in
/// eight of which is free, and the number of the next row of that hash.
const TABLE_BYTES: usize = 24;

/// Partitions with which the build side of each partitioned hash join in `plan` takes about `room_bytes` in a task at most, by
/// the optimizer's estimates; 1 if these say nothing. Aggregates and sorts go to disk by themselves, and so does, more
/// slowly, what was estimated too low ([`crate::spilling_task_plan`]).
pub fn partitions_for_memory(plan: &Arc<dyn ExecutionPlan>, room_bytes: u64) -> usize {
    let largest = largest_build(plan, &StatisticsContext::new());
    usize::try_from(largest.div_ceil(room_bytes.max(1))).unwrap_or(usize::MAX).max(1)
}

/// In bytes.
fn largest_build(plan: &Arc<dyn ExecutionPlan>, statistics: &StatisticsContext) -> u64 {
    let join = plan.downcast_ref::<HashJoinExec>();
    let build =
        join.filter(|join| *join.partition_mode() == PartitionMode::Partitioned).map(HashJoinExec::left);
    let own = build.map_or(0, |build| {
        let known = statistics.compute(build.as_ref(), &StatisticsArgs::new()).ok();
        let rows = known.and_then(|known| known.num_rows.get_value().copied()).unwrap_or(0);
        rows as u64 * (row_bytes(&build.schema()) + TABLE_BYTES) as u64
    });
    plan.children().into_iter().map(|child| largest_build(child, statistics)).fold(own, u64::max)
}

fn row_bytes(schema: &Schema) -> usize {
    let width = |kind: &DataType| kind.primitive_width().unwrap_or(TEXT_BYTES);
    schema.fields().iter().map(|field| width(field.data_type())).sum()
}
