//! The join of a task with a table that it shares.

use std::{
    any::Any,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    common::{internal_datafusion_err, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext},
    physical_expr::{PhysicalExpr, expressions::DynamicFilterPhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        ReplaceChildrenOptions,
        joins::HashJoinExec,
        metrics::{Gauge, Metric, MetricValue, MetricsSet},
    },
};
use futures::{Stream, StreamExt};

use super::Use;

/// What a table takes, in the metrics of the task that built it. DataFusion's name.
const BUILT_BYTES: &str = "build_mem_used";
/// The same, in the metrics of the others. The leader's estimates know it by this name.
const SHARED_BYTES: &str = "build_mem_shared";

/// Shows itself as the [`HashJoinExec`] that it runs; that one is told apart from those of other tasks, with which it has its
/// metrics in common, by the number of its partition. Only in the plan of a task; it is never encoded.
#[derive(Debug)]
pub(super) struct SharedJoinExec {
    join: HashJoinExec,
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    used: Arc<Use>,
}

impl SharedJoinExec {
    /// `join` over these sides, with the table that is `used`.
    pub(super) fn try_new(
        join: &HashJoinExec,
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
        used: Arc<Use>,
    ) -> Result<Self> {
        let probe = Arc::new(AnyPartitionExec { input: Arc::clone(&right) });
        let shared = used
            .build
            .seed
            .builder()
            .with_new_children(vec![Arc::clone(&left), probe])?
            .with_on(join.on().to_vec())
            .with_filter(join.filter().cloned())
            .with_projection_ref(join.projection.clone())
            .with_fetch(join.fetch())
            .build()?;
        let join = match dynamic_filter(join) {
            Some(filter) => shared.with_dynamic_filter_expr(filter)?,
            None => shared,
        };
        Ok(Self { join, left, right, used })
    }
}

fn dynamic_filter(join: &HashJoinExec) -> Option<Arc<DynamicFilterPhysicalExpr>> {
    let filter: Arc<dyn Any + Send + Sync> = join.dynamic_expressions_produced().pop()?;
    filter.downcast().ok()
}

impl DisplayAs for SharedJoinExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.join.fmt_as(t, f)
    }
}

impl ExecutionPlan for SharedJoinExec {
    fn name(&self) -> &str {
        self.join.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.join.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left, &self.right]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.join.maintains_input_order()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.join.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [left, right] = <[_; 2]>::try_from(children)
            .map_err(|_| internal_datafusion_err!("SharedJoinExec needs two children"))?;
        Ok(Arc::new(Self::try_new(&self.join, left, right, Arc::clone(&self.used))?))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(internal_datafusion_err!("SharedJoinExec has one partition, not {partition}"));
        }
        self.used.begin();
        let joined = self.join.execute(self.used.number, context);
        let joined = joined.inspect_err(|_| self.used.got(false))?;
        Ok(Box::pin(Joined { joined, used: Arc::clone(&self.used), told: false }))
    }

    /// Of this task alone. The table counts where it was built; elsewhere it is [`SHARED_BYTES`].
    fn metrics(&self) -> Option<MetricsSet> {
        let (mut own, mut shared) = (MetricsSet::new(), 0);
        for metric in self.join.metrics()?.iter() {
            if metric.partition() == Some(self.used.number) {
                own.push(Arc::clone(metric));
            } else if metric.value().name() == BUILT_BYTES {
                shared += metric.value().as_usize();
            }
        }
        let has_run = own.iter().next().is_some();
        if has_run && shared > 0 {
            let gauge = Gauge::new();
            gauge.set(shared);
            let value = MetricValue::Gauge { name: SHARED_BYTES.into(), gauge };
            own.push(Arc::new(Metric::new(value, Some(self.used.number))));
        }
        Some(own)
    }
}

/// Rows of the join. It holds the table as well.
struct Joined {
    joined: SendableRecordBatchStream,
    used: Arc<Use>,
    told: bool,
}

impl Stream for Joined {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.joined.poll_next_unpin(cx));
        if !self.told {
            self.told = true;
            self.used.got(!matches!(next, Some(Err(_))));
        }
        Poll::Ready(next)
    }
}

impl RecordBatchStream for Joined {
    fn schema(&self) -> SchemaRef {
        self.joined.schema()
    }
}

/// The one partition of its input, whatever its number is said to be.
#[derive(Debug)]
struct AnyPartitionExec {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for AnyPartitionExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyPartitionExec")
    }
}

impl ExecutionPlan for AnyPartitionExec {
    fn name(&self) -> &'static str {
        "AnyPartitionExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input =
            children.pop().ok_or_else(|| internal_datafusion_err!("AnyPartitionExec needs one child"))?;
        Ok(Arc::new(Self { input }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(0, context)
    }
}
