//! Holds back rows whose keys are not among those of another stage.

use std::{fmt, sync::Arc};

use datafusion::{
    arrow::{array::RecordBatch, compute::filter_record_batch},
    common::{Statistics, internal_datafusion_err, tree_node::TreeNodeRecursion},
    config::ConfigOptions,
    error::Result,
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, Column, DynamicFilterPhysicalExpr, lit},
    },
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        ReplaceChildrenOptions,
        execution_plan::CardinalityEffect,
        filter_pushdown::{
            ChildFilterDescription, ChildPushdownResult, FilterDescription, FilterPushdownPhase,
            FilterPushdownPropagation,
        },
        metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        statistics::{ChildStats, StatisticsArgs},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::prepare::any_expression;

use super::{
    bloom::{KeyFilter, Keys, summary_schema},
    keys_exec::{key_types, names},
};

/// Rows of its first child whose keys may be among those that its second child tells, which has one partition and is read
/// first, whole.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeFilterExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Arc<dyn ExecutionPlan>,
    columns: Vec<usize>,
    /// In a task: the ranges of the keys, by which a scan below leaves out files and row groups.
    ranges: Option<Arc<DynamicFilterPhysicalExpr>>,
    metrics: ExecutionPlanMetricsSet,
}

impl RuntimeFilterExec {
    /// # Errors
    /// `keys` is no summary of so many keys of these types.
    pub(crate) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        keys: Arc<dyn ExecutionPlan>,
        columns: Vec<usize>,
    ) -> Result<Self> {
        if keys.schema().fields() != summary_schema(&key_types(&input.schema(), &columns)?).fields() {
            return Err(internal_datafusion_err!("a filter by other keys than its stage of keys tells of"));
        }
        Ok(Self { input, keys, columns, ranges: None, metrics: ExecutionPlanMetricsSet::new() })
    }

    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
    }

    fn column(&self, at: usize) -> Arc<dyn PhysicalExpr> {
        let schema = self.input.schema();
        let name = schema.fields().get(at).map_or("", |field| field.name());
        Arc::new(Column::new(name, at))
    }

    /// `min <= key AND key <= max` of each key.
    fn within(&self, filter: &KeyFilter) -> Option<Arc<dyn PhysicalExpr>> {
        let ranges = self.columns.iter().zip(filter.ranges());
        let bounds = ranges.filter_map(|(&at, range)| {
            let (min, max) = range.clone()?;
            Some([(Operator::GtEq, min), (Operator::LtEq, max)].map(|(operator, bound)| {
                Arc::new(BinaryExpr::new(self.column(at), operator, lit(bound))) as Arc<dyn PhysicalExpr>
            }))
        });
        bounds.flatten().reduce(|all, next| Arc::new(BinaryExpr::new(all, Operator::And, next)))
    }
}

impl DisplayAs for RuntimeFilterExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RuntimeFilterExec: keys=[{}]", names(&self.input.schema(), &self.columns))
    }
}

