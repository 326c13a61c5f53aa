//! Keeps what is known of an operator's input from being believed of its output, where the operator puts nulls into
//! columns. To be dropped with the versions that have the mends.
//!
//! - An aggregate with grouping sets: DataFusion 55.2 hands on what holds of the input's columns (one is constant, two
//!   are equal, rows are sorted or hashed by one) to columns that are null in some sets. With
//!   `WHERE k = 7 GROUP BY ROLLUP (a, k)` the final aggregate takes `k` for sorted, and gives out a group whenever `k`
//!   turns from 7 to null: a group comes in several pieces (<https://github.com/apache/datafusion/issues/16965>). An
//!   `ORDER BY k` above loses its sort.
//! - An outer join: 55.2 takes a column that is constant on the side that may be missing for constant in the output
//!   (`EquivalenceGroup::join`). `… a LEFT JOIN (SELECT … WHERE k = 0) b … ORDER BY b.k` loses its sort. Found by the
//!   simulator.
//!
//! ```text
//!   AggregateExec(grouping sets) ─▶ input     becomes     AggregateExec(grouping sets) ─▶ ForgetExec ─▶ input
//! ```

use std::{fmt, sync::Arc};

use datafusion::{
    common::{
        JoinSide, JoinType, Statistics, internal_datafusion_err,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
    config::ConfigOptions,
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{
        EquivalenceProperties, Partitioning, PhysicalExpr,
        equivalence::{EquivalenceClass, EquivalenceGroup},
        expressions::Literal,
    },
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
        PlanProperties, ReplaceChildrenOptions,
        aggregates::AggregateExec,
        execution_plan::{CardinalityEffect, replace_children_if_necessary},
        filter_pushdown::{FilterDescription, FilterPushdownPhase},
        joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec},
        statistics::{ChildStats, StatisticsArgs},
    },
};

/// Puts a `ForgetExec` where it is needed. It must be the first rule, before others rely on what is to be forgotten.
#[derive(Debug, Default)]
pub(crate) struct ForgetBeforeNulls;

impl PhysicalOptimizerRule for ForgetBeforeNulls {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(forget_below).data()
    }

    fn name(&self) -> &'static str {
        "forget_before_nulls"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn forget_below(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let mut children: Vec<_> = node.children().into_iter().cloned().collect();
    let mut is_changed = false;
    if node.downcast_ref::<AggregateExec>().is_some_and(|it| it.group_expr().has_grouping_set())
        && !children[0].is::<ForgetExec>()
    {
        children[0] = Arc::new(ForgetExec::new(Arc::clone(&children[0]), Forgets::Everything));
        is_changed = true;
    }
    for &side in join_type(node.as_ref()).map_or(&[][..], sides_that_may_be_missing) {
        let side = &mut children[usize::from(side == JoinSide::Right)];
        if !side.equivalence_properties().constants().is_empty() {
            *side = Arc::new(ForgetExec::new(Arc::clone(side), Forgets::Constants));
            is_changed = true;
        }
    }
    Ok(if is_changed {
        Transformed::yes(replace_children_if_necessary(node, children)?)
    } else {
        Transformed::no(node)
    })
}

fn join_type(node: &dyn ExecutionPlan) -> Option<JoinType> {
    let hash = node.downcast_ref::<HashJoinExec>().map(|join| *join.join_type());
    hash.or_else(|| node.downcast_ref::<SortMergeJoinExec>().map(SortMergeJoinExec::join_type))
        .or_else(|| node.downcast_ref::<NestedLoopJoinExec>().map(|join| *join.join_type()))
}

fn sides_that_may_be_missing(join: JoinType) -> &'static [JoinSide] {
    match join {
        JoinType::Left => &[JoinSide::Right],
        JoinType::Right => &[JoinSide::Left],
        JoinType::Full => &[JoinSide::Left, JoinSide::Right],
        JoinType::Inner
        | JoinType::LeftSemi
        | JoinType::LeftAnti
        | JoinType::LeftMark
        | JoinType::RightSemi
        | JoinType::RightAnti
        | JoinType::RightMark => &[],
    }
}

/// What a [`ForgetExec`] leaves out of what is known of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forgets {
    Everything,
    /// Which columns have one value in all rows. Orders, equal columns and partitions stay.
    Constants,
}

/// The rows of its input, and less known of them.
#[derive(Debug, Clone)]
pub(crate) struct ForgetExec {
    input: Arc<dyn ExecutionPlan>,
    forgets: Forgets,
    properties: Arc<PlanProperties>,
}

impl ForgetExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, forgets: Forgets) -> Self {
        let known = PlanProperties::clone(input.properties());
        let partitions = known.partitioning.partition_count();
        let properties = match forgets {
            Forgets::Everything => known
                .with_partitioning(Partitioning::UnknownPartitioning(partitions))
                .with_eq_properties(EquivalenceProperties::new(input.schema())),
            Forgets::Constants => {
                let varying = without_constants(&known.eq_properties);
                known.with_eq_properties(varying)
            }
        };
        Self { input, forgets, properties: Arc::new(properties) }
    }

    pub(crate) fn forgets(&self) -> Forgets {
        self.forgets
    }
}

fn without_constants(known: &EquivalenceProperties) -> EquivalenceProperties {
    let orderings = known.oeq_class().iter().cloned();
    let mut varying = EquivalenceProperties::new_with_orderings(Arc::clone(known.schema()), orderings);
    let columns = |class: &EquivalenceClass| {
        EquivalenceClass::new(class.iter().filter(|expr| !expr.is::<Literal>()).cloned())
    };
    let classes = known.eq_group().iter().map(columns);
    let equal = EquivalenceGroup::new(classes.filter(|class| !class.is_trivial()));
    if varying.add_equivalence_group(equal).is_err() {
        return EquivalenceProperties::new(Arc::clone(known.schema()));
    }
    varying
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

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
        Ok(Arc::new(Self::new(input, self.forgets)))
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
        inputs.first().cloned().ok_or_else(|| internal_datafusion_err!("ForgetExec needs one child"))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    /// So that a join's dynamic filter still reaches the scan.
    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(parent_filters, &self.children())
    }
}
