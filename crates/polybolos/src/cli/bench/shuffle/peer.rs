//! DataFusion's exchange between the threads of one process.

use std::sync::Arc;

use datafusion::{
    catalog::memory::{DataSourceExec, MemorySourceConfig},
    error::Result,
    physical_expr::{PhysicalExpr, expressions::Column},
    physical_plan::{ExecutionPlan, Partitioning, repartition::RepartitionExec},
};

use super::data::Rows;

/// The first column.
pub(super) fn key() -> Vec<Arc<dyn PhysicalExpr>> {
    vec![Arc::new(Column::new("key", 0))]
}

/// A scan with a partition for each of `tasks`.
pub(super) fn scan(rows: &Rows, tasks: std::ops::Range<usize>) -> Result<Arc<dyn ExecutionPlan>> {
    let batches = rows.tasks.get(tasks).unwrap_or_default();
    let source = MemorySourceConfig::try_new(batches, Arc::clone(&rows.schema), None)?;
    Ok(DataSourceExec::from_data_source(source))
}

pub(super) fn exchange(rows: &Rows) -> Result<Arc<dyn ExecutionPlan>> {
    let scan = scan(rows, 0..rows.tasks.len())?;
    let partitioning = Partitioning::Hash(key(), rows.partitions as usize);
    Ok(Arc::new(RepartitionExec::try_new(scan, partitioning)?))
}
