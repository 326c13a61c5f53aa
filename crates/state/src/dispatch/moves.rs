//! Which output of a drained executor goes to which other one. See [`super::drain`].
//!
//! An order to fetch an output is off the log, as a launch is: a new leader gives it anew, and of two copies the first
//! that is committed counts.

use std::collections::BTreeMap;

use polybolos_model::{AttemptId, ExecutorId, Incarnation, PartitionStats, TaskId};

use crate::{ClusterState, Executor, TaskDone};

/// Outputs on their way to one executor, and from one, at once.
pub(crate) const MAX_PULLS_TO: usize = 4;
pub(crate) const MAX_PULLS_FROM: usize = 16;
/// After so long another executor is asked.
pub(crate) const PULL_DEADLINE_MS: u64 = 60_000;
/// An executor that could not take an output is not asked again for so long.
pub(crate) const PULL_AGAIN_MS: u64 = 1_000;

/// Fetch this output and keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// Who fetches.
    pub executor: ExecutorId,
    pub task: TaskId,
    pub attempt: AttemptId,
    pub from: ExecutorId,
    pub from_incarnation: Incarnation,
    /// `HOST:PORT` where it is.
    pub address: String,
    /// One for each output partition.
    pub outputs: Vec<PartitionStats>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct UnderWay {
    to: ExecutorId,
    incarnation: Incarnation,
    from: ExecutorId,
    until_ms: u64,
}

/// Outputs on their way.
#[derive(Debug, Clone, Default)]
pub(super) struct Mover {
    under_way: BTreeMap<AttemptId, UnderWay>,
    /// Who could not take an output, and until when it is not asked again.
    failed: BTreeMap<(AttemptId, ExecutorId), u64>,
}

impl Mover {
    /// Drops what is over: handed over, given up, or of an executor that is gone.
    pub(super) fn forget_over(&mut self, state: &ClusterState, now_ms: u64) {
        self.under_way.retain(|attempt, pull| {
            let is_late = pull.until_ms <= now_ms;
            if is_late {
                self.failed.insert((*attempt, pull.to.clone()), now_ms.saturating_add(PULL_AGAIN_MS));
            }
            !is_late && state.present(&pull.to, pull.incarnation).is_some()
        });
        self.failed.retain(|_, until| *until > now_ms);
    }

    /// It has arrived, or is not wanted any more.
    pub(super) fn ended(&mut self, attempt: AttemptId) {
        self.under_way.remove(&attempt);
    }

    /// The executor does not fetch it.
    pub(super) fn failed(&mut self, attempt: AttemptId, executor: &ExecutorId, now_ms: u64) {
        if self.under_way.get(&attempt).is_some_and(|pull| pull.to == *executor) {
            self.under_way.remove(&attempt);
            self.failed.insert((attempt, executor.clone()), now_ms.saturating_add(PULL_AGAIN_MS));
        }
    }

    /// Orders as many of `outputs`, which are on `leaving` alone, as may be under way: each to the one of `takers` that
    /// fetches least and holds least.
    pub(super) fn order(
        &mut self,
        leaving: &Executor,
        outputs: &[(TaskId, &TaskDone)],
        takers: &[&Executor],
        now_ms: u64,
    ) -> Vec<Pull> {
        let mut pulls = Vec::new();
        let mut from = self.under_way.values().filter(|pull| pull.from == leaving.id).count();
        for (task, done) in outputs {
            if from >= MAX_PULLS_FROM {
                break;
            }
            if self.under_way.contains_key(&done.attempt) {
                continue;
            }
            let Some(taker) = self.taker(done.attempt, takers) else { continue };
            from += 1;
            let under_way = UnderWay {
                to: taker.id.clone(),
                incarnation: taker.incarnation,
                from: leaving.id.clone(),
                until_ms: now_ms.saturating_add(PULL_DEADLINE_MS),
            };
            self.under_way.insert(done.attempt, under_way);
            pulls.push(Pull {
                executor: taker.id.clone(),
                task: *task,
                attempt: done.attempt,
                from: leaving.id.clone(),
                from_incarnation: leaving.incarnation,
                address: leaving.address.clone(),
                outputs: done.outputs.clone(),
            });
        }
        pulls
    }

    fn taker<'a>(&self, attempt: AttemptId, takers: &[&'a Executor]) -> Option<&'a Executor> {
        let fetches =
            |executor: &Executor| self.under_way.values().filter(|pull| pull.to == executor.id).count();
        let may = |executor: &&&'a Executor| {
            !self.failed.contains_key(&(attempt, executor.id.clone())) && fetches(executor) < MAX_PULLS_TO
        };
        let least =
            |executor: &&&'a Executor| (fetches(executor), executor.usage.shuffle_bytes, executor.id.clone());
        takers.iter().filter(may).min_by_key(least).copied()
    }
}
