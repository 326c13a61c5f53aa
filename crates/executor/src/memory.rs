//! The memory pool of all tasks: what is kept for tasks to come gives way to those that run.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use datafusion::{
    error::Result,
    execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation},
};
use polybolos_planner::SharedBuilds;

/// A pool that drops the tables of broadcast joins that no task uses before it refuses memory.
#[derive(Debug)]
pub(crate) struct YieldingPool {
    pool: Arc<dyn MemoryPool>,
    /// Tables hold the pool.
    builds: Weak<SharedBuilds>,
}

impl YieldingPool {
    pub(crate) fn new(pool: Arc<dyn MemoryPool>, builds: &Arc<SharedBuilds>) -> Self {
        Self { pool, builds: Arc::downgrade(builds) }
    }
}

impl fmt::Display for YieldingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

impl MemoryPool for YieldingPool {
    fn name(&self) -> &str {
        self.pool.name()
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let grown = self.pool.try_grow(reservation, additional);
        if grown.is_err() && self.builds.upgrade().is_some_and(|builds| builds.drop_idle()) {
            tracing::debug!("memory is short: tables that no task used were dropped");
            return self.pool.try_grow(reservation, additional);
        }
        grown
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}
