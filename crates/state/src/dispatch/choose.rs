//! Where a task runs.

use std::{cmp::Reverse, collections::BTreeMap};

use polybolos_model::{ExecutorId, Incarnation, ReadMode, Stage};

use super::Dispatcher;
use crate::{ClusterState, Job, TaskRun, limits::MAX_LOCALITY_MAPS};

/// Free slots of the executors that take tasks and have a stream.
pub(super) struct Slots {
    by_executor: BTreeMap<ExecutorId, Slot>,
    free: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    incarnation: Incarnation,
    free: usize,
}

impl Slots {
    pub(super) fn free(dispatcher: &Dispatcher, state: &ClusterState) -> Self {
        let mut by_executor = BTreeMap::new();
        for (id, &incarnation) in &dispatcher.attached {
            let Some(executor) = state.present(id, incarnation).filter(|e| e.takes_tasks()) else { continue };
            let free = (executor.slots as usize).saturating_sub(dispatcher.busy_slots(id));
            by_executor.insert(id.clone(), Slot { incarnation, free });
        }
        let free = by_executor.values().map(|slot| slot.free).sum();
        Self { by_executor, free }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free == 0
    }

    /// Takes a slot for the task: on the executor with the most free slots; among equals where most of its input
    /// is, then where fewest of its stage run, then by id. Never where an attempt of it has failed while there is
    /// an executor that has not failed it: it waits for a slot there instead. `None` when it has to wait.
    pub(super) fn take(
        &mut self,
        dispatcher: &Dispatcher,
        job: &Job,
        stage: &Stage,
        partition: u32,
    ) -> Option<(ExecutorId, Incarnation)> {
        let task = job.task(stage.id, partition)?;
        let executor = self.choose(dispatcher, job, stage, partition, task)?.clone();
        let slot = self.by_executor.get_mut(&executor)?;
        slot.free -= 1;
        self.free -= 1;
        Some((executor, slot.incarnation))
    }

    fn choose(
        &self,
        dispatcher: &Dispatcher,
        job: &Job,
        stage: &Stage,
        partition: u32,
        task: &TaskRun,
    ) -> Option<&ExecutorId> {
        let all_failed = self.by_executor.keys().all(|id| task.failed_on(id));
        let allowed = |id: &ExecutorId| all_failed || !task.failed_on(id);
        let candidates = || self.by_executor.iter().filter(|(id, slot)| slot.free > 0 && allowed(id));
        let most = candidates().map(|(_, slot)| slot.free).max()?;
        let freest: Vec<&ExecutorId> =
            candidates().filter(|(_, s)| s.free == most).map(|(id, _)| id).collect();
        if let [only] = freest.as_slice() {
            return Some(only);
        }
        let input_bytes = input_bytes(job, stage, partition);
        let bytes = |id: &ExecutorId| input_bytes.get(id).copied().unwrap_or(0);
        let of_stage = |id: &ExecutorId| {
            let attempts = dispatcher.by_executor.get(id).into_iter().flatten();
            let tasks =
                attempts.filter_map(|attempt| dispatcher.running.get(attempt)).map(|running| running.task);
            tasks.filter(|task| task.job == job.id && task.stage == stage.id).count()
        };
        freest.into_iter().max_by_key(|id| (bytes(id), Reverse(of_stage(id)), Reverse(*id)))
    }
}

/// What the task reads from each executor. Below a union partitions are numbered anew, so this may be a neighbour's
/// share: good enough for a preference.
fn input_bytes<'a>(job: &'a Job, stage: &Stage, partition: u32) -> BTreeMap<&'a ExecutorId, u64> {
    let mut bytes = BTreeMap::new();
    for input in &stage.inputs {
        let Some(run) = job.run(input.stage).filter(|run| run.tasks.len() <= MAX_LOCALITY_MAPS) else {
            continue;
        };
        let output = match input.read {
            ReadMode::Partition => partition as usize,
            ReadMode::All => 0,
        };
        for (_, done) in run.completed() {
            let sum: &mut u64 = bytes.entry(&done.executor).or_default();
            *sum = sum.saturating_add(done.outputs.get(output).map_or(0, |stats| stats.bytes));
        }
    }
    bytes
}
