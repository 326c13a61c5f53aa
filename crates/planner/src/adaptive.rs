//! Which partitioned inputs of a stage its tasks may divide among them otherwise than a partition each, once their sizes are
//! known.
//!
//! ```text
//!   coalesce   every operator on the way narrows to several partitions as it does to one
//!   split      besides, the rows of a partition may be worked on apart, each part with all of the other inputs:
//!              row by row, in partial aggregates, and in joins whose other side gives no rows of its own
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use datafusion::{
    common::{
        JoinType,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    error::Result,
    physical_expr::AcrossPartitions,
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties,
        aggregates::{AggregateExec, AggregateMode},
        coop::CooperativeExec,
        filter::FilterExec,
        joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode, SortMergeJoinExec},
        projection::ProjectionExec,
        scalar_subquery::ScalarSubqueryExec,
        sorts::sort::SortExec,
        unnest::UnnestExec,
    },
};
use polybolos_model::{Exchange, ReadMode, StageId};

use crate::{
    cut::Cut, forget::ForgetExec, input::StageInputExec, narrow::children_by_partition,
    runtime_filter::RuntimeFilterExec,
};

/// How the tasks of `cut` read its inputs.
///
/// # Errors
/// The plan can't be walked.
pub(crate) fn reads(cut: &Cut) -> Result<BTreeMap<StageId, ReadMode>> {
    let plan = cut.root.input();
    let partitioned = |(_, read): &(&StageId, &ReadMode)| **read == ReadMode::Partition;
    let mut found = Vec::new();
    if cut.tasks < 2 || !cut.inputs.iter().any(|input| partitioned(&input)) || !coalesces(plan, &mut found) {
        return Ok(cut.inputs.clone());
    }
    let leaves = partitioned_leaves(plan)?;
    // One that also stands below what is read whole stays as it is in every task.
    if leaves.len() != found.len() || found.iter().any(|(_, partitions)| *partitions != cut.tasks) {
        return Ok(cut.inputs.clone());
    }
    let mut splits = BTreeSet::new();
    // Who reads sorted outputs whole has a place for as many of them as were planned.
    let is_spread = matches!(cut.root.output().exchange, Exchange::Hash | Exchange::RoundRobin);
    if is_spread || plan.output_ordering().is_none() {
        splitting(plan, &mut splits);
    }
    let is_once = |stage: &StageId| leaves.iter().filter(|leaf| *leaf == stage).count() == 1;
    let read = |(stage, read): (&StageId, &ReadMode)| match read {
        ReadMode::Partition => {
            (*stage, ReadMode::Adaptive { splits: splits.contains(stage) && is_once(stage) })
        }
        other => (*stage, *other),
    };
    Ok(cut.inputs.iter().map(read).collect())
}

/// Whether a task may compute any neighbouring partitions of `plan` as one. The partitioned inputs that it reads by partition
/// are added, with how many partitions they have.
fn coalesces(plan: &Arc<dyn ExecutionPlan>, inputs: &mut Vec<(StageId, usize)>) -> bool {
    if plan.output_partitioning().partition_count() == 1 {
        return true;
    }
    if let Some(input) = plan.downcast_ref::<StageInputExec>() {
        inputs.push((input.stage(), input.partitions()));
        return input.read() == ReadMode::Partition && !claims_more_than_rows(input);
    }
    let Some(by_partition) = children_by_partition(plan) else { return false };
    let mut children = plan.children().into_iter().zip(by_partition);
    children.all(|(child, by_partition)| !by_partition || coalesces(child, inputs))
}

/// What holds within each partition need not hold in several.
fn claims_more_than_rows(input: &StageInputExec) -> bool {
    let equivalences = &input.properties().eq_properties;
    let of_one = |scope: &AcrossPartitions| matches!(scope, AcrossPartitions::Heterogeneous);
    equivalences.constants().iter().any(|constant| of_one(&constant.across_partitions))
        || equivalences.oeq_class().iter().next().is_some()
}

fn partitioned_leaves(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<StageId>> {
    let mut leaves = Vec::new();
    plan.apply(|node| {
        let input = node.downcast_ref::<StageInputExec>();
        leaves.extend(input.filter(|input| input.read() == ReadMode::Partition).map(StageInputExec::stage));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(leaves)
}

/// Adds the partitioned inputs of which each row gives the same whichever others of it are there.
fn splitting(plan: &Arc<dyn ExecutionPlan>, stages: &mut BTreeSet<StageId>) {
    if plan.output_partitioning().partition_count() == 1 {
        return;
    }
    if let Some(input) = plan.downcast_ref::<StageInputExec>() {
        stages.insert(input.stage());
        return;
    }
    let children = plan.children();
    let sides = children.iter().zip(splits_child(plan));
    sides.filter(|(_, splits)| *splits).for_each(|(child, _)| splitting(child, stages));
}

/// For each of its first children, at most two, whether `plan` gives for parts of it, each with all of the others, what it
/// gives for the whole.
fn splits_child(plan: &Arc<dyn ExecutionPlan>) -> [bool; 2] {
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let shares_build = *join.partition_mode() == PartitionMode::CollectLeft;
        let [left, right] = splits_side(*join.join_type());
        return if join.null_aware { [false, false] } else { [left && !shares_build, right] };
    }
    if let Some(join) = plan.downcast_ref::<SortMergeJoinExec>() {
        return splits_side(join.join_type());
    }
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
        return [false, splits_side(*join.join_type())[1]];
    }
    if plan.is::<CrossJoinExec>() {
        return [false, true];
    }
    let sorts_all = plan.downcast_ref::<SortExec>().is_some_and(|sort| sort.fetch().is_none());
    let is_partial = plan.downcast_ref::<AggregateExec>().is_some_and(|aggregate| {
        *aggregate.mode() == AggregateMode::Partial && aggregate.limit_options().is_none()
    });
    let is_row_by_row = plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<UnnestExec>()
        || plan.is::<ForgetExec>()
        || plan.is::<RuntimeFilterExec>()
        || plan.is::<ScalarSubqueryExec>();
    [is_row_by_row || is_partial || sorts_all, false]
}

/// The sides of a join that may be divided: those of which the other one gives nothing but matches.
fn splits_side(join: JoinType) -> [bool; 2] {
    match join {
        JoinType::Inner => [true, true],
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => [true, false],
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => [false, true],
        JoinType::Full => [false, false],
    }
}
