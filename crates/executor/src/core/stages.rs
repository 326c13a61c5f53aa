//! Which stages are prepared, within bounds.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{JobId, StageId};

/// Most stages that are kept prepared at once.
pub(crate) const MAX_STAGES: usize = 4_096;

/// Most bytes of encoded plans and input locations that are kept, over all stages.
pub(crate) const MAX_STAGE_BYTES: usize = 512 * 1024 * 1024;

/// A stage of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StageKey {
    pub(crate) job: JobId,
    pub(crate) stage: StageId,
}

#[derive(Debug)]
struct Prepared {
    epoch: u32,
    bytes: usize,
    /// The value of [`Stages::clock`] at its last use.
    used: u64,
}

/// Stages by key, with the order of their last use.
#[derive(Debug, Default)]
pub(super) struct Stages {
    prepared: BTreeMap<StageKey, Prepared>,
    /// Dropped for want of room, and not prepared again. At most [`MAX_STAGES`].
    evicted: BTreeSet<StageKey>,
    bytes: usize,
    clock: u64,
}

impl Stages {
    pub(super) fn epoch(&self, stage: StageKey) -> Option<u32> {
        self.prepared.get(&stage).map(|prepared| prepared.epoch)
    }

    /// Marks a use, and tells the epoch.
    pub(super) fn touch(&mut self, stage: StageKey) -> Option<u32> {
        self.clock += 1;
        let prepared = self.prepared.get_mut(&stage)?;
        prepared.used = self.clock;
        Some(prepared.epoch)
    }

    pub(super) fn insert(&mut self, stage: StageKey, epoch: u32, bytes: usize) {
        self.clock += 1;
        self.evicted.remove(&stage);
        self.bytes += bytes;
        if let Some(old) = self.prepared.insert(stage, Prepared { epoch, bytes, used: self.clock }) {
            self.bytes -= old.bytes;
        }
    }

    /// Drops the least recently used stages beyond the bounds, sparing `newest` and those `in_use`.
    pub(super) fn evict(&mut self, newest: StageKey, in_use: &BTreeSet<StageKey>) -> Vec<StageKey> {
        let mut evicted = Vec::new();
        while self.prepared.len() > MAX_STAGES || self.bytes > MAX_STAGE_BYTES {
            let idle = self.prepared.iter().filter(|(key, _)| **key != newest && !in_use.contains(key));
            let Some(oldest) = idle.min_by_key(|(_, prepared)| prepared.used).map(|(key, _)| *key) else {
                break;
            };
            self.remove(oldest);
            self.evicted.insert(oldest);
            if self.evicted.len() > MAX_STAGES {
                self.evicted.pop_first();
            }
            evicted.push(oldest);
        }
        evicted
    }

    /// Whether the scheduler sent the stage and must send it again.
    pub(super) fn was_evicted(&self, stage: StageKey) -> bool {
        self.evicted.contains(&stage)
    }

    /// Drops all stages of `job`, and tells which were prepared.
    pub(super) fn remove_job(&mut self, job: JobId) -> Vec<StageKey> {
        let range = StageKey { job, stage: StageId(0) }..=StageKey { job, stage: StageId(u32::MAX) };
        let keys: Vec<_> = self.prepared.range(range).map(|(key, _)| *key).collect();
        for key in &keys {
            self.remove(*key);
        }
        self.evicted.retain(|key| key.job != job);
        keys
    }

    fn remove(&mut self, stage: StageKey) {
        if let Some(prepared) = self.prepared.remove(&stage) {
            self.bytes -= prepared.bytes;
        }
    }
}
