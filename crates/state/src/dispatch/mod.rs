//! The leader's volatile memory of running attempts, and what it launches next.
//!
//! Task starts are not logged, so nothing here survives the leader: a new one starts empty and learns what runs from
//! the executors that attach to it. What is wrong here costs a second run of a task, never a wrong result: the
//! first completion that commits wins.

mod ahead;
mod alone;
mod choose;
mod deaths;
pub(crate) mod drain;
mod estimate;
pub(crate) mod failures;
mod load;
mod memory;
pub(crate) mod moves;
mod parallel;
mod plan;
mod speculate;
mod turns;
mod waits;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use polybolos_model::{AttemptId, ExecutorId, Incarnation, JobId, StageId, TaskId, Term};

use self::{
    choose::Slots, estimate::Estimates, failures::Failures, load::Loads, memory::Short, moves::Mover,
    turns::Queue,
};
pub use self::{
    drain::DrainSteps,
    moves::Pull,
    waits::{Wait, Waits},
};
use crate::{
    ClusterState,
    policy::{FairShare, SchedulingPolicy},
};

/// Attempts of one task that may run at once: the second one is a copy of a slow first one.
const MAX_ATTEMPTS_AT_ONCE: usize = 2;

/// Start this attempt there. The dispatcher counts it as running from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    pub executor: ExecutorId,
    pub incarnation: Incarnation,
    pub task: TaskId,
    pub attempt: AttemptId,
    /// Of the task's stage, as it was when this was decided.
    pub epoch: u32,
}

/// An attempt that was launched or adopted and has not ended, as far as the leader knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub task: TaskId,
    pub executor: ExecutorId,
    pub incarnation: Incarnation,
    /// Of the task's stage at the launch. `None` if the executor that told of the attempt does not tell that.
    pub epoch: Option<u32>,
    /// Since when this leader knows of it, by the clock of [`Dispatcher::plan`].
    pub since_ms: u64,
    /// Its executor gets nothing else until it ends.
    pub alone: bool,
    /// It was slow, and got a second attempt beside it.
    pub copied: bool,
    /// The memory that it was said to need when it was launched or adopted.
    pub needs_bytes: u64,
}

/// An attempt that a (re)connected executor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    pub task: TaskId,
    pub attempt: AttemptId,
    /// As in [`Running`].
    pub epoch: Option<u32>,
}

/// What a (re)connected executor should do with the attempts that it reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adoption {
    /// Go on: these count as running now.
    pub adopted: Vec<AttemptId>,
    /// Of no use: their job has ended, or the task is done or runs elsewhere.
    pub cancel: Vec<AttemptId>,
}

/// An attempt to stop, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CancelTarget {
    pub executor: ExecutorId,
    pub attempt: AttemptId,
}

/// See the module. One for each term of leadership.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    term: Term,
    policy: Arc<dyn SchedulingPolicy>,
    queue: Queue,
    /// Of the last attempt launched.
    counter: u64,
    running: BTreeMap<AttemptId, Running>,
    /// No empty sets, and at most [`MAX_ATTEMPTS_AT_ONCE`] each.
    by_task: BTreeMap<TaskId, BTreeSet<AttemptId>>,
    by_executor: BTreeMap<ExecutorId, BTreeSet<AttemptId>>,
    /// Of the running attempts those that have told that they completed.
    reported: BTreeSet<AttemptId>,
    /// Numbers of those; no zeros.
    reported_by_job: BTreeMap<JobId, u32>,
    loads: Loads,
    /// Jobs whose submit is on its way into the log, and of which attempts were launched meanwhile.
    coming: BTreeSet<JobId>,
    /// Numbers of running attempts; no zeros.
    by_job: BTreeMap<JobId, u32>,
    /// Executors with an open stream to this leader.
    attached: BTreeMap<ExecutorId, Incarnation>,
    /// Executors that may run attempts of an earlier leader and have not told yet.
    awaited: BTreeSet<ExecutorId>,
    failures: Failures,
    moves: Mover,
    /// Gets nothing new until it is empty, for a task that runs alone, or until it has room for one that has waited for memory.
    reserved: Option<ExecutorId>,
    estimates: Estimates,
    /// By the class of their jobs.
    short: BTreeMap<u32, Short>,
    /// A task that ran alone has ended: before the next one the others have their turn.
    others_first: bool,
    /// Of the last plan.
    now_ms: u64,
    wakes_at: Option<u64>,
}

impl Dispatcher {
    /// With the default order of jobs.
    pub fn new(term: Term) -> Self {
        Self::with_policy(term, Arc::new(FairShare))
    }

    pub fn with_policy(term: Term, policy: Arc<dyn SchedulingPolicy>) -> Self {
        Self {
            term,
            policy,
            queue: Queue::default(),
            counter: 0,
            running: BTreeMap::new(),
            by_task: BTreeMap::new(),
            by_executor: BTreeMap::new(),
            reported: BTreeSet::new(),
            reported_by_job: BTreeMap::new(),
            loads: Loads::default(),
            coming: BTreeSet::new(),
            by_job: BTreeMap::new(),
            attached: BTreeMap::new(),
            awaited: BTreeSet::new(),
            failures: Failures::default(),
            moves: Mover::default(),
            reserved: None,
            estimates: Estimates::default(),
            short: BTreeMap::new(),
            others_first: false,
            now_ms: 0,
            wakes_at: None,
        }
    }

