//! Stands for the shuffle's reader: a stage input over rows in memory.

use std::{fmt, sync::Arc};

use datafusion::{
    arrow::record_batch::RecordBatch,
    common::tree_node::TreeNodeRecursion,
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        memory::MemoryStream,
        metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
    },
};

#[derive(Debug)]
pub(crate) struct MemoryReader {
    properties: Arc<PlanProperties>,
    partitions: Vec<Vec<RecordBatch>>,
    metrics: ExecutionPlanMetricsSet,
}

impl MemoryReader {
    pub(crate) fn new(properties: Arc<PlanProperties>, partitions: Vec<Vec<RecordBatch>>) -> Self {
        Self { properties, partitions, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for MemoryReader {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryReader")
    }
}

impl ExecutionPlan for MemoryReader {
    fn name(&self) -> &'static str {
        "MemoryReader"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batches = self.partitions[partition].clone();
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        MetricBuilder::new(&self.metrics).output_rows(partition).add(rows);
        Ok(Box::pin(MemoryStream::try_new(batches, self.schema(), None)?))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
