//! Rewrites what is right in one process and wrong, or impossible, when each partition runs by itself.

use std::sync::Arc;

use datafusion::{
    common::{
        JoinType,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    datasource::sink::DataSinkExec,
    physical_expr::{Partitioning, PhysicalExpr},
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties,
        analyze::AnalyzeExec,
        coalesce_partitions::CoalescePartitionsExec,
        empty::EmptyExec,
        execution_plan::replace_children_if_necessary,
        explain::ExplainExec,
        joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode},
        memory::LazyMemoryExec,
        projection::{ProjectionExec, ProjectionExpr},
        recursive_query::RecursiveQueryExec,
        repartition::RepartitionExec,
        sorts::sort::SortExec,
    },
};

use crate::{balance::balanced, error::PlanError};

/// Bottom-up over `plan`, but not into a recursive query, which runs whole in one task.
///
/// The result has the schema and the rows of `plan`, and one or as many partitions at its root.
pub(crate) fn prepare(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
    refuse_unsupported(&plan)?;
    if let Some(series) =
        plan.downcast_ref::<LazyMemoryExec>().filter(|series| series.schema().fields().is_empty())
    {
        return rows_of_series(series).map_err(PlanError::datafusion("a series"));
    }
    if plan.is::<RecursiveQueryExec>() {
        return Ok(plan);
    }
    if let Some(scan) = balanced(&plan) {
        return Ok(scan);
    }
    let children = plan.children().into_iter().cloned().map(prepare).collect::<Result<Vec<_>, _>>()?;
    let plan = replace_children_if_necessary(plan, children).map_err(PlanError::datafusion("an operator"))?;
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let shares_build = *join.partition_mode() == PartitionMode::CollectLeft;
        if shares_build && emits_build_rows(*join.join_type()) && partitions(join.right()) > 1 {
            return one_build_side_each(join).map_err(PlanError::datafusion("a hash join"));
        }
    }
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>()
        && emits_build_rows(*join.join_type())
        && partitions(join.right()) > 1
    {
        return in_one_task(Arc::clone(&plan)).map_err(PlanError::datafusion("a nested loop join"));
    }
    if let Some(repartition) = plan.downcast_ref::<RepartitionExec>()
        && repartition.preserve_order()
    {
        return sort_again(repartition).map_err(PlanError::datafusion("a repartition that keeps its order"));
    }
    Ok(plan)
}

