//! Memory admission: a task starts only where its estimate fits beside those of what runs there.
//!
//! ```text
//!   fits somewhere        ──▶ starts there
//!   nothing runs there    ──▶ starts there, the roomiest first: so an estimate larger than any executor keeps nobody waiting
//!   else                  ──▶ waits; others that fit pass it
//!   waits for 2 s         ──▶ an executor gets nothing new until it fits, or is empty: see [`super::alone`]
//! ```
//!
//! The clock of the last line runs for one task of each class of jobs at a time, the first one that did not fit: so each
//! class gets on, however small the tasks are that pass. What an attempt was said to need stays as it was when it was
//! launched or adopted. An executor that registered no memory has no limit.

use std::fmt;

use polybolos_model::{ExecutorId, TaskId};

use super::{Dispatcher, plan::Round};
use crate::{ClusterState, Job};

/// A task that has waited for memory for so long has an executor emptied for it.
pub(super) const MEMORY_PATIENCE_MS: u64 = 2_000;

/// Tasks that don't fit which one plan looks at, and of those of one stage. What waits behind them waits with them until
/// something ends: a plan costs what it launches and this.
pub(super) const MAX_MISFITS: usize = 256;
pub(super) const MAX_MISFITS_OF_STAGE: usize = 16;

/// The task of its class that waits for memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Short {
    task: TaskId,
    since_ms: u64,
}

impl Short {
    fn patient_until(&self) -> u64 {
        self.since_ms.saturating_add(MEMORY_PATIENCE_MS)
    }
}

impl Dispatcher {
    /// In bytes; 0 of a task that the state does not know, as its submit is on its way.
    pub(super) fn needs(&mut self, state: &ClusterState, task: TaskId) -> u64 {
        let of = state.job(task.job).and_then(|job| Some((job, job.stage(task.stage)?)));
        of.map_or(0, |(job, (stage, run))| self.estimates.needs(state, job, stage, run, task.partition))
    }

    /// What the attempts that take a slot of the executor were said to need.
    pub fn needed_bytes(&self, executor: &ExecutorId) -> u64 {
        u64::try_from(self.loads.of(executor).needed_bytes).unwrap_or(u64::MAX)
    }

    /// The task would have had a slot, and did not fit.
    pub(super) fn fell_short(&mut self, round: &mut Round<'_>, job: &Job, task: TaskId) {
        polybolos_model::sometimes!("a task waited for memory");
        round.misfits += 1;
        let short = Short { task, since_ms: self.now_ms };
        self.short.entry(self.rank(job).class).or_insert(short);
    }

    /// Drops the ones that need not wait any more.
    pub(super) fn forget_short(&mut self, state: &ClusterState) {
        let mut short = std::mem::take(&mut self.short);
        short.retain(|class, short| {
            let due = self.due(state, short.task).filter(|_| !state.runs_alone(short.task));
            due.is_some_and(|(job, _)| self.rank(job).class == *class)
        });
        self.short = short;
    }

    /// Those for which an executor is to be emptied.
    pub(super) fn out_of_patience(&self) -> impl Iterator<Item = TaskId> {
        self.short.values().filter(|short| short.patient_until() <= self.now_ms).map(|short| short.task)
    }

    pub(super) fn wake_short(&self, round: &mut Round<'_>) {
        let patient = self.short.values().map(Short::patient_until);
        patient.filter(|until_ms| *until_ms > self.now_ms).for_each(|until_ms| round.wake(until_ms));
    }

    pub(super) fn is_short(&self, task: TaskId) -> bool {
        self.short.values().any(|short| short.task == task)
    }
}

/// Bytes in words, as many as a person wants to know.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.0 as f64 / f64::from(1 << 20);
        if mib < 1024.0 { write!(f, "{mib:.1} MiB") } else { write!(f, "{:.1} GiB", mib / 1024.0) }
    }
}