    /// The same leader begins anew, as an entry's fate is unknown to it: forgets every attempt and stream, and for
    /// whom it waits, but not what failed. Names of attempts go on from the last one, so that no two in its term are alike.
    pub fn restart(&mut self) {
        let failures = std::mem::take(&mut self.failures);
        let new = Self::with_policy(self.term, Arc::clone(&self.policy));
        *self = Self { counter: self.counter, now_ms: self.now_ms, failures, ..new };
    }

    /// A new leader launches nothing until each present executor has attached (and told what it runs) or is lost, so
    /// that it starts nothing twice. [`Dispatcher::stop_waiting`] ends the wait early.
    pub fn await_executors(&mut self, state: &ClusterState) {
        let present = state.executors().filter(|e| e.is_present() && !self.attached.contains_key(&e.id));
        self.awaited.extend(present.map(|e| e.id.clone()));
    }

    pub fn stop_waiting(&mut self) {
        self.awaited.clear();
    }

    /// An executor's stream is open and its registration committed. `reported` are the attempts that it runs; what
    /// this dispatcher believed to run there and is not among them has ended or never began, and may be launched
    /// again. (If its completion is still on the way, that completion wins over the second run.)
    pub fn attach(
        &mut self,
        state: &ClusterState,
        executor: &ExecutorId,
        incarnation: Incarnation,
        reported: &[Reported],
    ) -> Adoption {
        let known = self.forget(executor);
        self.attached.insert(executor.clone(), incarnation);
        let mut adoption = Adoption::default();
        for &Reported { task, attempt, epoch } in reported {
            let (since_ms, alone, copied, needs_bytes) = match known.get(&attempt) {
                Some(known) => (known.since_ms, known.alone, known.copied, known.needs_bytes),
                None => (self.now_ms, state.runs_alone(task), false, self.needs(state, task)),
            };
            let executor = executor.clone();
            let running =
                Running { task, executor, incarnation, epoch, since_ms, alone, copied, needs_bytes };
            if self.is_wanted(state, attempt, &running) && self.has_room(state, &running) {
                self.launched(attempt, running);
                adoption.adopted.push(attempt);
            } else {
                adoption.cancel.push(attempt);
            }
        }
        adoption
    }

    /// The executor's stream broke. Its attempts may go on running; nothing new is launched there.
    pub fn detach(&mut self, executor: &ExecutorId) {
        self.attached.remove(executor);
    }

    /// The executor is lost or runs nothing any more: forgets its attempts and its stream.
    pub fn executor_gone(&mut self, executor: &ExecutorId) -> Vec<AttemptId> {
        self.forget(executor).into_keys().collect()
    }

    fn forget(&mut self, executor: &ExecutorId) -> BTreeMap<AttemptId, Running> {
        self.attached.remove(executor);
        self.awaited.remove(executor);
        let attempts: Vec<AttemptId> =
            self.by_executor.get(executor).into_iter().flatten().copied().collect();
        attempts.into_iter().filter_map(|attempt| Some((attempt, self.gone(attempt)?))).collect()
    }

    /// The attempt ended with its executor: what it was to replace, or was a copy of, may be copied again.
    pub fn gone(&mut self, attempt: AttemptId) -> Option<Running> {
        let gone = self.ended(attempt)?;
        for left in self.by_task.get(&gone.task).into_iter().flatten() {
            if let Some(left) = self.running.get_mut(left) {
                left.copied = false;
            }
        }
        Some(gone)
    }

    /// Counts an attempt as running. `plan` and `attach` do this themselves.
    pub fn launched(&mut self, attempt: AttemptId, running: Running) {
        if attempt.term == self.term {
            self.counter = self.counter.max(attempt.counter);
        }
        self.ended(attempt);
        self.by_task.entry(running.task).or_default().insert(attempt);
        *self.by_job.entry(running.task.job).or_default() += 1;
        self.by_executor.entry(running.executor.clone()).or_default().insert(attempt);
        self.loads.begin(&running);
        self.running.insert(attempt, running);
    }

    /// The attempt's end was reported and committed or refused, or its launch could not be sent.
    pub fn ended(&mut self, attempt: AttemptId) -> Option<Running> {
        let ended = self.running.remove(&attempt)?;
        if self.reported.remove(&attempt) {
            count_down(&mut self.reported_by_job, ended.task.job);
        } else {
            self.loads.free_slot(&ended);
        }
        self.loads.end(&ended);
        if let Some(attempts) = self.by_task.get_mut(&ended.task) {
            attempts.remove(&attempt);
            if attempts.is_empty() {
                self.by_task.remove(&ended.task);
            }
        }
        self.others_first |= ended.alone;
        if let Some(attempts) = self.by_executor.get_mut(&ended.executor) {
            attempts.remove(&attempt);
            if attempts.is_empty() {
                self.by_executor.remove(&ended.executor);
            }
        }
        count_down(&mut self.by_job, ended.task.job);
        Some(ended)
    }

