//! The leaf that reads the outputs of another stage.

use std::{fmt, sync::Arc};

use datafusion::{
    common::{internal_datafusion_err, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        ReplaceChildrenOptions,
        metrics::{ExecutionPlanMetricsSet, MetricsSet},
    },
};
use polybolos_model::StageId;

use crate::{
    FlightPool, ShuffleStore,
    sources::{Origin, Source, stream},
};

/// Stands where [`polybolos_planner::StageInputExec`] stood, with the same schema, partitioning and order.
#[derive(Clone)]
pub struct ShuffleReaderExec {
    stage: StageId,
    /// What each partition reads. Sources that are known to be empty are left out.
    partitions: Vec<Vec<Source>>,
    store: Arc<ShuffleStore>,
    pool: Arc<FlightPool>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ShuffleReaderExec {
    pub(crate) fn new(
        stage: StageId,
        partitions: Vec<Vec<Source>>,
        store: Arc<ShuffleStore>,
        pool: Arc<FlightPool>,
        properties: Arc<PlanProperties>,
    ) -> Self {
        Self { stage, partitions, store, pool, properties, metrics: ExecutionPlanMetricsSet::new() }
    }

    pub fn stage(&self) -> StageId {
        self.stage
    }

    fn count(&self, of: impl Fn(&Origin) -> bool) -> usize {
        self.partitions.iter().flatten().filter(|source| of(&source.origin)).count()
    }
}

impl fmt::Debug for ShuffleReaderExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShuffleReaderExec")
            .field("stage", &self.stage)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for ShuffleReaderExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !matches!(t, DisplayFormatType::TreeRender) {
            f.write_str("ShuffleReaderExec: ")?;
        }
        let local = self.count(|origin| matches!(origin, Origin::Here));
        let remote = self.count(|origin| matches!(origin, Origin::Executor(_)));
        write!(f, "stage={}, local={local}, remote={remote}", self.stage)?;
        match self.count(|origin| matches!(origin, Origin::Durable)) {
            0 => Ok(()),
            durable => write!(f, ", durable={durable}"),
        }
    }
}

impl ExecutionPlan for ShuffleReaderExec {
    fn name(&self) -> &'static str {
        "ShuffleReaderExec"
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

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let sources = self.partitions.get(partition).cloned().ok_or_else(|| {
            let count = self.partitions.len();
            internal_datafusion_err!(
                "the reader of stage {} has {count} partitions, not {partition}",
                self.stage
            )
        })?;
        let (store, pool) = (Arc::clone(&self.store), Arc::clone(&self.pool));
        Ok(stream(sources, store, pool, self.schema(), &self.metrics, partition))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
