//! The left side of a nested loop join, for a join that is out of memory to go on with.
//!
//! DataFusion's join then executes its left side a second time, all of it to disk, and takes it in parts: each part meets
//! the whole of the right side. As it is, that gives wrong rows:
//!
//! - Not every operator gives all its rows a second time. A join below has handed out its rows without a match once and for
//!   all, and the filter of a top-k lets nothing pass that is not better than what its first run has found.
//! - A part ends with the first batch that doesn't fit. If that is the last one, the next part is empty, and at an empty part
//!   the join ends. What it owes to the right side after the last part never comes: of a right or full join its rows
//!   without a match, of a right semi, anti or mark join all rows. The same if the left side has batches but no rows.
//! - Each partition of the right side gives the left rows without a match, by its own matches.
//!
//! So the left side runs once: a second reader gets what the first one got, and then what is left. Where parts would not do
//! it gets an error instead, as of any task that is out of memory.

use std::sync::Arc;

use datafusion::{
    common::tree_node::{Transformed, TransformedResult, TreeNode},
    error::Result,
    logical_expr::JoinType,
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties, joins::NestedLoopJoinExec, replace_children_if_necessary,
    },
};

mod exec;
#[cfg(test)]
mod tests;

pub(crate) use exec::ResumeExec;

/// `plan` with a [`ResumeExec`] on the left of each nested loop join.
pub(crate) fn resuming(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() else { return Ok(Transformed::no(node)) };
        let join_type = *join.join_type();
        let resumes = joins_in_parts(join_type, join.right());
        let left = ResumeExec::new(Arc::clone(join.left()), join_type, resumes);
        let children: Vec<Arc<dyn ExecutionPlan>> = vec![Arc::new(left), Arc::clone(join.right())];
        Ok(Transformed::yes(replace_children_if_necessary(node, children)?))
    })
    .data()
}

/// Whether a nested loop join gives the right rows when its left side comes in parts.
pub(crate) fn joins_in_parts(join: JoinType, right: &Arc<dyn ExecutionPlan>) -> bool {
    match join {
        JoinType::Inner => true,
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
            right.output_partitioning().partition_count() == 1
        }
        JoinType::Full
        | JoinType::Right
        | JoinType::RightSemi
        | JoinType::RightAnti
        | JoinType::RightMark => false,
    }
}
