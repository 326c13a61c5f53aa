//! Makes a plan of one partition out of a stage's plan of many.

use std::sync::Arc;

use datafusion::{
    common::{
        internal_datafusion_err,
        tree_node::{Transformed, TransformedResult, TreeNode},
    },
    datasource::{
        physical_plan::{FileScanConfig, FileScanConfigBuilder},
        source::DataSourceExec,
    },
    error::Result,
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties, Partitioning,
        aggregates::AggregateExec,
        async_func::AsyncFuncExec,
        buffer::BufferExec,
        coop::CooperativeExec,
        execution_plan::replace_children_if_necessary,
        filter::FilterExec,
        joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode, SortMergeJoinExec},
        limit::LocalLimitExec,
        projection::ProjectionExec,
        scalar_subquery::ScalarSubqueryExec,
        sorts::{partitioned_topk::PartitionedTopKExec, sort::SortExec},
        union::{InterleaveExec, UnionExec},
        unnest::UnnestExec,
        windows::{BoundedWindowAggExec, WindowAggExec},
    },
};
use polybolos_model::{ReadMode, Share};

use crate::{
    forget::ForgetExec,
    input::StageInputExec,
    pick::PickExec,
    runtime_filter::{KeySummaryExec, RuntimeFilterExec},
    write::WriteExec,
};

/// `plan` with the partitions of `share` as its only one. Several, or a part of one, only of a stage whose inputs are
/// [`polybolos_model::ReadMode::Adaptive`].
///
/// Children of one partition (build sides that all share, gathered inputs) stay whole. What can't be narrowed keeps
/// all its partitions below a [`PickExec`].
pub(crate) fn narrow(plan: &Arc<dyn ExecutionPlan>, share: Share) -> Result<Arc<dyn ExecutionPlan>> {
    if plan.output_partitioning().partition_count() == 1 {
        return Ok(Arc::clone(plan));
    }
    if let Some(input) = plan.downcast_ref::<StageInputExec>() {
        if input.read() == ReadMode::Partition {
            return Ok(Arc::new(input.narrow(share)));
        }
        return pick(plan, only(share)?);
    }
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        return narrow_scan(plan, scan, only(share)?);
    }
    if plan.is::<UnionExec>() {
        return narrow_union(plan, only(share)?);
    }
    let Some(narrowed) = children_by_partition(plan) else { return pick(plan, only(share)?) };
    let mut children = vec![];
    for (child, by_partition) in plan.children().into_iter().zip(narrowed) {
        children.push(if by_partition { narrow(child, share)? } else { Arc::clone(child) });
    }
    let narrowed = replace_children_if_necessary(Arc::clone(plan), children)?;
    if narrowed.output_partitioning().partition_count() == 1 {
        Ok(narrowed)
    } else {
        pick(plan, only(share)?)
    }
}

/// The one partition that a share is.
fn only(share: Share) -> Result<usize> {
    match share {
        Share { first, split: None, .. } if share.width() == 1 => Ok(first as usize),
        other => Err(internal_datafusion_err!(
            "an operator that gives partitions one by one is asked for {other:?}"
        )),
    }
}

/// For each child whether partition `p` of `plan` reads partition `p` of it and nothing else of it; `None` for an
/// operator of which that isn't known.
pub(crate) fn children_by_partition(plan: &Arc<dyn ExecutionPlan>) -> Option<Vec<bool>> {
    let count = plan.children().len();
    if plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<AggregateExec>()
        || plan.is::<SortExec>()
        || plan.is::<PartitionedTopKExec>()
        || plan.is::<BoundedWindowAggExec>()
        || plan.is::<WindowAggExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<UnnestExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<BufferExec>()
        || plan.is::<AsyncFuncExec>()
        || plan.is::<SortMergeJoinExec>()
        || plan.is::<InterleaveExec>()
        || plan.is::<ForgetExec>()
        || plan.is::<WriteExec>()
        || plan.is::<KeySummaryExec>()
    {
        return Some(vec![true; count]);
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        return Some(vec![*join.partition_mode() != PartitionMode::CollectLeft, true]);
    }
    if plan.is::<NestedLoopJoinExec>() || plan.is::<CrossJoinExec>() {
        return Some(vec![false, true]);
    }
    if plan.is::<ScalarSubqueryExec>() || plan.is::<RuntimeFilterExec>() {
        return Some((0..count).map(|child| child == 0).collect());
    }
    None
}

fn narrow_scan(
    plan: &Arc<dyn ExecutionPlan>,
    scan: &DataSourceExec,
    partition: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(files) = scan.data_source().downcast_ref::<FileScanConfig>() else {
        return pick(plan, partition);
    };
    let group = files.file_groups.get(partition).cloned().unwrap_or_default();
    // A declared partitioning counts its partitions; one of them needs none.
    let partitioning = match &files.output_partitioning {
        Some(Partitioning::Hash(keys, _)) => Some(Partitioning::Hash(keys.clone(), 1)),
        _ => None,
    };
    let files = FileScanConfigBuilder::from(files.clone())
        .with_file_groups(vec![group])
        .with_output_partitioning(partitioning)
        .build();
    Ok(DataSourceExec::from_data_source(files))
}

/// Narrows the child that owns `partition` and picks it; the others are never run.
fn narrow_union(plan: &Arc<dyn ExecutionPlan>, partition: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let mut children: Vec<Arc<dyn ExecutionPlan>> = vec![];
    let mut before = 0;
    let mut owner = None;
    for child in plan.children() {
        let count = child.output_partitioning().partition_count();
        if owner.is_none() && partition - before < count {
            let own = u32::try_from(partition - before).unwrap_or(u32::MAX);
            children.push(narrow(child, Share::one(own))?);
            owner = Some(before);
        } else {
            children.push(Arc::clone(child));
            before += if owner.is_none() { count } else { 0 };
        }
    }
    let union = replace_children_if_necessary(Arc::clone(plan), children)?;
    Ok(Arc::new(PickExec::new(union, owner.unwrap_or(partition))))
}

/// Keeps all partitions of `plan` below and runs one.
///
/// A scan may let a partition read the files of its idle siblings, and here they are idle for ever: it must not.
fn pick(plan: &Arc<dyn ExecutionPlan>, partition: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let alone = Arc::clone(plan).transform_up(|node| {
        let scan = node.downcast_ref::<DataSourceExec>().and_then(|scan| scan.with_preserve_order(true));
        Ok(scan.map_or_else(|| Transformed::no(node), Transformed::yes))
    });
    Ok(Arc::new(PickExec::new(alone.data()?, partition).sealed()))
}
