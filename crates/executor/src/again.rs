//! Sources that give their rows once only, made such that they can be read again.
//!
//! A nested loop join that is out of memory reads its left side a second time. DataFusion's generated series go on then from
//! where the first reader has come: rows would be missing, without an error.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use datafusion::{
    common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
        memory::LazyMemoryExec, metrics::MetricsSet,
    },
};

/// `plan` with each source replaced that can be read only once.
pub(crate) fn readable_again(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let once = node.is::<LazyMemoryExec>();
        Ok(if once { Transformed::yes(Arc::new(AgainExec::new(node)) as _) } else { Transformed::no(node) })
    })
    .data()
}

/// Stands for its source, by its name and with the metrics of its first reader.
#[derive(Debug)]
struct AgainExec {
    source: Arc<dyn ExecutionPlan>,
    read: AtomicBool,
}

impl AgainExec {
    fn new(source: Arc<dyn ExecutionPlan>) -> Self {
        Self { source, read: AtomicBool::new(false) }
    }
}

impl DisplayAs for AgainExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt_as(t, f)
    }
}

impl ExecutionPlan for AgainExec {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.source.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.source.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    /// A task's plan has one partition, which is read again only when its first reader has given up.
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if self.read.swap(true, Ordering::Relaxed) {
            return Arc::clone(&self.source).reset_state()?.execute(partition, context);
        }
        self.source.execute(partition, context)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.source.metrics()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::{physical_plan::collect, prelude::SessionContext};

    use super::*;

    #[tokio::test]
    async fn a_series_that_is_read_again_gives_all_its_rows_again() {
        let context = SessionContext::new();
        let series = context.sql("SELECT value FROM generate_series(1, 20000)").await.unwrap();
        let plan = readable_again(series.create_physical_plan().await.unwrap()).unwrap();
        let rows = async || {
            let batches = collect(Arc::clone(&plan), context.task_ctx()).await.unwrap();
            batches.iter().map(|batch| batch.num_rows()).sum::<usize>()
        };
        assert_eq!((rows().await, rows().await), (20_000, 20_000));
        // One that gave up in between.
        let mut begun = plan.execute(0, context.task_ctx()).unwrap();
        futures::StreamExt::next(&mut begun).await.unwrap().unwrap();
        assert_eq!(rows().await, 20_000);
    }
}
