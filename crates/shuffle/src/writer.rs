//! Runs a task and stores what it makes.

use std::sync::Arc;

use datafusion::{
    common::internal_datafusion_err,
    error::DataFusionError,
    execution::TaskContext,
    physical_plan::{ExecutionPlan, ExecutionPlanProperties},
};
use futures::StreamExt;
use polybolos_model::{Exchange, PartitionStats};
use polybolos_planner::TaskPlan;

use crate::{
    OutputKey, ShuffleStore, WriteError,
    output_writer::OutputWriter,
    router::{Router, conform},
    size::batch_bytes,
};

/// Runs partition 0 of `plan` (`task`'s, with its inputs bound), spreads its rows by `task`'s exchange and stores them
/// under `key`. The output becomes visible when it is whole; the answer has one entry for each of its partitions.
///
/// Within a partition rows keep their order. Dropping the future frees all that it held.
///
/// # Errors
/// The query fails, a disk fails, or the output is deleted meanwhile.
pub async fn write_output(
    task: &TaskPlan,
    plan: Arc<dyn ExecutionPlan>,
    ctx: Arc<TaskContext>,
    store: &ShuffleStore,
    key: OutputKey,
) -> Result<Vec<PartitionStats>, WriteError> {
    let partitions = plan.output_partitioning().partition_count();
    if partitions != 1 {
        return Err(internal_datafusion_err!(
            "the plan of task {} has {partitions} partitions, not 1",
            key.task
        )
        .into());
    }
    let schema = plan.schema();
    let target_rows = ctx.session_config().batch_size().max(1);
    let mut router = Router::new(&task.output, key.task.partition)?;
    let mut writer = OutputWriter::new(store, key, Arc::clone(&schema), task.output.partitions, target_rows)?;
    if task.output.exchange == Exchange::Result && task.output.partitions == 1 {
        writer.let_follow();
    }
    let mut rows = plan.execute(0, ctx)?;
    while let Some(batch) = rows.next().await.transpose()? {
        if batch.num_rows() == 0 {
            continue;
        }
        let batch = conform(batch, &schema).map_err(DataFusionError::from)?;
        let bytes = batch_bytes(&batch);
        writer.admit(bytes).await?;
        router.route(batch, |partition, piece| Ok(writer.push(partition, piece)?))?;
        writer.drain().await?;
        if let Some(work) = store.charge(bytes) {
            work.await;
        }
    }
    // Operators free their memory before the output is finished.
    drop(rows);
    Ok(writer.finish().await?)
}
