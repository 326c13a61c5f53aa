//! Keeps what is known of a grouping set's input from being believed of its output.
//!
//! DataFusion 55.2 hands on what holds of the input's columns (one is constant, two are equal, rows are sorted or hashed
//! by one) to the columns of an aggregate with grouping sets, which are null in some sets. With
//! `WHERE k = 7 GROUP BY ROLLUP (a, k)` the final aggregate takes `k` for sorted, and gives out a group whenever `k`
//! turns from 7 to null: a group comes in several pieces (<https://github.com/apache/datafusion/issues/16965>). An
//! `ORDER BY k` above loses its sort. To be dropped with the version that has the mend.
//!
//! ```text
//!   AggregateExec(grouping sets) ─▶ input     becomes     AggregateExec(grouping sets) ─▶ ForgetExec ─▶ input
//! ```

use std::{fmt, sync::Arc};

use datafusion::{
    common::{
        internal_datafusion_err,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
    config::ConfigOptions,
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr},
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        ReplaceChildrenOptions, aggregates::AggregateExec, execution_plan::replace_children_if_necessary,
    },
};

/// Puts a `ForgetExec` below each aggregate with grouping sets. It must be the first rule, before others rely on what
/// is to be forgotten.
#[derive(Debug, Default)]
pub struct ForgetBelowGroupingSets;

impl PhysicalOptimizerRule for ForgetBelowGroupingSets {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(forget_below).data()
    }

    fn name(&self) -> &'static str {
        "forget_below_grouping_sets"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn forget_below(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let input = node
        .downcast_ref::<AggregateExec>()
        .filter(|aggregate| {
            aggregate.group_expr().has_grouping_set() && !aggregate.input().is::<ForgetExec>()
        })
        .map(|aggregate| Arc::clone(aggregate.input()));
    let Some(input) = input else { return Ok(Transformed::no(node)) };
    Ok(Transformed::yes(replace_children_if_necessary(node, vec![Arc::new(ForgetExec::new(input))])?))
}

/// The rows of its input, and nothing known of them.
#[derive(Debug, Clone)]
pub(crate) struct ForgetExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl ForgetExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let partitions = input.properties().partitioning.partition_count();
        let properties = PlanProperties::clone(input.properties())
            .with_partitioning(Partitioning::UnknownPartitioning(partitions))
            .with_eq_properties(EquivalenceProperties::new(input.schema()));
        Self { input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for ForgetExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for ForgetExec {
    fn name(&self) -> &'static str {
        "ForgetExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
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
        let input = children.pop().ok_or_else(|| internal_datafusion_err!("ForgetExec needs one child"))?;
        Ok(Arc::new(Self::new(input)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
