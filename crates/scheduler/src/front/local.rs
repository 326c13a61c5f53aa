//! Statements that the replica answers itself, because all that they read is its own: `information_schema`.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    catalog::information_schema::INFORMATION_SCHEMA,
    common::{
        TableReference,
        tree_node::{Transformed, TreeNodeRecursion},
    },
    datasource::{MemTable, provider_as_source, source_as_provider},
    execution::SessionState,
    logical_expr::{LogicalPlan, TableScan},
    physical_plan::{ExecutionPlan, execute_stream},
};
use futures::StreamExt;
use polybolos_model::limits::MAX_INLINE_RESULT_BYTES;

use super::ipc;
use crate::error::PlanningError;

/// Whether the relation is one of this replica's own.
pub(crate) fn is_local(name: &TableReference) -> bool {
    name.schema() == Some(INFORMATION_SCHEMA)
}

/// Whether the plan reads something, and nothing but this replica's own relations.
pub(crate) fn reads_only_local(plan: &LogicalPlan) -> Result<bool, PlanningError> {
    let (mut local, mut other) = (0, 0);
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            *(if is_local(&scan.table_name) { &mut local } else { &mut other }) += 1;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(local > 0 && other == 0)
}

/// Runs the plan here.
///
/// # Errors
/// What DataFusion says, and [`PlanningError::AnswerTooLarge`].
pub(crate) async fn answer(plan: &LogicalPlan, state: &SessionState) -> Result<Vec<u8>, PlanningError> {
    let (schema, batches) = run(plan, state).await?;
    ipc::encode_answer(&schema, &batches)
}

/// Runs the plan here and keeps its rows.
pub(crate) async fn run(
    plan: &LogicalPlan,
    state: &SessionState,
) -> Result<(SchemaRef, Vec<RecordBatch>), PlanningError> {
    collect(state.create_physical_plan(plan).await?, state).await
}

async fn collect(
    plan: Arc<dyn ExecutionPlan>,
    state: &SessionState,
) -> Result<(SchemaRef, Vec<RecordBatch>), PlanningError> {
    let schema = plan.schema();
    let mut rows = execute_stream(plan, state.task_ctx())?;
    let (mut batches, mut bytes) = (Vec::new(), 0);
    while let Some(batch) = rows.next().await.transpose()? {
        bytes += batch.get_array_memory_size();
        // Memory is at least as large as the stream that it becomes, but for slices of shared buffers.
        if bytes > 2 * MAX_INLINE_RESULT_BYTES {
            return Err(PlanningError::AnswerTooLarge { bytes });
        }
        batches.push(batch);
    }
    Ok((schema, batches))
}

/// Puts the rows of this replica's own relations into the plan, so that an executor can run it.
///
/// # Errors
/// What DataFusion says while it reads them.
pub(crate) async fn materialize(
    plan: LogicalPlan,
    state: &SessionState,
) -> Result<LogicalPlan, PlanningError> {
    let mut scans: BTreeMap<String, TableScan> = BTreeMap::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && is_local(&scan.table_name)
        {
            scans.insert(scan.table_name.to_string(), scan.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if scans.is_empty() {
        return Ok(plan);
    }
    let mut sources = BTreeMap::new();
    for (name, scan) in scans {
        let provider = source_as_provider(&scan.source)?;
        let (schema, batches) = collect(provider.scan(state, None, &[], None).await?, state).await?;
        sources.insert(name, provider_as_source(Arc::new(MemTable::try_new(schema, vec![batches])?)));
    }
    let replaced = plan.transform_up_with_subqueries(|node| {
        Ok(match node {
            LogicalPlan::TableScan(mut scan) => match sources.get(&scan.table_name.to_string()) {
                Some(source) => {
                    scan.source = Arc::clone(source);
                    Transformed::yes(LogicalPlan::TableScan(scan))
                }
                None => Transformed::no(LogicalPlan::TableScan(scan)),
            },
            other => Transformed::no(other),
        })
    })?;
    Ok(replaced.data)
}
