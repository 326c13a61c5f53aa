//! What runs on each executor, summed up, so that a plan costs a look an executor and not one an attempt.

use std::collections::BTreeMap;

use polybolos_model::ExecutorId;

use super::Running;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Attempts that take a slot: they have not told that they completed.
    pub(super) busy: usize,
    /// What these were said to need. Of estimates that may be as large as a number gets, so it has room for all of them.
    pub(super) needed_bytes: u128,
    /// Attempts that must have the executor to themselves, whether they have told or not.
    pub(super) alone: usize,
}

/// No empty ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Loads {
    by_executor: BTreeMap<ExecutorId, Load>,
}

impl Loads {
    pub(super) fn of(&self, executor: &ExecutorId) -> Load {
        self.by_executor.get(executor).copied().unwrap_or_default()
    }

    pub(super) fn any_alone(&self) -> bool {
        self.by_executor.values().any(|load| load.alone > 0)
    }

    pub(super) fn begin(&mut self, running: &Running) {
        let load = self.by_executor.entry(running.executor.clone()).or_default();
        load.busy += 1;
        load.needed_bytes += u128::from(running.needs_bytes);
        load.alone += usize::from(running.alone);
    }

    /// The attempt has told that it completed: its slot is free.
    pub(super) fn free_slot(&mut self, running: &Running) {
        if let Some(load) = self.by_executor.get_mut(&running.executor) {
            load.busy -= 1;
            load.needed_bytes -= u128::from(running.needs_bytes);
        }
        self.drop_empty(&running.executor);
    }

    /// After [`Loads::free_slot`].
    pub(super) fn end(&mut self, running: &Running) {
        if let Some(load) = self.by_executor.get_mut(&running.executor) {
            load.alone -= usize::from(running.alone);
        }
        self.drop_empty(&running.executor);
    }

    fn drop_empty(&mut self, executor: &ExecutorId) {
        if self.of(executor) == Load::default() {
            self.by_executor.remove(executor);
        }
    }
}
