//! Where a task runs: the slots that a plan deals out, and the memory beside them.

use std::{cmp::Reverse, collections::BTreeMap};

use polybolos_model::{ExecutorId, Incarnation, ReadMode, Share, Stage, TaskId};

use super::Dispatcher;
use crate::{ClusterState, Job, TaskRun, limits::MAX_LOCALITY_MAPS};

/// Free slots of the executors that take tasks and have a stream.
pub(super) struct Slots {
    by_executor: BTreeMap<ExecutorId, Slot>,
    free: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    incarnation: Incarnation,
    free: usize,
    /// Attempts that run there.
    busy: usize,
    /// 0 if there is no limit.
    memory_bytes: u64,
    /// What those attempts were said to need.
    needed_bytes: u64,
}

impl Slot {
    /// Nothing runs there, and nothing keeps others away.
    fn is_idle(&self) -> bool {
        self.busy == 0 && self.free > 0
    }

    /// Whether it has a slot, and memory beside what runs there.
    fn fits(&self, needs_bytes: u64) -> bool {
        let sum = self.needed_bytes.saturating_add(needs_bytes);
        self.free > 0 && (self.memory_bytes == 0 || sum <= self.memory_bytes)
    }

    fn free_bytes(&self) -> u64 {
        self.memory_bytes.saturating_sub(self.needed_bytes)
    }
}

/// A task that is to run.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) state: &'a ClusterState,
    pub(super) job: &'a Job,
    pub(super) stage: &'a Stage,
    pub(super) partition: u32,
    /// See [`super::estimate`].
    pub(super) needs_bytes: u64,
}

impl Slots {
    pub(super) fn free(dispatcher: &Dispatcher, state: &ClusterState) -> Self {
        let mut by_executor = BTreeMap::new();
        for (id, &incarnation) in &dispatcher.attached {
            let Some(executor) = state.present(id, incarnation).filter(|e| e.takes_tasks()) else { continue };
            let busy = dispatcher.busy_slots(id);
            let is_closed = dispatcher.runs_alone_on(id);
            let free = if is_closed { 0 } else { (executor.slots as usize).saturating_sub(busy) };
            let (memory_bytes, needed_bytes) = (executor.memory_bytes, dispatcher.needed_bytes(id));
            let slot = Slot { incarnation, free, busy, memory_bytes, needed_bytes };
            by_executor.insert(id.clone(), slot);
        }
        // Never all at once: then it is not they that are bad, and somebody must run the tasks.
        let is_good = |id: &ExecutorId, slot: &Slot| !dispatcher.is_set_aside(id, slot.incarnation);
        if by_executor.iter().any(|(id, slot)| is_good(id, slot)) {
            by_executor.retain(|id, slot| is_good(id, slot));
        }
        let free = by_executor.values().map(|slot| slot.free).sum();
        Self { by_executor, free }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free == 0
    }

    pub(super) fn count(&self) -> usize {
        self.free
    }

    /// No executor takes tasks.
    pub(super) fn is_empty(&self) -> bool {
        self.by_executor.is_empty()
    }

    /// Those that may get tasks, full or not, ascending.
    pub(super) fn executors(&self) -> impl Iterator<Item = &ExecutorId> {
        self.by_executor.keys()
    }

    /// Whether [`Slots::take`] would give the task one if it needed no memory.
    pub(super) fn has_slot(&self, task: &TaskRun) -> bool {
        self.allowed(task).any(|(_, slot)| slot.free > 0)
    }

    /// Whether [`Slots::take`] would give the task one.
    pub(super) fn has_room(&self, task: &TaskRun, needs_bytes: u64) -> bool {
        self.allowed(task).any(|(_, slot)| slot.fits(needs_bytes) || slot.is_idle())
    }

    /// Where the most memory is free beside a slot, of those that the task may run on, and how much.
    pub(super) fn most_free_bytes(&self, task: &TaskRun) -> Option<(&ExecutorId, u64)> {
        let free = self.allowed(task).filter(|(_, slot)| slot.free > 0);
        let free = free.map(|(id, slot)| (id, slot.free_bytes()));
        free.max_by_key(|(id, bytes)| (*bytes, Reverse(*id)))
    }

    /// Takes a slot for the task: on the executor with the most free slots of those where it fits into memory; among equals
    /// where most of its input is, then where fewest of its stage run, then by id. Where it fits nowhere an idle one,
    /// with the most memory. Never where an attempt of it has failed while there is
    /// an executor that has not failed it: it waits for a slot there instead. And rather not where it could not read
    /// its input: the way from there to the others may be broken. `None` when it has to wait.
    pub(super) fn take(
        &mut self,
        dispatcher: &Dispatcher,
        wanted: &Wanted<'_>,
    ) -> Option<(ExecutorId, Incarnation)> {
        let task = wanted.job.task(wanted.stage.id, wanted.partition)?;
        let all_failed = self.all_failed(task);
        let allowed = |id: &ExecutorId| all_failed || !task.failed_on(id);
        let reads_well = |id: &ExecutorId| allowed(id) && !task.lost_input_on(id);
        let chosen = self
            .choose(dispatcher, wanted, reads_well)
            .or_else(|| self.choose(dispatcher, wanted, allowed))
            .or_else(|| self.roomiest_idle(reads_well))
            .or_else(|| self.roomiest_idle(allowed));
        self.occupy(chosen?.clone(), wanted.needs_bytes)
    }

