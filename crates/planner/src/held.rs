//! Keeps rules of DataFusion away from operators with which they go wrong. To be dropped with the versions that have
//! the mends.
//!
//! ```text
//!   operator ─hold─▶ HeldExec ─▶ operator ─rule─▶ … ─release─▶ operator, as it was
//! ```
//!
//! - 55.2 swaps a projection with a sort-merge join and leaves the numbers of the columns of the join's filter as they
//!   were. The filter then reads other columns: an error if their types differ, and wrong rows if they don't
//!   (<https://github.com/apache/datafusion/issues/24414>). Nothing is lost by holding such joins: a projection that
//!   narrows one drops columns that only the filter reads.
//! - 55.2 pushes a filter through most operators by the *names* of its columns. If two have one name, as after a join, the
//!   filter may go to the other one, and drop rows of the wrong side. So does a dynamic filter. Found by the simulator.
//! - Limits of sorts and of `DISTINCT` that go where rows beyond them are needed: see [`limits`].

mod limits;

use std::{collections::BTreeSet, fmt, sync::Arc};

use datafusion::{
    common::{
        Statistics, internal_datafusion_err,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
    config::ConfigOptions,
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_optimizer::{
        PhysicalOptimizerRule, filter_pushdown::FilterPushdown, projection_pushdown::ProjectionPushdown,
    },
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        ReplaceChildrenOptions,
        joins::{HashJoinExec, SortMergeJoinExec},
        statistics::{ChildStats, StatisticsArgs},
    },
};

type Node = Arc<dyn ExecutionPlan>;

/// A rule of DataFusion that does not see some operators.
#[derive(Debug)]
pub(crate) struct Holding<R> {
    rule: R,
    hold: fn(Node) -> Result<Transformed<Node>>,
}

impl Holding<ProjectionPushdown> {
    pub(crate) fn projections() -> Self {
        Self { rule: ProjectionPushdown::new(), hold: |node| hold_if(is_filtered_join, node) }
    }
}

impl Holding<FilterPushdown> {
    pub(crate) fn filters(rule: FilterPushdown) -> Self {
        Self { rule, hold: |node| hold_if(is_ambiguous, node) }
    }
}

fn hold_if(is_held: fn(&dyn ExecutionPlan) -> bool, node: Node) -> Result<Transformed<Node>> {
    Ok(if is_held(node.as_ref()) {
        Transformed::yes(Arc::new(HeldExec::new(node)))
    } else {
        Transformed::no(node)
    })
}

fn is_filtered_join(node: &dyn ExecutionPlan) -> bool {
    node.downcast_ref::<SortMergeJoinExec>().is_some_and(|join| join.filter().is_some())
}

/// Whether columns are told apart by their names where two have one name: those of its input, which most operators look up
/// by name, or its own. A hash join knows its own by their numbers.
fn is_ambiguous(node: &dyn ExecutionPlan) -> bool {
    (has_twins(node) && !node.is::<HashJoinExec>())
        || node.children().iter().any(|child| has_twins(child.as_ref()))
}

fn has_twins(node: &dyn ExecutionPlan) -> bool {
    let mut names = BTreeSet::new();
    !node.schema().fields().iter().all(|field| names.insert(field.name().clone()))
}

impl<R: PhysicalOptimizerRule> PhysicalOptimizerRule for Holding<R> {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let held = plan.transform_up(self.hold)?;
        let plan = self.rule.optimize(held.data, config)?;
        if held.transformed { plan.transform_up(release).data() } else { Ok(plan) }
    }

    fn name(&self) -> &str {
        self.rule.name()
    }

    fn schema_check(&self) -> bool {
        self.rule.schema_check()
    }
}

fn release(node: Node) -> Result<Transformed<Node>> {
    let held = node.downcast_ref::<HeldExec>().map(|held| Arc::clone(&held.input));
    Ok(held.map_or_else(|| Transformed::no(node), Transformed::yes))
}

/// An operator that no projection is swapped with, no filter is pushed through and no limit passes, as none allows that
/// unless it says so.
///
/// Only while the rule runs.
#[derive(Debug)]
struct HeldExec {
    input: Node,
    /// Whether what is above may count on the order of what is below, and so have it changed.
    keeps_order: bool,
}

impl HeldExec {
    fn new(input: Node) -> Self {
        Self { input, keeps_order: true }
    }
}

impl DisplayAs for HeldExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for HeldExec {
    fn name(&self) -> &'static str {
        "HeldExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![self.keeps_order]
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
        let input = children.pop().ok_or_else(|| internal_datafusion_err!("HeldExec needs one child"))?;
        Ok(Arc::new(Self { input, keeps_order: self.keeps_order }))
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

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        inputs.first().cloned().ok_or_else(|| internal_datafusion_err!("HeldExec needs one child"))
    }
}
