//! The simulated side of every seam.

mod disk;
mod net;
mod spill;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use polybolos_env::{Clock, Cpu, CpuTask, Env, Random};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

pub use disk::MemoryDisk;
pub use spill::MemorySpill;

/// What one host of the simulation may reach. `seed` should differ from host to host, and `disk` outlives a crash.
pub fn simulated(host: &str, seed: u64, disk: &MemoryDisk) -> Env {
    Env {
        net: Arc::new(net::TurmoilNet::new(host)),
        clock: Arc::new(SimClock),
        random: Arc::new(SeededRandom(Mutex::new(StdRng::seed_from_u64(seed)))),
        disk: Arc::new(disk.clone()),
        cpu: Arc::new(SameThread),
    }
}

struct SimClock;

impl Clock for SimClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the simulator's side of the seam: tokio's clock is paused here"
    )]
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> Duration {
        turmoil::since_epoch().unwrap_or_default()
    }
}

struct SeededRandom(Mutex<StdRng>);

impl Random for SeededRandom {
    fn next_u64(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}

/// Runs CPU work between the other tasks of its host.
struct SameThread;

impl Cpu for SameThread {
    fn spawn(&self, work: BoxFuture<'static, ()>) -> CpuTask {
        CpuTask::new(tokio::spawn(work))
    }
}
