//! Which tasks run next: free slots are dealt out one at a time, always to the job that comes first by the
//! [`SchedulingPolicy`](crate::policy::SchedulingPolicy): by default of the highest priority, and then the one that has the
//! fewest running.
//!
//! ```text
//!   of each class of jobs, the first one first:
//!     1 reserve    one executor for a task that must run alone, or has waited for memory for long
//!     2 deal       every other task that waits, by jobs
//!     3 use_idle   empty executors that nobody else of the class wants, for more tasks that run alone
//!   4 speculate    slots that nobody wants, for second attempts of slow tasks
//! ```

use polybolos_model::{AttemptId, ExecutorId, Incarnation, TaskId};

use super::{
    Dispatcher, Launch, Running,
    choose::{Slots, Wanted},
    memory::{MAX_MISFITS, MAX_MISFITS_OF_STAGE},
};
use crate::{ClusterState, Job};

/// A job's next task is searched from here on; all before it runs, is done or has to wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cursor {
    stage: u32,
    partition: u32,
}

/// One plan in the making.
pub(super) struct Round<'a> {
    pub(super) state: &'a ClusterState,
    pub(super) slots: Slots,
    launches: Vec<Launch>,
    wakes_at: Option<u64>,
    /// Tasks that were looked at and did not fit into any executor's memory.
    pub(super) misfits: usize,
}

impl<'a> Round<'a> {
    pub(super) fn new(state: &'a ClusterState, slots: Slots, wakes_at: Option<u64>) -> Self {
        Self { state, slots, launches: Vec::new(), wakes_at, misfits: 0 }
    }

    pub(super) fn into_launches(self) -> Vec<Launch> {
        self.launches
    }

    /// No slot is left, or too many that are next wait for memory.
    pub(super) fn is_over(&self) -> bool {
        self.slots.is_full() || self.misfits >= MAX_MISFITS
    }

    /// There is something to do then.
    pub(super) fn wake(&mut self, at_ms: u64) {
        self.wakes_at = Some(self.wakes_at.map_or(at_ms, |wakes_at| wakes_at.min(at_ms)));
    }
}

impl Dispatcher {
    /// Fills the free slots. Each launch counts as running at once; one that can't be sent must be `ended`. `now_ms` is
    /// of any clock that never goes back.
    ///
    /// Looks at jobs in the order of their turns and stops when the slots are full, or so many have met that wait for memory:
    /// ended jobs cost nothing, and of a waiting job only its first tasks are looked at.
    pub fn plan(&mut self, state: &ClusterState, now_ms: u64) -> Vec<Launch> {
        self.now_ms = now_ms;
        self.forget_lost(state);
        self.failures.forget_old(now_ms);
        self.estimates.forget_ended(state);
        self.wakes_at = None;
        if !self.awaited.is_empty() {
            return Vec::new();
        }
        let wakes_at = self.failures.wakes_at();
        let mut round = Round::new(state, Slots::free(self, state), wakes_at);
        self.take_turns(&mut round);
        self.wake_short(&mut round);
        self.speculate(&mut round);
        self.wakes_at = round.wakes_at;
        round.into_launches()
    }

    /// Launches the job's first task from `cursor` on that may run now, and says where the search goes on. None when as many
    /// of the job run as may at once.
    pub(super) fn launch_next(&mut self, round: &mut Round<'_>, job: &Job, cursor: Cursor) -> Option<Cursor> {
        if !self.may_run_more(round.state, job) {
            polybolos_model::sometimes!("a job's own limit held its tasks back");
            return None;
        }
        let mut from = cursor.partition;
        let stages = job.graph.stages.iter().zip(&job.runs).skip(cursor.stage as usize);
        for (stage, run) in stages {
            let open = if job.is_ready(stage) { Some(run.open.range(from..)) } else { None };
            from = 0;
            let mut misfits = 0;
            for &partition in open.into_iter().flatten() {
                let task = TaskId { job: job.id, stage: stage.id, partition };
                if self.by_task.contains_key(&task)
                    || self.failures.is_waiting(task, self.now_ms)
                    || round.state.runs_alone(task)
                {
                    continue;
                }
                let needs_bytes = self.estimates.needs(round.state, job, stage, run, partition);
                let wanted = Wanted { state: round.state, job, stage, partition, needs_bytes };
                if let Some((executor, incarnation)) = round.slots.take(self, &wanted) {
                    self.launch(round, task, executor, incarnation, false);
                    return Some(Cursor { stage: stage.id.0, partition: partition + 1 });
                }
                if run.tasks.get(partition as usize).is_some_and(|known| round.slots.has_slot(known)) {
                    self.fell_short(round, job, task);
                    misfits += 1;
                }
                if round.is_over() {
                    return None;
                }
                if misfits >= MAX_MISFITS_OF_STAGE {
                    break;
                }
            }
        }
        None
    }

    /// Names a new attempt, which counts as running from now on.
    pub(super) fn launch(
        &mut self,
        round: &mut Round<'_>,
        task: TaskId,
        executor: ExecutorId,
        incarnation: Incarnation,
        alone: bool,
    ) {
        let epoch = round.state.job(task.job).and_then(|job| job.run(task.stage)).map_or(0, |run| run.epoch);
        let needs_bytes = self.needs(round.state, task);
        self.counter += 1;
        let attempt = AttemptId { term: self.term, counter: self.counter };
        let running = Running {
            task,
            executor: executor.clone(),
            incarnation,
            epoch: Some(epoch),
            since_ms: self.now_ms,
            alone,
            copied: false,
            needs_bytes,
        };
        self.launched(attempt, running);
        round.launches.push(Launch { executor, incarnation, task, attempt, epoch });
    }

    /// An attempt runs there that must have the executor to itself.
    pub(super) fn runs_alone_on(&self, executor: &ExecutorId) -> bool {
        self.loads.of(executor).alone > 0
    }

    /// Drops attempts of executors that are lost or live a new life, and waits for such no more.
    fn forget_lost(&mut self, state: &ClusterState) {
        let is_gone = |running: &Running| state.present(&running.executor, running.incarnation).is_none();
        // All attempts on an executor with a stream are of the life that opened it.
        let lives = |executor: &ExecutorId| {
            let life = self.attached.get(executor);
            life.is_some_and(|incarnation| state.present(executor, *incarnation).is_some())
        };
        let doubtful = self.by_executor.iter().filter(|(executor, _)| !lives(executor));
        let attempts = doubtful.flat_map(|(_, attempts)| attempts);
        let is_gone = |attempt: &&AttemptId| self.running.get(attempt).is_some_and(is_gone);
        let gone: Vec<AttemptId> = attempts.filter(is_gone).copied().collect();
        for attempt in gone {
            self.gone(attempt);
        }
        self.attached.retain(|executor, incarnation| state.present(executor, *incarnation).is_some());
        self.awaited.retain(|executor| state.executor(executor).is_some_and(|e| e.is_present()));
    }
}
