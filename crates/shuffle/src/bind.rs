//! Puts readers where a task's plan says "the output of stage N".

use std::{ops::Range, sync::Arc};

use datafusion::{
    common::{
        internal_datafusion_err,
        tree_node::{Transformed, TransformedResult, TreeNode},
    },
    error::Result,
    physical_plan::ExecutionPlan,
};
use polybolos_model::{ExecutorId, FetchFailure, JobId, ReadMode};
use polybolos_planner::{Maps, StageInputExec};

use crate::{
    FlightPool, MapOutput, ShuffleReaderExec, ShuffleStore, StageInputs,
    sources::{Origin, Source},
};

/// Replaces every [`StageInputExec`] of `plan` by a [`ShuffleReaderExec`]. Outputs on executor `me` are read from
/// `store`, the others through `pool`, and those of lost executors from the durable side of `store`.
///
/// # Errors
/// `inputs` lacks a stage, or an upstream task of it.
pub fn bind_inputs(
    plan: Arc<dyn ExecutionPlan>,
    inputs: Arc<StageInputs>,
    store: Arc<ShuffleStore>,
    pool: Arc<FlightPool>,
    me: &ExecutorId,
) -> Result<Arc<dyn ExecutionPlan>> {
    let bind = |node: Arc<dyn ExecutionPlan>| {
        let Some(input) = node.downcast_ref::<StageInputExec>() else { return Ok(Transformed::no(node)) };
        let partitions = sources(input, &inputs, me)?;
        let (store, pool) = (Arc::clone(&store), Arc::clone(&pool));
        let reader =
            ShuffleReaderExec::new(input.stage(), partitions, store, pool, Arc::clone(input.properties()));
        Ok(Transformed::yes(Arc::new(reader) as Arc<dyn ExecutionPlan>))
    };
    plan.transform_up(bind).data()
}

/// What each partition of `input` reads.
fn sources(input: &StageInputExec, inputs: &StageInputs, me: &ExecutorId) -> Result<Vec<Vec<Source>>> {
    let stage = input.stage();
    let maps = inputs.stages.get(&stage).ok_or_else(|| {
        internal_datafusion_err!("nothing was said about where the output of stage {stage} is")
    })?;
    let takes_all = input.reads(0).maps == Maps::All;
    let mut numbered = (0u32..).zip(maps);
    if let Some((missing, _)) = numbered.find(|(at, map)| !takes_all && map.map_partition != *at) {
        return Err(internal_datafusion_err!(
            "the output of stage {stage} partition {missing} was not named"
        ));
    }
    // More than were planned come in no order.
    let is_sorted = input.properties().output_ordering().is_some();
    if input.read() == ReadMode::All && is_sorted && maps.len() > input.partitions() {
        let (found, expected) = (maps.len(), input.partitions());
        return Err(internal_datafusion_err!(
            "stage {stage} has {expected} tasks, and {found} outputs were named"
        ));
    }
    let partition = |number: usize| {
        let reads = input.reads(number);
        let read = maps.iter().filter(|map| reads.maps.contain(map.map_partition));
        let source = |map: &MapOutput| source(inputs.job, input, map, &reads.outputs, me);
        let mut sources: Vec<Source> = read.filter_map(source).collect();
        if reads.maps == Maps::All && sources.len() > 2 && polybolos_model::mutant!("forget-upstream") {
            sources.pop();
        }
        // Each reader starts elsewhere, so that not all begin with the same executor.
        let start = reads.outputs.start as usize % sources.len().max(1);
        sources.rotate_left(start);
        sources
    };
    Ok((0..input.partitions()).map(partition).collect())
}

/// `None` when it is known to be empty.
fn source(
    job: JobId,
    input: &StageInputExec,
    map: &MapOutput,
    outputs: &Range<u32>,
    me: &ExecutorId,
) -> Option<Source> {
    let stats = map.stats(outputs);
    if stats.is_some_and(|stats| stats.rows == 0) {
        return None;
    }
    let stage = input.stage();
    let executor = map.executor.clone();
    let origin = if map.address.is_empty() {
        // Also of an earlier life of this executor.
        Origin::Durable
    } else if executor == *me {
        Origin::Here
    } else {
        Origin::Executor(map.address.clone())
    };
    Some(Source {
        key: map.key(job, stage),
        partitions: outputs.clone(),
        origin,
        lost: FetchFailure { executor, stage, map_partition: map.map_partition, attempt: map.attempt },
        stats,
    })
}
