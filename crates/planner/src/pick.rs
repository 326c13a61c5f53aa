//! One partition of an operator that has several.

use std::{fmt, sync::Arc};

use datafusion::{
    common::{internal_datafusion_err, tree_node::TreeNodeRecursion},
    config::ConfigOptions,
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        ReplaceChildrenOptions,
        filter_pushdown::{
            ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
        },
    },
};

/// Shows partition `partition` of its input as its own and only partition 0.
///
/// Only in the plan of a task; it is never encoded.
#[derive(Debug, Clone)]
pub struct PickExec {
    input: Arc<dyn ExecutionPlan>,
    partition: usize,
    /// Hides the input from optimizer rules: below it, operators have partitions that nobody runs, and a join's
    /// dynamic filter would wait for them for ever.
    sealed: bool,
    properties: Arc<PlanProperties>,
}

impl PickExec {
    pub fn new(input: Arc<dyn ExecutionPlan>, partition: usize) -> Self {
        let partitioning = match &input.properties().partitioning {
            Partitioning::Hash(keys, _) => Partitioning::Hash(keys.clone(), 1),
            _ => Partitioning::UnknownPartitioning(1),
        };
        let properties = PlanProperties::clone(input.properties()).with_partitioning(partitioning);
        Self { input, partition, sealed: false, properties: Arc::new(properties) }
    }

    pub(crate) fn sealed(self) -> Self {
        Self { sealed: true, ..self }
    }

    pub(crate) fn unsealed(&self) -> Option<Self> {
        self.sealed.then(|| Self { sealed: false, ..self.clone() })
    }

    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }
}

impl DisplayAs for PickExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PickExec: partition={}", self.partition)
    }
}

impl ExecutionPlan for PickExec {
    fn name(&self) -> &'static str {
        "PickExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        if self.sealed { vec![] } else { vec![&self.input] }
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true; self.children().len()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.children().len()]
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
        if self.sealed {
            return Ok(self);
        }
        let input = children.pop().ok_or_else(|| internal_datafusion_err!("PickExec needs one child"))?;
        Ok(Arc::new(Self::new(input, self.partition)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(internal_datafusion_err!("PickExec has one partition, not {partition}"));
        }
        self.input.execute(self.partition, context)
    }

    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(parent_filters, &self.children())
    }

    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        child_pushdown_result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(child_pushdown_result))
    }
}
