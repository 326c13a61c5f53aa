//! What the leader remembers of failures: which tasks wait before they are tried again, and which executors get nothing
//! for a while because tasks keep failing there.
//!
//! Deliberately absent: the limit of attempts, which is in the state and survives the leader. What is here only spreads
//! retries over time and place, and a new leader starts without it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use polybolos_model::{AttemptId, ErrorClass, ExecutorId, Incarnation, TaskId};

use super::Dispatcher;
use crate::{ClusterState, Fate};

/// The first retry of a task waits for this long, each further one twice as long, up to [`MAX_BACKOFF_MS`].
pub(crate) const FIRST_BACKOFF_MS: u64 = 100;
pub(crate) const MAX_BACKOFF_MS: u64 = 5_000;

/// So many tasks must have failed on an executor within [`WINDOW_MS`] before it is set aside for [`SET_ASIDE_MS`].
/// Spark's `excludeOnFailure` counts two tasks of a stage, for an hour.
pub(crate) const BAD_TASKS: usize = 3;
pub(crate) const WINDOW_MS: u64 = 60_000;
pub(crate) const SET_ASIDE_MS: u64 = 30_000;
/// Failures of one executor that are remembered.
const MAX_REMEMBERED: usize = 64;

/// One life of an executor: a new process starts with a clean slate.
type Life = (ExecutorId, Incarnation);

#[derive(Debug, Clone, Default)]
pub(super) struct Failures {
    not_before: BTreeMap<TaskId, u64>,
    recent: BTreeMap<Life, VecDeque<(u64, TaskId)>>,
    /// Until when.
    set_aside: BTreeMap<Life, u64>,
}

impl Dispatcher {
    /// An attempt's failure was committed. It counts here if its task is to be tried again, for a reason of its own.
    pub fn failed(
        &mut self,
        state: &ClusterState,
        task: TaskId,
        attempt: AttemptId,
        class: ErrorClass,
        now_ms: u64,
    ) {
        let run = state.job(task.job).and_then(|job| job.task(task.stage, task.partition));
        let past = run.and_then(|run| run.past.iter().rev().find(|past| past.attempt == attempt));
        let (Some(run), Some(past)) = (run, past) else { return };
        let is_retryable = matches!(class, ErrorClass::Retryable | ErrorClass::Resources);
        if !is_retryable || past.fate != Fate::Failed {
            return;
        }
        let wait_ms = backoff_ms(run.failures);
        if !polybolos_model::mutant!("retry-without-backoff") {
            self.failures.not_before.insert(task, now_ms.saturating_add(wait_ms));
        }
        if let Some(executor) = state.executor(&past.executor).filter(|e| e.is_present()) {
            let life = (executor.id.clone(), executor.incarnation);
            let others = self.attached.iter().filter(|(id, _)| **id != executor.id);
            let others: Vec<Life> = others.map(|(id, life)| (id.clone(), *life)).collect();
            self.failures.note(life, task, &others, now_ms);
        }
    }

    /// Whether the executor gets no new tasks for now, as tasks kept failing there.
    pub fn is_set_aside(&self, executor: &ExecutorId, incarnation: Incarnation) -> bool {
        self.failures.is_set_aside(executor, incarnation, self.now_ms)
    }
}

impl Failures {
    /// An executor is bad if clearly more fails there than elsewhere: where tasks fail on all of them, the tasks are to
    /// blame, or something that all of them use.
    fn note(&mut self, life: Life, task: TaskId, others: &[Life], now_ms: u64) {
        let recent = self.recent.entry(life.clone()).or_default();
        recent.push_back((now_ms, task));
        if recent.len() > MAX_REMEMBERED {
            recent.pop_front();
        }
        let here = self.bad_tasks(&life, now_ms);
        let least = others.iter().map(|other| self.bad_tasks(other, now_ms)).min();
        if here >= BAD_TASKS && least.is_some_and(|least| here > 2 * least) {
            polybolos_model::sometimes!("an executor was set aside");
            self.recent.remove(&life);
            self.set_aside.insert(life, now_ms.saturating_add(SET_ASIDE_MS));
        }
    }

    /// Different tasks that failed there of late.
    fn bad_tasks(&self, life: &Life, now_ms: u64) -> usize {
        let recent = self.recent.get(life).into_iter().flatten();
        let tasks: BTreeSet<TaskId> =
            recent.filter(|(at, _)| at.saturating_add(WINDOW_MS) > now_ms).map(|(_, task)| *task).collect();
        tasks.len()
    }

    pub(super) fn is_set_aside(&self, executor: &ExecutorId, incarnation: Incarnation, now_ms: u64) -> bool {
        self.set_aside_until(executor, incarnation, now_ms).is_some()
    }

    pub(super) fn set_aside_until(
        &self,
        executor: &ExecutorId,
        incarnation: Incarnation,
        now_ms: u64,
    ) -> Option<u64> {
        let until = self.set_aside.get(&(executor.clone(), incarnation));
        until.copied().filter(|until_ms| *until_ms > now_ms)
    }

    pub(super) fn is_waiting(&self, task: TaskId, now_ms: u64) -> bool {
        self.waits_until(task, now_ms).is_some()
    }

    pub(super) fn waits_until(&self, task: TaskId, now_ms: u64) -> Option<u64> {
        self.not_before.get(&task).copied().filter(|at_ms| *at_ms > now_ms)
    }

    /// Drops what is over.
    pub(super) fn forget_old(&mut self, now_ms: u64) {
        self.not_before.retain(|_, at| *at > now_ms);
        self.set_aside.retain(|_, until| *until > now_ms);
        self.recent
            .retain(|_, recent| recent.back().is_some_and(|(at, _)| at.saturating_add(WINDOW_MS) > now_ms));
    }

    /// When the next task need not wait, or the next executor is not set aside, any more.
    pub(super) fn wakes_at(&self) -> Option<u64> {
        self.not_before.values().chain(self.set_aside.values()).min().copied()
    }
}

fn backoff_ms(failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST_BACKOFF_MS << doublings).min(MAX_BACKOFF_MS)
}