impl ExecutionPlan for RuntimeFilterExec {
    fn name(&self) -> &'static str {
        "RuntimeFilterExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input, &self.keys]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true, false]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false, false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [input, keys] = <[_; 2]>::try_from(children)
            .map_err(|_| internal_datafusion_err!("RuntimeFilterExec needs two children"))?;
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Arc::new(Self { input, keys, metrics, ..Self::clone(&self) }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let counts = Counts {
            baseline: BaselineMetrics::new(&self.metrics, partition),
            held_back: MetricBuilder::new(&self.metrics).counter("rows_held_back", partition),
        };
        let memory = MemoryConsumer::new("RuntimeFilterExec").register(context.memory_pool());
        let told = self.keys.execute(0, Arc::clone(&context))?;
        let this = self.clone();
        let rows = stream::once(async move {
            let filter = read_keys(told, this.columns.len(), &memory).await?;
            if let (Some(filter), Some(ranges)) = (&filter, &this.ranges)
                && let Some(within) = this.within(filter)
            {
                ranges.update(within)?;
                ranges.mark_complete();
            }
            if filter.as_ref().is_some_and(KeyFilter::is_empty) {
                polybolos_model::sometimes!("a scan was left out, for a join had nothing to match it with");
                return Ok(stream::empty().boxed());
            }
            let rows = this.input.execute(partition, context)?;
            let filtered = rows.map(move |batch| this.filtered(batch?, filter.as_ref(), &memory, &counts));
            Ok::<_, datafusion::error::DataFusionError>(filtered.boxed())
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows.try_flatten())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition), ChildStats::Skip]
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let input =
            inputs.first().ok_or_else(|| internal_datafusion_err!("RuntimeFilterExec needs an input"))?;
        Ok(Arc::new(Statistics::clone(input).to_inexact()))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }

    fn gather_filters_for_pushdown(
        &self,
        phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let mut input = ChildFilterDescription::from_child(&parent_filters, &self.input)?;
        let wanted = config.optimizer.enable_join_dynamic_filter_pushdown && self.ranges.is_none();
        // Below an expression that gives other values each time the range would be one of other values.
        if phase == FilterPushdownPhase::Post
            && wanted
            && !any_expression(&self.input, &mut |expr| expr.is_volatile_node())?
        {
            let columns = self.columns.iter().map(|&at| self.column(at)).collect();
            input = input.with_self_filter(Arc::new(DynamicFilterPhysicalExpr::new(columns, lit(true))));
        }
        let keys = ChildFilterDescription::all_unsupported(&parent_filters);
        Ok(FilterDescription::new().with_child(input).with_child(keys))
    }

    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        child_pushdown_result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let own = child_pushdown_result.self_filters.first().and_then(|filters| filters.first());
        let ranges = own.and_then(|own| {
            let predicate: Arc<dyn PhysicalExpr> = Arc::clone(&own.predicate);
            Arc::downcast::<DynamicFilterPhysicalExpr>(predicate).ok()
        });
        let result = FilterPushdownPropagation::if_any(child_pushdown_result.clone());
        Ok(match ranges {
            Some(ranges) => result.with_updated_node(Arc::new(Self { ranges: Some(ranges), ..self.clone() })),
            None => result,
        })
    }
}

struct Counts {
    baseline: BaselineMetrics,
    held_back: Count,
}

impl RuntimeFilterExec {
    /// `_memory` is that of the filter, which lives as long.
    fn filtered(
        &self,
        batch: RecordBatch,
        filter: Option<&KeyFilter>,
        _memory: &MemoryReservation,
        counts: &Counts,
    ) -> Result<RecordBatch> {
        let _timer = counts.baseline.elapsed_compute().timer();
        let Some(filter) = filter else {
            counts.baseline.record_output(batch.num_rows());
            return Ok(batch);
        };
        let keys: Vec<_> = self.columns.iter().map(|&at| Arc::clone(batch.column(at))).collect();
        let passed = filter_record_batch(&batch, &filter.passes(&keys, batch.num_rows())?)?;
        let held_back = batch.num_rows() - passed.num_rows();
        polybolos_model::sometimes!("a runtime filter held rows back", held_back > 0);
        counts.held_back.add(held_back);
        counts.baseline.record_output(passed.num_rows());
        Ok(passed)
    }
}

/// `None` if all rows must pass: there are too many keys for their tasks, or for the memory here.
async fn read_keys(
    mut told: SendableRecordBatchStream,
    keys: usize,
    memory: &MemoryReservation,
) -> Result<Option<KeyFilter>> {
    let mut all = Keys::new(keys);
    while let Some(rows) = told.next().await.transpose()? {
        all.add(&rows)?;
        if all.are_too_many() {
            memory.free();
            return Ok(None);
        }
        if memory.try_resize(all.len() * size_of::<u64>() + Keys::filter_bytes(all.len())).is_err() {
            memory.free();
            return Ok(None);
        }
    }
    let filter_bytes = Keys::filter_bytes(all.len());
    let filter = all.into_filter();
    memory.try_resize(if filter.is_some() { filter_bytes } else { 0 })?;
    Ok(filter)
}
