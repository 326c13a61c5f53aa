//! CPU work that takes simulated time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use polybolos_env::{Cpu, CpuTask};
use tokio::time::sleep;

use super::pause::{Debt, Pause};

/// The CPU of one host. Clones are the same one.
///
/// Work runs between the other tasks of its host, at once; then it waits for as long as it should have taken.
#[derive(Clone)]
pub struct SimCpu(Arc<Inner>);

struct Inner {
    batch_cost_us: u64,
    factor: AtomicU64,
    debt: Debt,
    pause: Pause,
}

impl SimCpu {
    pub(super) fn new(batch_cost_us: u64, pause: Pause) -> Self {
        Self(Arc::new(Inner { batch_cost_us, factor: AtomicU64::new(1), debt: Debt::default(), pause }))
    }

    /// How many times as long work takes.
    pub fn set_factor(&self, factor: u64) {
        self.0.factor.store(factor.max(1), Ordering::Relaxed);
    }

    /// A nanosecond for each byte, and a fixed cost.
    fn due(&self, bytes: usize) -> Duration {
        let cost_us = self.0.batch_cost_us.saturating_add(bytes as u64 / 1_000);
        self.0.debt.owe(cost_us.saturating_mul(self.0.factor.load(Ordering::Relaxed)))
    }
}

impl Cpu for SimCpu {
    fn spawn(&self, work: BoxFuture<'static, ()>) -> CpuTask {
        let (due, pause) = (self.due(0), self.0.pause.clone());
        CpuTask::new(tokio::spawn(async move {
            if !due.is_zero() {
                sleep(due).await;
            }
            pause.gate(work).await;
        }))
    }

    fn charge(&self, bytes: usize) -> Option<BoxFuture<'static, ()>> {
        let (due, pause) = (self.due(bytes), self.0.pause.clone());
        if due.is_zero() && !pause.is_set() {
            return None;
        }
        Some(Box::pin(async move {
            sleep(due).await;
            pause.wait().await;
        }))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test measures paused time")]
mod tests {
    use tokio::time::Instant;

    use super::*;

    async fn cost(cpu: &SimCpu, bytes: usize) -> Duration {
        let started = Instant::now();
        if let Some(work) = cpu.charge(bytes) {
            work.await;
        }
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn work_costs_time_by_its_bytes_and_a_slow_cpu_more() {
        let cpu = SimCpu::new(500, Pause::default());
        assert_eq!(cost(&cpu, 0).await, Duration::ZERO);
        assert_eq!(cost(&cpu, 2_500_000).await, Duration::from_millis(3));
        cpu.set_factor(10);
        assert_eq!(cost(&cpu, 1_500_000).await, Duration::from_millis(20));
    }
}
