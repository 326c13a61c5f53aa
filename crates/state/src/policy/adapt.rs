//! Which stages can be adapted to the sizes of their inputs, now that these are complete or about to be.
//!
//! A decision goes into the very entry that makes a stage's inputs complete, so that nothing waits for one of its own. Where
//! a leader looks ahead it is made on what is foreseen, and stands behind what it was made on.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{
    AttemptId, Exchange, JobId, PartitionStats, ReadMode, Share, Stage, StageId,
    settings::{COALESCE_BYTES, SKEW_BYTES, SKEW_FACTOR},
};

use super::shares::{Measured, ShareLimits, shares};
use crate::{ClusterState, Command, Job};

/// Sizes that completions tell which are not in the state yet.
type Told<'a> = BTreeMap<(StageId, u32), &'a [PartitionStats]>;

/// What can be decided of `jobs`, and of those of which `requests` complete tasks, once these are applied. `after` is the
/// last attempt that the leader has named. What is wrong about a guess is refused by the log, and decided anew.
pub fn adaptations<'a>(
    state: &ClusterState,
    requests: impl Iterator<Item = &'a Command>,
    jobs: impl Iterator<Item = JobId>,
    after: AttemptId,
) -> Vec<Command> {
    let mut told: BTreeMap<JobId, Told<'a>> = BTreeMap::new();
    let mut decided = BTreeSet::new();
    for command in requests {
        match command {
            Command::CompleteTask { task, outputs, .. } | Command::CompleteTaskIn { task, outputs, .. } => {
                told.entry(task.job).or_default().entry((task.stage, task.partition)).or_insert(outputs);
            }
            Command::AdaptStage { job, stage, .. } => {
                decided.insert((*job, *stage));
            }
            _ => {}
        }
    }
    for job in jobs {
        told.entry(job).or_default();
    }
    let mut commands = Vec::new();
    for (id, told) in &told {
        let Some(job) = state.running_job(*id).filter(|job| job.graph.is_adaptive()) else { continue };
        // By another decision of the same entry an input has other tasks than the state says.
        let is_open = |stage: StageId| !decided.contains(&(*id, stage));
        let due = job.graph.stages.iter().filter(|stage| stage.is_undecided());
        for stage in due.filter(|of| is_open(of.id) && of.inputs.iter().all(|input| is_open(input.stage))) {
            let Some(inputs) = measured(job, stage, told) else { continue };
            let shares = divided(state, job, stage, &inputs);
            commands.push(Command::AdaptStage { job: *id, stage: stage.id, shares, after });
        }
    }
    commands
}

/// The partitioned inputs, if all inputs are complete.
fn measured<'a>(job: &'a Job, stage: &Stage, told: &Told<'a>) -> Option<Vec<Measured<'a>>> {
    let mut inputs = Vec::new();
    for input in &stage.inputs {
        let run = job.run(input.stage)?;
        let known = |(task, partition)| -> Option<&'a [PartitionStats]> {
            let task: &'a crate::TaskRun = task;
            let done = task.completed.as_ref().map(|done| done.outputs.as_slice());
            done.or_else(|| told.get(&(input.stage, partition)).copied())
        };
        if run.open.len() > told.len() {
            return None;
        }
        let maps: Vec<_> = run.tasks.iter().zip(0..).map(known).collect::<Option<_>>()?;
        if let ReadMode::Adaptive { splits } = input.read {
            inputs.push(Measured { stage: input.stage, splits, maps });
        }
    }
    Some(inputs)
}

fn divided(state: &ClusterState, job: &Job, stage: &Stage, inputs: &[Measured<'_>]) -> Vec<Share> {
    let is_result = stage.exchange == Exchange::Result;
    // Whoever reads a result in its order takes partition by partition.
    if is_result && job.ordered {
        return Vec::new();
    }
    // Those who merge sorted outputs have a place for as many as were planned.
    let may_split = !is_result && stage.exchange != Exchange::Merge;
    let takers = state.executors().filter(|executor| executor.takes_tasks());
    let limits = ShareLimits {
        coalesce_bytes: COALESCE_BYTES.bytes_in(&job.options),
        skew_bytes: if may_split { SKEW_BYTES.bytes_in(&job.options) } else { 0 },
        skew_factor: SKEW_FACTOR.decimal_in(&job.options),
        slots: takers.map(|executor| u64::from(executor.slots)).sum(),
    };
    let shares = shares(inputs, stage.tasks, limits);
    let coalesces = shares.iter().any(|share| share.width() > 1);
    polybolos_model::sometimes!("neighbouring partitions were coalesced", coalesces);
    let splits = shares.iter().any(|share| share.split.is_some());
    polybolos_model::sometimes!("a skewed partition was split", splits);
    // Nobody would run the stage if the log refused this.
    if job.graph.check_shares(stage, &shares).is_ok() { shares } else { Vec::new() }
}
