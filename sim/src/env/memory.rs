//! Memory that runs out when a fault asks for it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use datafusion::{
    error::{DataFusionError, Result},
    execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation},
};

/// Whether operators get more memory. Clones are the same switch.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<AtomicBool>);

impl Memory {
    pub fn set_exhausted(&self, exhausted: bool) {
        self.0.store(exhausted, Ordering::Relaxed);
    }

    /// A pool for one life of an executor.
    pub(super) fn pool(&self, bytes: u64) -> Arc<dyn MemoryPool> {
        let pool = FairSpillPool::new(usize::try_from(bytes).unwrap_or(usize::MAX));
        Arc::new(Exhaustible { pool, exhausted: Arc::clone(&self.0) })
    }
}

#[derive(Debug)]
struct Exhaustible {
    pool: FairSpillPool,
    exhausted: Arc<AtomicBool>,
}

impl fmt::Display for Exhaustible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

impl MemoryPool for Exhaustible {
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
        if self.exhausted.load(Ordering::Relaxed) && additional > 0 {
            return Err(DataFusionError::ResourcesExhausted("simulated: no more memory".to_owned()));
        }
        self.pool.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_runs_out_and_comes_back() {
        let memory = Memory::default();
        let pool = memory.pool(1_000);
        let reservation = MemoryConsumer::new("test").register(&pool);
        assert!(reservation.try_grow(100).is_ok());
        memory.set_exhausted(true);
        assert!(matches!(reservation.try_grow(100), Err(DataFusionError::ResourcesExhausted(_))));
        memory.set_exhausted(false);
        assert!(reservation.try_grow(100).is_ok() && reservation.try_grow(1_000).is_err());
        assert_eq!(pool.reserved(), 200);
    }
}
