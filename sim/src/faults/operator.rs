//! What faults ask of others: changes of the set of replicas, executors that leave, and rates that failpoints read.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// A change that somebody has to ask the cluster for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminCall {
    Add { id: u64, address: String },
    Remove { id: u64 },
    Transfer,
    Drain { executor: String, deadline_ms: u64 },
}

/// Changes in order, for the host `operator`. Clones are the same queue.
#[derive(Debug, Clone, Default)]
pub struct Operator(Arc<Mutex<VecDeque<AdminCall>>>);

impl Operator {
    fn calls(&self) -> MutexGuard<'_, VecDeque<AdminCall>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, call: AdminCall) {
        self.calls().push_back(call);
    }

    pub fn next(&self) -> Option<AdminCall> {
        self.calls().pop_front()
    }
}

/// Rates for failpoints in the real code. Clones are the same knobs.
#[derive(Debug, Clone, Default)]
pub struct Knobs(Arc<AtomicU64>);

impl Knobs {
    /// How often reports and commands are sent a second time.
    pub fn duplicate_rate(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    pub fn set_duplicate_rate(&self, rate: f64) {
        self.0.store(rate.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
    }
}
