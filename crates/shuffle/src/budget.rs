//! How much memory outputs may hold, and how many bytes they hold.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bytes of all outputs of one store. Counts only; frees nothing.
#[derive(Debug)]
pub(crate) struct Budget {
    limit_bytes: u64,
    memory_bytes: AtomicU64,
    disk_bytes: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { limit_bytes, memory_bytes: AtomicU64::new(0), disk_bytes: AtomicU64::new(0) })
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    fn grow(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|&total| total <= self.limit_bytes);
        self.memory_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// A share of the memory budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// False, and nothing changes, when the budget is exhausted.
    #[must_use]
    pub(crate) fn try_grow(&mut self, bytes: u64) -> bool {
        let grown = !polybolos_model::buggify!("shuffle.no_memory") && self.budget.grow(bytes);
        if grown {
            self.bytes += bytes;
        }
        grown
    }

    /// Corrects an estimate; a larger value is taken even over the budget, because the bytes are there already.
    pub(crate) fn settle(&mut self, bytes: u64) {
        if bytes >= self.bytes {
            self.budget.memory_bytes.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.budget.memory_bytes.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.settle(0);
    }
}

/// Bytes in files, no longer counted when dropped.
#[derive(Debug)]
pub(crate) struct DiskUse {
    budget: Arc<Budget>,
    bytes: u64,
}

impl DiskUse {
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    pub(crate) fn grow(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.budget.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for DiskUse {
    fn drop(&mut self) {
        self.budget.disk_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_back() {
        let budget = Budget::new(100);
        let mut one = Reservation::new(&budget);
        let mut two = Reservation::new(&budget);
        assert!(one.try_grow(60) && !two.try_grow(50) && two.try_grow(40));
        one.settle(70);
        assert_eq!(budget.memory_bytes(), 110);
        drop(two);
        one.settle(5);
        assert_eq!(budget.memory_bytes(), 5);
        drop(one);
        let mut disk = DiskUse::new(&budget);
        disk.grow(7);
        assert_eq!((budget.memory_bytes(), budget.disk_bytes()), (0, 7));
        drop(disk);
        assert_eq!(budget.disk_bytes(), 0);
    }
}
