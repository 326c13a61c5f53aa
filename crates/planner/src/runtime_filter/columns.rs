//! Which column of an operator's input a column of its output is.

use std::sync::Arc;

use datafusion::{
    common::{JoinSide, JoinType},
    physical_expr::{Partitioning, PhysicalExpr, expressions::Column},
    physical_plan::{
        ExecutionPlan,
        aggregates::AggregateExec,
        coalesce_partitions::CoalescePartitionsExec,
        coop::CooperativeExec,
        filter::FilterExec,
        joins::{HashJoinExec, SortMergeJoinExec},
        projection::ProjectionExec,
        repartition::RepartitionExec,
        sorts::{sort::SortExec, sort_preserving_merge::SortPreservingMergeExec},
    },
};

use super::RuntimeFilterExec;
use crate::forget::ForgetExec;

/// The child of `plan`, and its columns, whose rows may be dropped where those of `plan` with the same values would be:
/// no row with other values depends on them. `None` for operators of which that is not so, or not known.
pub(super) fn below(plan: &Arc<dyn ExecutionPlan>, columns: &[usize]) -> Option<(usize, Vec<usize>)> {
    origin(plan, columns).filter(|(child, _)| may_drop(plan, *child))
}

/// Whether each row of that child gives rows with its own values, and no others depend on it.
fn may_drop(plan: &Arc<dyn ExecutionPlan>, child: usize) -> bool {
    if plan.fetch().is_some() {
        return false;
    }
    if let Some(spread) = plan.downcast_ref::<RepartitionExec>() {
        // Where a round-robin sends a row depends on the rows before it, and a filter may let other ones through the next time.
        return matches!(spread.partitioning(), Partitioning::Hash(..));
    }
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        // A group is there, with the same values, exactly if its rows are.
        return aggregate.group_expr().is_single() && aggregate.limit_options().is_none();
    }
    let hash = plan.downcast_ref::<HashJoinExec>().map(|join| *join.join_type());
    let join = hash.or_else(|| plan.downcast_ref::<SortMergeJoinExec>().map(SortMergeJoinExec::join_type));
    match join {
        Some(JoinType::Inner) | None => true,
        Some(JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark) => child == 0,
        Some(JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark) => child == 1,
        Some(JoinType::Full) => false,
    }
}

/// The child of `plan` that its columns come from, and which they are there: they have no values but those, and null.
pub(super) fn origin(plan: &Arc<dyn ExecutionPlan>, columns: &[usize]) -> Option<(usize, Vec<usize>)> {
    let passes = plan.is::<RepartitionExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<SortExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.is::<ForgetExec>()
        || plan.is::<RuntimeFilterExec>();
    if passes {
        return Some((0, columns.to_vec()));
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        return Some((0, through(filter.projection().as_deref(), columns)?));
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let column = |&at: &usize| column_of(&projection.expr().get(at)?.expr);
        return Some((0, columns.iter().map(column).collect::<Option<_>>()?));
    }
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        let column = |&at: &usize| column_of(&aggregate.group_expr().expr().get(at)?.0);
        return Some((0, columns.iter().map(column).collect::<Option<_>>()?));
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let columns = through(join.projection.as_deref(), columns)?;
        return side(*join.join_type(), [join.left(), join.right()], &columns);
    }
    if let Some(join) = plan.downcast_ref::<SortMergeJoinExec>() {
        return side(join.join_type(), [join.left(), join.right()], columns);
    }
    None
}

/// The index of an expression that is a column and nothing else.
pub(super) fn column_of(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

fn through(projection: Option<&[usize]>, columns: &[usize]) -> Option<Vec<usize>> {
    match projection {
        Some(projection) => columns.iter().map(|&at| projection.get(at).copied()).collect(),
        None => Some(columns.to_vec()),
    }
}

/// Of a join's columns before its projection. All must come from one side.
fn side(
    join: JoinType,
    sides: [&Arc<dyn ExecutionPlan>; 2],
    columns: &[usize],
) -> Option<(usize, Vec<usize>)> {
    let [left_width, right_width] = sides.map(|side| side.schema().fields().len());
    let right_begins = match join {
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => 0,
        _ => left_width,
    };
    let side_of = |at: usize| match at {
        _ if at < right_begins => JoinSide::Left,
        _ if at < right_begins + right_width => JoinSide::Right,
        // A mark.
        _ => JoinSide::None,
    };
    let first = side_of(*columns.first()?);
    if columns.iter().any(|&at| side_of(at) != first) {
        return None;
    }
    match first {
        JoinSide::Left => Some((0, columns.to_vec())),
        JoinSide::Right => Some((1, columns.iter().map(|at| at - right_begins).collect())),
        JoinSide::None => None,
    }
}
