//! The seams between our code and the world: network, clock, randomness, disk, CPU work.
//!
//! ```text
//!   scheduler ─┐                  ┌─▶ production: tokio and the machine (this crate)
//!   executor ──┼─▶ Env (traits) ──┤
//!   client ────┘                  └─▶ simulation: turmoil and simulated disks (`sim/`)
//! ```
//!
//! Code that takes an [`Env`] runs unchanged on both sides. Deliberately absent: timers. `tokio::time::sleep` and
//! `timeout` follow the simulated clock already; only *reading* a clock goes through [`Clock`].

mod clock;
mod cpu;
mod disk;
pub mod grpc;
mod host;
mod net;
mod random;

use std::sync::Arc;

pub use clock::Clock;
pub use cpu::{Cpu, CpuTask};
pub use disk::{Disk, DiskFile, DiskLock, OpenFile};
pub use net::{BoxIo, Io, Listener, Net};
pub use random::Random;

/// Everything a node may reach. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    pub net: Arc<dyn Net>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub disk: Arc<dyn Disk>,
    pub cpu: Arc<dyn Cpu>,
    /// Equal where processes see the same files under the same names: on one machine, between its starts, and in one
    /// mount namespace. `None` where nobody can tell.
    pub host: Option<Arc<str>>,
}

impl Env {
    /// The real machine. CPU work runs on `cpu_threads` threads of its own, so that it never delays the network.
    ///
    /// # Errors
    /// The threads can't be started.
    pub fn production(cpu_threads: usize) -> std::io::Result<Self> {
        Ok(Self {
            net: Arc::new(net::TokioNet),
            clock: Arc::new(clock::SystemClock),
            random: Arc::new(random::SystemRandom),
            disk: Arc::new(disk::LocalDisk),
            cpu: Arc::new(cpu::CpuPool::new(cpu_threads)?),
            host: host::host(),
        })
    }
}