    /// Running attempts that nobody needs any more: their job has ended, another attempt completed the task, or what
    /// they read was rolled back.
    /// They are forgotten here and must be told to stop. Ascending.
    pub fn cancel_targets(&mut self, state: &ClusterState) -> Vec<CancelTarget> {
        let unwanted = self.running.iter().filter(|(id, running)| !self.is_wanted(state, **id, running));
        let mut targets: Vec<CancelTarget> = unwanted
            .map(|(&attempt, running)| CancelTarget { executor: running.executor.clone(), attempt })
            .collect();
        for target in &targets {
            self.ended(target.attempt);
        }
        targets.sort_unstable();
        targets
    }

    pub fn term(&self) -> Term {
        self.term
    }

    pub fn running(&self, attempt: AttemptId) -> Option<&Running> {
        self.running.get(&attempt)
    }

    /// The attempts that run this task now, ascending: at most two.
    pub fn attempts_of(&self, task: TaskId) -> impl Iterator<Item = (AttemptId, &Running)> {
        let attempts = self.by_task.get(&task).into_iter().flatten();
        attempts.filter_map(|attempt| Some((*attempt, self.running.get(attempt)?)))
    }

    /// The attempt that runs this task now, the first one if there are two.
    pub fn attempt_of(&self, task: TaskId) -> Option<(AttemptId, &Running)> {
        self.attempts_of(task).next()
    }

    /// Running tasks of a job, in the order of stages and partitions, each once: with the first of its attempts.
    pub fn running_of(&self, job: JobId) -> impl Iterator<Item = (TaskId, AttemptId)> {
        let first = TaskId { job, stage: StageId(0), partition: 0 };
        let last = TaskId { job, stage: StageId(u32::MAX), partition: u32::MAX };
        let running = self.by_task.range(first..=last);
        running.filter_map(|(task, attempts)| Some((*task, *attempts.first()?)))
    }

    /// Attempts on the executor that have not ended, as far as the log knows.
    pub fn running_on(&self, executor: &ExecutorId) -> usize {
        self.by_executor.get(executor).map_or(0, BTreeSet::len)
    }

    /// Of those the ones that take a slot: they have not told that they completed.
    pub fn busy_slots(&self, executor: &ExecutorId) -> usize {
        self.loads.of(executor).busy
    }

    /// Of all executors that may get tasks now.
    pub fn free_slots(&self, state: &ClusterState) -> usize {
        Slots::free(self, state).count()
    }

    pub fn is_attached(&self, executor: &ExecutorId) -> bool {
        self.attached.contains_key(executor)
    }

    /// A task has the executor to itself, or waits for that or for its memory: others get nothing there.
    pub fn is_kept_for_one(&self, executor: &ExecutorId) -> bool {
        self.reserved.as_ref() == Some(executor) || self.runs_alone_on(executor)
    }

    /// Whether an attempt that its executor tells of may go on beside those that this leader knows: there may be a
    /// second one, elsewhere, where the job allows for that, and no more of the job than may run at once.
    fn has_room(&self, state: &ClusterState, new: &Running) -> bool {
        if state.job(new.task.job).is_some_and(|job| !self.may_run_more(state, job)) {
            return false;
        }
        let speculates = state.job(new.task.job).is_some_and(|job| state.settings(job).speculation);
        let most = if speculates { MAX_ATTEMPTS_AT_ONCE } else { 1 };
        let mut known = 0;
        let mut attempts = self.attempts_of(new.task).inspect(|_| known += 1);
        attempts.all(|(_, running)| running.executor != new.executor) && known < most
    }

    /// When to plan again although nothing has happened: a task need not wait any more, or has waited for memory for long, an
    /// executor is not set aside any more, or an attempt counts as slow. As of the last plan.
    pub fn wakes_at(&self) -> Option<u64> {
        self.wakes_at
    }

    /// Whether the attempt's end would change anything.
    fn is_wanted(&self, state: &ClusterState, attempt: AttemptId, running: &Running) -> bool {
        let TaskId { job: id, stage, partition } = running.task;
        let is_wanted = match state.running_job(id) {
            // By a decision of this leader that is on its way into the log.
            Some(_) if state.is_undecided(id, stage) => attempt.term == self.term,
            Some(job) => {
                let task = job.task(stage, partition);
                !state.is_void(running.task, attempt, running.epoch)
                    && task.is_some_and(|task| task.completed.is_none())
            }
            None => state.job(id).is_none() && self.coming.contains(&id),
        };
        is_wanted && state.present(&running.executor, running.incarnation).is_some()
    }
}

/// One less, and no zeros.
fn count_down(counts: &mut BTreeMap<JobId, u32>, job: JobId) {
    if let Some(count) = counts.get_mut(&job) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&job);
        }
    }
}
