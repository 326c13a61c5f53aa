//! Rules of DataFusion 55.2 that take a limit to operators below, also where rows beyond it are needed.
//!
//! - `EnsureRequirements` leaves a sort out if it can have its input sorted by merging sorted partitions, and then gives
//!   its limit to the merge. That may be below a window or a filter. And what is left of such a sort, a limit, it hands
//!   down to the sorts below a sort-merge join. Found by the simulator.
//! - `TopKAggregation` hands the limit of a sort down to the next aggregates. On the way it passes windows, which need all
//!   groups (<https://github.com/apache/datafusion/pull/25066>), and aggregates, which make fewer groups of many. And it
//!   follows the sort's column by its name: through projections that compute another column of that name, and from one
//!   input of a union into the next.
//! - `LimitedDistinctAggregation` gives the limit of a `DISTINCT` without an order to its aggregate. If that comes to be
//!   over sorted rows afterwards, which windows and sort-merge joins need, the query fails with an internal error
//!   (<https://github.com/apache/datafusion/issues/25350>).

use std::sync::Arc;

use datafusion::{
    common::tree_node::Transformed,
    error::Result,
    physical_expr::expressions::Column,
    physical_optimizer::{
        ensure_requirements::EnsureRequirements, limited_distinct_aggregation::LimitedDistinctAggregation,
        topk_aggregation::TopKAggregation,
    },
    physical_plan::{
        ExecutionPlan,
        aggregates::{AggregateExec, AggregateInputMode},
        execution_plan::{CardinalityEffect, replace_children_if_necessary},
        projection::ProjectionExec,
        sorts::sort::SortExec,
        windows::{BoundedWindowAggExec, WindowAggExec},
    },
};

use super::{HeldExec, Holding, Node, hold_if};

impl Holding<EnsureRequirements> {
    pub(crate) fn sort_limits() -> Self {
        Self { rule: EnsureRequirements::new(), hold: hold_below_limited_sort }
    }
}

impl Holding<TopKAggregation> {
    pub(crate) fn top_groups() -> Self {
        Self { rule: TopKAggregation::new(), hold: hold_inputs }
    }
}

impl Holding<LimitedDistinctAggregation> {
    pub(crate) fn distinct_limits() -> Self {
        Self { rule: LimitedDistinctAggregation::new(), hold: |node| hold_if(may_be_sorted, node) }
    }
}

/// A sort with a limit can't have its input sorted otherwise then. One whose input is sorted anyway is still left out.
fn hold_below_limited_sort(node: Node) -> Result<Transformed<Node>> {
    if node.downcast_ref::<SortExec>().and_then(SortExec::fetch).is_none() {
        return Ok(Transformed::no(node));
    }
    with_inputs(node, |input| HeldExec { input, keeps_order: false })
}

fn hold_inputs(node: Node) -> Result<Transformed<Node>> {
    if !needs_all_rows(node.as_ref()) {
        return Ok(Transformed::no(node));
    }
    with_inputs(node, HeldExec::new)
}

fn with_inputs(node: Node, hold: fn(Node) -> HeldExec) -> Result<Transformed<Node>> {
    let held = |child: &Node| Arc::new(hold(Arc::clone(child))) as Node;
    let children = node.children().into_iter().map(held).collect();
    replace_children_if_necessary(node, children).map(Transformed::yes)
}

/// Whether the first rows of what `node` gives, by a column of some name, need more than the first rows of its inputs by
/// that name. Operators that the rule does not pass anyway don't matter.
fn needs_all_rows(node: &dyn ExecutionPlan) -> bool {
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        return aggregate.mode().input_mode() == AggregateInputMode::Raw;
    }
    if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        return !only_renames(projection);
    }
    let is_window = node.is::<WindowAggExec>() || node.is::<BoundedWindowAggExec>();
    let is_passed =
        matches!(node.cardinality_effect(), CardinalityEffect::Equal | CardinalityEffect::GreaterEqual);
    is_window || (is_passed && node.children().len() > 1)
}

/// Whether each column is one of the input, and no name of the input means another one.
fn only_renames(projection: &ProjectionExec) -> bool {
    let input = projection.input().schema();
    projection.expr().iter().all(|output| {
        output.expr.downcast_ref::<Column>().is_some_and(|column| {
            column.name() == output.alias || input.column_with_name(&output.alias).is_none()
        })
    })
}

/// Whether it is an aggregate below which something needs sorted rows.
fn may_be_sorted(node: &dyn ExecutionPlan) -> bool {
    fn needs_order(node: &dyn ExecutionPlan) -> bool {
        node.required_input_ordering().iter().any(Option::is_some)
            || node.children().into_iter().any(|child| needs_order(child.as_ref()))
    }
    node.is::<AggregateExec>() && needs_order(node)
}
