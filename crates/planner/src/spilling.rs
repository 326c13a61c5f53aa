//! The plan of a task that ran out of memory: its hash joins, which keep one side in memory, become sort-merge joins, which
//! go to disk, and nested loop joins that can go to disk when they are turned round are.
//!
//! The rows are the same, in another order. Nothing that is judged to be determinate depends on that
//! (`indeterminate.rs`).

use std::sync::Arc;

use datafusion::{
    arrow::compute::SortOptions,
    common::{
        JoinSide,
        tree_node::{Transformed, TreeNode},
    },
    error::Result,
    physical_expr::{LexOrdering, PhysicalExprRef, PhysicalSortExpr, expressions::Column},
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties,
        joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec, utils::JoinFilter},
        projection::{ProjectionExec, ProjectionExpr},
        sorts::sort::SortExec,
    },
};

use crate::resume::joins_in_parts;

/// `plan`, of one partition, with each join replaced that does not go to disk and can be; `None` if there is none.
pub(crate) fn with_spilling_joins(plan: Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let spilling = plan.transform_up(|node| {
        let hash = node.downcast_ref::<HashJoinExec>().filter(|join| can_be_sorted(join));
        let nested = node.downcast_ref::<NestedLoopJoinExec>().filter(|join| must_be_turned(join));
        match hash.map(sorted).or(nested.map(NestedLoopJoinExec::swap_inputs)).transpose()? {
            Some(spilling) => Ok(Transformed::yes(spilling)),
            None => Ok(Transformed::no(node)),
        }
    });
    let spilling = spilling?;
    Ok(spilling.transformed.then_some(spilling.data))
}

/// Whether a nested loop join goes to disk with its sides swapped only. Its left side has one partition; so must the one
/// that comes there.
fn must_be_turned(join: &NestedLoopJoinExec) -> bool {
    let turned = join.join_type().swap();
    one_partition(join.right())
        && !joins_in_parts(*join.join_type(), join.right())
        && joins_in_parts(turned, join.left())
}

/// A sort-merge join neither stops after some rows nor has `NOT IN`'s way with nulls, its keys must have an order, and it
/// gives its filter the columns of the left side first, which a hash join whose sides were swapped does not.
fn can_be_sorted(join: &HashJoinExec) -> bool {
    let schema = join.left().schema();
    let has_order = |key: &PhysicalExprRef| key.data_type(&schema).is_ok_and(|kind| !kind.is_nested());
    let left_first = |filter: &JoinFilter| {
        filter.column_indices().is_sorted_by_key(|column| column.side != JoinSide::Left)
    };
    !join.null_aware
        && join.filter().is_none_or(left_first)
        && join.fetch().is_none()
        && one_partition(join.left())
        && one_partition(join.right())
        && join.on().iter().all(|(left, _)| has_order(left))
}

fn one_partition(side: &Arc<dyn ExecutionPlan>) -> bool {
    side.output_partitioning().partition_count() == 1
}

fn sorted(join: &HashJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    let (left, right): (Vec<_>, Vec<_>) = join.on().iter().cloned().unzip();
    let merged: Arc<dyn ExecutionPlan> = Arc::new(SortMergeJoinExec::try_new(
        by(join.left(), left),
        by(join.right(), right),
        join.on().to_vec(),
        join.filter().cloned(),
        *join.join_type(),
        vec![SortOptions::default(); join.on().len()],
        join.null_equality(),
    )?);
    let projected = match &join.projection {
        Some(projection) => project(merged, projection)?,
        None => merged,
    };
    // Something above may rely on the order in which the hash join would have given them.
    Ok(match join.properties().output_ordering() {
        Some(order) => Arc::new(SortExec::new(order.clone(), projected).with_preserve_partitioning(true)),
        None => projected,
    })
}

fn project(plan: Arc<dyn ExecutionPlan>, columns: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let column = |&at: &usize| {
        let name = schema.field(at).name();
        ProjectionExpr::new(Arc::new(Column::new(name, at)), name.clone())
    };
    let columns: Vec<_> = columns.iter().map(column).collect();
    Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
}

/// The rows of a side in the order of its keys.
fn by(side: &Arc<dyn ExecutionPlan>, keys: Vec<PhysicalExprRef>) -> Arc<dyn ExecutionPlan> {
    let key = |expr| PhysicalSortExpr::new(expr, SortOptions::default());
    match LexOrdering::new(keys.into_iter().map(key)) {
        Some(order) => Arc::new(SortExec::new(order, Arc::clone(side)).with_preserve_partitioning(true)),
        None => Arc::clone(side),
    }
}