/// `plan` with one partition, for a task that runs all of it; nothing inside needs a change.
///
/// # Errors
/// Of the same operators as [`prepare`].
pub(crate) fn prepare_whole(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, PlanError> {
    let mut refused = Ok(());
    let walked = plan.apply(|node| {
        refused = refuse_unsupported(node);
        Ok(if refused.is_err() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(PlanError::datafusion("a plan"))?;
    refused?;
    Ok(if partitions(&plan) > 1 { Arc::new(CoalescePartitionsExec::new(plan)) } else { plan })
}

fn refuse_unsupported(plan: &Arc<dyn ExecutionPlan>) -> Result<(), PlanError> {
    let reason = if plan.is::<DataSinkExec>() {
        "a statement that writes must go through `write_plan`, for a task that is tried again would write twice"
    } else if plan.is::<ExplainExec>() || plan.is::<AnalyzeExec>() {
        "EXPLAIN is answered by the scheduler, as the outermost statement only"
    } else if is_unbounded(plan) {
        "its input never ends"
    } else {
        return Ok(());
    };
    Err(PlanError::Unsupported { operator: plan.name().to_owned(), reason: reason.to_owned() })
}

fn is_unbounded(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.children().is_empty() && plan.boundedness().is_unbounded()
}

fn partitions(plan: &Arc<dyn ExecutionPlan>) -> usize {
    plan.output_partitioning().partition_count()
}

/// Whether a join emits rows of its build side by what all its probe partitions together have matched: with a build
/// side of its own each task would emit those that matched elsewhere.
pub(crate) fn emits_build_rows(join: JoinType) -> bool {
    match join {
        JoinType::Left | JoinType::Full | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
            true
        }
        JoinType::Inner
        | JoinType::Right
        | JoinType::RightSemi
        | JoinType::RightAnti
        | JoinType::RightMark => false,
    }
}

/// Partitions both sides by the keys, so that a build row has all its matches in one task.
///
/// A null-aware anti join must see every probe row, for a null among them empties the result: it is one task.
fn one_build_side_each(join: &HashJoinExec) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    if join.null_aware {
        return in_one_task(join.builder().build_exec()?);
    }
    let count = partitions(join.right());
    let by_key = |input: &Arc<dyn ExecutionPlan>, keys: Vec<Arc<dyn PhysicalExpr>>| {
        let spread = RepartitionExec::try_new(Arc::clone(input), Partitioning::Hash(keys, count))?;
        Ok::<_, datafusion::error::DataFusionError>(Arc::new(spread) as Arc<dyn ExecutionPlan>)
    };
    let gathered =
        join.left().downcast_ref::<CoalescePartitionsExec>().filter(|gather| gather.fetch().is_none());
    let left = gathered.map_or(join.left(), CoalescePartitionsExec::input);
    let left = by_key(left, join.on().iter().map(|(key, _)| Arc::clone(key)).collect())?;
    let right = by_key(join.right(), join.on().iter().map(|(_, key)| Arc::clone(key)).collect())?;
    join.builder()
        .with_partition_mode(PartitionMode::Partitioned)
        .recompute_properties()
        .with_new_children(vec![left, right])?
        .build_exec()
}

/// Gathers the probe side of a join.
fn in_one_task(join: Arc<dyn ExecutionPlan>) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let mut children: Vec<_> = join.children().into_iter().cloned().collect();
    if let Some(probe) = children.pop() {
        children.push(Arc::new(CoalescePartitionsExec::new(probe)));
    }
    replace_children_if_necessary(join, children)
}

/// datafusion-proto forgets that a series was projected to no column, and then its batches do not fit its schema. So the
/// series keeps its column, and a projection drops it.
fn rows_of_series(series: &LazyMemoryExec) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let generators: Vec<_> =
        series.generators().iter().map(|generator| generator.read().reset_state()).collect();
    // The only place where a generator tells its column is a batch.
    let mut sample = None;
    for generator in &generators {
        if sample.is_none() {
            sample = generator.read().reset_state().write().generate_next_batch()?;
        }
    }
    let Some(sample) = sample else { return Ok(Arc::new(EmptyExec::new(series.schema()))) };
    let series = Arc::new(LazyMemoryExec::try_new(sample.schema(), generators)?);
    Ok(Arc::new(ProjectionExec::try_new(Vec::<ProjectionExpr>::new(), series)?))
}

/// An exchange's reader takes rows as they come; it sorts them instead of merging sorted runs.
fn sort_again(repartition: &RepartitionExec) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let ordering = repartition.properties().output_ordering().cloned();
    let spread: Arc<dyn ExecutionPlan> = Arc::new(RepartitionExec::try_new(
        Arc::clone(repartition.input()),
        repartition.partitioning().clone(),
    )?);
    Ok(match ordering {
        Some(ordering) => Arc::new(SortExec::new(ordering, spread).with_preserve_partitioning(true)),
        None => spread,
    })
}

/// Calls `f` with every expression of `plan` and of all below it, stopping early when it returns true.
pub(crate) fn any_expression(
    plan: &Arc<dyn ExecutionPlan>,
    f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> bool,
) -> datafusion::error::Result<bool> {
    let mut found = false;
    plan.apply_expressions(&mut |root| {
        root.apply(|expr| {
            found = found || f(expr);
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    for child in plan.children() {
        found = found || any_expression(child, f)?;
    }
    Ok(found)
}
