//! From a stage's bytes to its template, and from the template to the plan of one task.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::{
    common::tree_node::{Transformed, TransformedResult, TreeNode},
    config::ConfigOptions,
    execution::{SessionState, TaskContext},
    physical_optimizer::{PhysicalOptimizerRule, filter_pushdown::FilterPushdown},
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties,
        coop::CooperativeExec,
        joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec},
        unnest::UnnestExec,
    },
};
use datafusion_proto::{
    bytes::physical_plan_from_bytes_with_proto_converter,
    physical_plan::{DeduplicatingProtoConverter, PhysicalExtensionCodec},
};
use polybolos_model::{Share, StageId};

use crate::{
    claims::check_claims,
    error::PlanError,
    extensions::Extensions,
    held::Holding,
    metrics::Shape,
    narrow::narrow,
    output::{StageOutputExec, TaskOutput, TaskPlan},
    pick::PickExec,
    resume::resuming,
    shared_build::{StageBuilds, sharing},
    spilling::with_spilling_joins,
};

/// A stage as its tasks share it, from [`decode_stage`].
#[derive(Debug)]
pub struct StageTemplate {
    stage: StageId,
    tasks: usize,
    shape: Shape,
    source: Source,
    /// What was decoded, until the first task takes it: nothing that a task has filled stays here.
    first: Mutex<Option<StageOutputExec>>,
}

/// What it takes to make a plan with state of its own: it is decoded anew.
#[derive(Debug)]
struct Source {
    bytes: Bytes,
    context: Arc<TaskContext>,
    codec: Arc<dyn PhysicalExtensionCodec>,
    options: Arc<ConfigOptions>,
}

/// Decodes a stage for its tasks. Partition `p` of its plan is task `p`.
///
/// `state` must know the functions of the plan and, in its runtime, the object stores of its files; its options are
/// those of the tasks.
///
/// # Errors
/// [`PlanError::Decode`] if the bytes are of another version, name a function that `state` lacks, or hold rows that claim
/// more memory than they can take; [`PlanError::NotAStage`] if they are another plan.
pub fn decode_stage(
    bytes: &[u8],
    state: &SessionState,
    extensions: &Extensions,
) -> Result<StageTemplate, PlanError> {
    check_claims(bytes).map_err(|error| PlanError::Decode(error.strip_backtrace()))?;
    let source = Source {
        bytes: Bytes::copy_from_slice(bytes),
        context: state.task_ctx(),
        codec: extensions.codec(),
        options: Arc::clone(state.config_options()),
    };
    let root = decode(&source)?;
    Ok(StageTemplate {
        stage: root.stage(),
        tasks: root.input().output_partitioning().partition_count(),
        shape: Shape::of(root.input()),
        source,
        first: Mutex::new(Some(root)),
    })
}

fn decode(source: &Source) -> Result<StageOutputExec, PlanError> {
    let plan = physical_plan_from_bytes_with_proto_converter(
        &source.bytes,
        &source.context,
        source.codec.as_ref(),
        &DeduplicatingProtoConverter {},
    )
    .map_err(|error| PlanError::Decode(error.strip_backtrace()))?;
    stage_root(&plan).cloned()
}

pub(crate) fn stage_root(plan: &Arc<dyn ExecutionPlan>) -> Result<&StageOutputExec, PlanError> {
    plan.downcast_ref::<StageOutputExec>()
        .ok_or_else(|| PlanError::NotAStage { root: plan.name().to_owned() })
}

/// The plan of task `partition`, with state of its own.
///
/// For the first task that is what [`decode_stage`] has decoded, and for the others it is decoded again: metrics, join tables, dynamic filters, work queues of
/// scans and subquery results live inside DataFusion's operators, and no other way leaves none of them shared, or alive for
/// as long as the template.
/// Dynamic filters are planted here, for a task is the largest part of a query that has memory in common.
///
/// # Errors
/// [`PlanError::NoSuchTask`], or DataFusion's refusal to rebuild an operator.
pub fn task_plan(template: &StageTemplate, partition: u32) -> Result<TaskPlan, PlanError> {
    template.narrowed(partition)?.ready()
}

/// As [`task_plan`], of the task that reads `share` of the partitioned inputs.
///
/// # Errors
/// As [`task_plan`].
pub fn share_plan(template: &StageTemplate, share: Share) -> Result<TaskPlan, PlanError> {
    template.narrowed_to(share)?.ready()
}