    /// As [`Slots::take`], for a second attempt: only `elsewhere`, and never where one has failed.
    pub(super) fn take_copy(
        &mut self,
        dispatcher: &Dispatcher,
        wanted: &Wanted<'_>,
        elsewhere: impl Fn(&ExecutorId) -> bool,
    ) -> Option<(ExecutorId, Incarnation)> {
        let task = wanted.job.task(wanted.stage.id, wanted.partition)?;
        let allowed = |id: &ExecutorId| elsewhere(id) && !task.failed_on(id);
        let chosen = self.choose(dispatcher, wanted, allowed).or_else(|| self.roomiest_idle(allowed));
        self.occupy(chosen?.clone(), wanted.needs_bytes)
    }

    fn occupy(&mut self, executor: ExecutorId, needs_bytes: u64) -> Option<(ExecutorId, Incarnation)> {
        let slot = self.by_executor.get_mut(&executor)?;
        slot.free -= 1;
        slot.busy += 1;
        slot.needed_bytes = slot.needed_bytes.saturating_add(needs_bytes);
        self.free -= 1;
        Some((executor, slot.incarnation))
    }

    /// Nothing more goes there in this plan.
    pub(super) fn close(&mut self, executor: &ExecutorId) -> Option<Incarnation> {
        let slot = self.by_executor.get_mut(executor)?;
        self.free -= slot.free;
        slot.free = 0;
        Some(slot.incarnation)
    }

    pub(super) fn is_idle(&self, executor: &ExecutorId) -> bool {
        self.by_executor.get(executor).is_some_and(Slot::is_idle)
    }

    /// Where a task may run that has an executor to itself: with about as much memory as there is, and not where an
    /// attempt has failed while there is another one.
    pub(super) fn candidates<'a>(
        &'a self,
        task: &'a TaskRun,
    ) -> impl Iterator<Item = (&'a ExecutorId, &'a Slot)> {
        let most = self.allowed(task).map(|(_, slot)| slot.memory_bytes).max().unwrap_or(0);
        self.allowed(task).filter(move |(_, slot)| slot.memory_bytes >= most - most / 8)
    }

    /// Of those the emptiest, full or not.
    pub(super) fn roomiest(&self, task: &TaskRun) -> Option<ExecutorId> {
        self.candidates(task).min_by_key(|(id, slot)| (slot.busy, *id)).map(|(id, _)| id.clone())
    }

    pub(super) fn idle_and_roomy(&self, task: &TaskRun) -> Option<ExecutorId> {
        self.candidates(task).find(|(_, slot)| slot.is_idle()).map(|(id, _)| id.clone())
    }

    fn all_failed(&self, task: &TaskRun) -> bool {
        self.by_executor.keys().all(|id| task.failed_on(id))
    }

    /// Not where an attempt has failed while there is another one.
    fn allowed<'a>(&'a self, task: &TaskRun) -> impl Iterator<Item = (&'a ExecutorId, &'a Slot)> {
        let all_failed = self.all_failed(task);
        self.by_executor.iter().filter(move |(id, _)| all_failed || !task.failed_on(id))
    }

    fn roomiest_idle(&self, allowed: impl Fn(&ExecutorId) -> bool) -> Option<&ExecutorId> {
        let idle = self.by_executor.iter().filter(|(id, slot)| slot.is_idle() && allowed(id));
        idle.max_by_key(|(id, slot)| (slot.memory_bytes, Reverse(*id))).map(|(id, _)| id)
    }

    fn choose(
        &self,
        dispatcher: &Dispatcher,
        wanted: &Wanted<'_>,
        allowed: impl Fn(&ExecutorId) -> bool,
    ) -> Option<&ExecutorId> {
        let Wanted { state, job, stage, partition, needs_bytes } = *wanted;
        let candidates =
            || self.by_executor.iter().filter(|(id, slot)| slot.fits(needs_bytes) && allowed(id));
        let most = candidates().map(|(_, slot)| slot.free).max()?;
        let freest: Vec<&ExecutorId> =
            candidates().filter(|(_, s)| s.free == most).map(|(id, _)| id).collect();
        if let [only] = freest.as_slice() {
            return Some(only);
        }
        let share = state.share(TaskId { job: job.id, stage: stage.id, partition });
        let input_bytes = input_bytes(job, stage, share);
        let bytes = |id: &ExecutorId| input_bytes.get(id).copied().unwrap_or(0);
        let of_stage = |id: &ExecutorId| dispatcher.loads.of_stage(id, job.id, stage.id);
        freest.into_iter().max_by_key(|id| (bytes(id), Reverse(of_stage(id)), Reverse(*id)))
    }
}

/// What the task reads from each executor. Below a union partitions are numbered anew, so this may be a neighbour's
/// share: good enough for a preference.
fn input_bytes<'a>(job: &'a Job, stage: &Stage, share: Share) -> BTreeMap<&'a ExecutorId, u64> {
    let mut bytes = BTreeMap::new();
    for input in &stage.inputs {
        let Some(run) = job.run(input.stage).filter(|run| run.tasks.len() <= MAX_LOCALITY_MAPS) else {
            continue;
        };
        let outputs = match input.read {
            ReadMode::Partition | ReadMode::Adaptive { .. } | ReadMode::Shares => share.first..share.end,
            ReadMode::All => 0..1,
        };
        let maps = share.maps_of(input.stage);
        let is_read = |map: &u32| maps.as_ref().is_none_or(|maps| maps.contains(map));
        for (_, done) in run.completed().filter(|(map, _)| is_read(map)) {
            let sum: &mut u64 = bytes.entry(&done.executor).or_default();
            let read = done.outputs.get(outputs.start as usize..outputs.end as usize).into_iter().flatten();
            *sum = read.fold(*sum, |sum, stats| sum.saturating_add(stats.bytes));
        }
    }
    bytes
}
