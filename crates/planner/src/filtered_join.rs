//! Keeps projections above a sort-merge join that has a filter.
//!
//! DataFusion 55.2 swaps a projection with such a join and leaves the filter's column numbers as they were. The filter
//! then reads other columns: an error if their types differ, and wrong rows if they don't
//! (<https://github.com/apache/datafusion/issues/24414>). To be dropped with the version that has the mend.
//!
//! ```text
//!   projection ─▶ join with filter      ─hold─▶ projection ─▶ HeldJoinExec ─▶ join ─push, release─▶ as it was
//! ```
//!
//! Nothing is lost by that: a projection that narrows such a join drops columns that only the filter reads.

use std::{fmt, sync::Arc};

use datafusion::{
    common::{
        internal_datafusion_err,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
    config::ConfigOptions,
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_optimizer::{PhysicalOptimizerRule, projection_pushdown::ProjectionPushdown},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        ReplaceChildrenOptions, joins::SortMergeJoinExec,
    },
};

/// DataFusion's [`ProjectionPushdown`], with those joins held.
#[derive(Debug, Default)]
pub(crate) struct HoldingProjectionPushdown(ProjectionPushdown);

impl PhysicalOptimizerRule for HoldingProjectionPushdown {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let held = plan.transform_up(hold)?;
        let plan = self.0.optimize(held.data, config)?;
        if held.transformed { plan.transform_up(release).data() } else { Ok(plan) }
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

fn hold(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let filtered = node.downcast_ref::<SortMergeJoinExec>().is_some_and(|join| join.filter().is_some());
    Ok(if filtered { Transformed::yes(Arc::new(HeldJoinExec(node))) } else { Transformed::no(node) })
}

fn release(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let held = node.downcast_ref::<HeldJoinExec>().map(|held| Arc::clone(&held.0));
    Ok(held.map_or_else(|| Transformed::no(node), Transformed::yes))
}

/// A join that no projection is swapped with, as an operator does not allow that unless it says so.
///
/// Only while the rule runs.
#[derive(Debug)]
struct HeldJoinExec(Arc<dyn ExecutionPlan>);

impl DisplayAs for HeldJoinExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for HeldJoinExec {
    fn name(&self) -> &'static str {
        "HeldJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.0.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.0]
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
        let join = children.pop().ok_or_else(|| internal_datafusion_err!("HeldJoinExec needs one child"))?;
        Ok(Arc::new(Self(join)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.0.execute(partition, context)
    }
}