/// As [`share_plan`], but the hash tables of its broadcast joins come from `builds`, where all tasks of the stage that are run
/// here share them. `builds` must be of this very template, whose inputs are always bound alike.
///
/// # Errors
/// As [`task_plan`].
pub fn sharing_task_plan(
    template: &StageTemplate,
    share: Share,
    builds: &StageBuilds,
) -> Result<TaskPlan, PlanError> {
    let task = share_plan(template, share)?;
    if template.tasks == 1 {
        return Ok(task);
    }
    let plan = sharing(Arc::clone(&task.plan), builds);
    Ok(task.with_plan(plan.map_err(PlanError::datafusion("sharing the tables of broadcast joins"))?))
}

/// As [`task_plan`], for a task that ran out of memory: what would be hash joins, which can't go to disk, are sort-merge
/// joins, and nested loop joins have the sides with which they can. The same rows in another order; `None` if the task has
/// no join that could be replaced.
///
/// # Errors
/// As [`task_plan`].
pub fn spilling_task_plan(template: &StageTemplate, partition: u32) -> Result<Option<TaskPlan>, PlanError> {
    spilling_share_plan(template, Share::one(partition))
}

/// As [`spilling_task_plan`], of the task that reads `share` of the partitioned inputs.
///
/// # Errors
/// As [`task_plan`].
pub fn spilling_share_plan(template: &StageTemplate, share: Share) -> Result<Option<TaskPlan>, PlanError> {
    let narrowed = template.narrowed_to(share)?;
    let spilling = with_spilling_joins(Arc::clone(&narrowed.plan));
    let spilling = spilling.map_err(PlanError::datafusion("replacing joins"))?;
    spilling.map(|plan| Narrowed { plan, ..narrowed }.ready()).transpose()
}

impl StageTemplate {
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// One partition.
    fn narrowed(&self, partition: u32) -> Result<Narrowed<'_>, PlanError> {
        self.narrowed_to(Share::one(partition))
    }

    fn narrowed_to(&self, share: Share) -> Result<Narrowed<'_>, PlanError> {
        let last = share.end.saturating_sub(1).max(share.first);
        if last as usize >= self.tasks {
            return Err(PlanError::NoSuchTask { stage: self.stage, tasks: self.tasks, partition: last });
        }
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let fresh = first.map_or_else(|| decode(&self.source), Ok)?;
        let plan = narrow(fresh.input(), share).map_err(PlanError::datafusion("narrowing a stage"))?;
        Ok(Narrowed { plan, output: fresh.output().clone(), source: &self.source })
    }
}

/// A task's plan without what is added to it at the end.
struct Narrowed<'a> {
    plan: Arc<dyn ExecutionPlan>,
    output: TaskOutput,
    source: &'a Source,
}

impl Narrowed<'_> {
    fn ready(self) -> Result<TaskPlan, PlanError> {
        let plan = Holding::filters(FilterPushdown::new_post_optimization())
            .optimize(self.plan, &self.source.options)
            .and_then(unseal)
            .and_then(yield_often)
            .and_then(resuming)
            .map_err(PlanError::datafusion("planting dynamic filters"))?;
        Ok(TaskPlan { plan, output: self.output })
    }
}

/// Lets a cancel in. An operator that makes many batches of one input batch can keep the operators above it in a loop for
/// hours without using up the budget of a source; so it has a budget of its own.
fn yield_often(plan: Arc<dyn ExecutionPlan>) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let multiplies = node.is::<CrossJoinExec>()
            || node.is::<HashJoinExec>()
            || node.is::<NestedLoopJoinExec>()
            || node.is::<SortMergeJoinExec>()
            || node.is::<UnnestExec>();
        Ok(if multiplies {
            Transformed::yes(Arc::new(CooperativeExec::new(node)) as _)
        } else {
            Transformed::no(node)
        })
    })
    .data()
}

/// Shows what the optimizer must not see to everyone else.
fn unseal(plan: Arc<dyn ExecutionPlan>) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    plan.transform_down(|node| {
        let open = node.downcast_ref::<PickExec>().and_then(PickExec::unsealed);
        Ok(open.map_or_else(|| Transformed::no(node), |open| Transformed::yes(Arc::new(open) as _)))
    })
    .data()
}
