//! One simulated host: everything of it that outlives its crashes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use polybolos_env::Env;
use polybolos_executor::{ExecutorConfig, Spill};
use tokio::time::sleep;

use super::{Memory, MemorySpill, NetKnobs, Pause, SeededRandom, SimClock, SimCpu, SimDisk, net::TurmoilNet};
use crate::schedule::{Schedule, fork};

/// How often a spare host looks whether it is wanted.
const LOOK: Duration = Duration::from_millis(10);

/// A host with its knobs. Clones are the same host.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    name: String,
    /// Of the random numbers of each life.
    seed: u64,
    disk: SimDisk,
    clock: SimClock,
    cpu: SimCpu,
    net: NetKnobs,
    memory: Memory,
    pause: Pause,
    started: AtomicBool,
    /// What [`Host::signal`] was told, one more than that; 0 for nothing.
    signal: AtomicU64,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl Host {
    pub fn new(name: &str, schedule: &Schedule) -> Self {
        let cluster = &schedule.cluster;
        let pause = Pause::default();
        let half_ms = i64::try_from(cluster.clock_offset_ms / 2).unwrap_or(i64::MAX);
        let spread = cluster.clock_offset_ms.saturating_add(1);
        let drawn_ms = i64::try_from(schedule.fork(&format!("clock {name}")) % spread).unwrap_or(0);
        Self(Arc::new(Inner {
            seed: schedule.fork(&format!("random {name}")),
            disk: SimDisk::new(
                schedule.fork(&format!("disk {name}")),
                cluster.disk_latency_us,
                pause.clone(),
            ),
            clock: SimClock::new(drawn_ms - half_ms),
            cpu: SimCpu::new(cluster.batch_cost_us, pause.clone()),
            net: NetKnobs::new(schedule.fork(&format!("net {name}"))),
            memory: Memory::default(),
            pause,
            started: AtomicBool::new(true),
            signal: AtomicU64::new(0),
            name: name.to_owned(),
        }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What real code gets in one life; each draws other random numbers.
    pub fn env(&self, life: u32) -> Env {
        Env {
            net: Arc::new(TurmoilNet::new(self.name(), self.0.net.clone())),
            clock: Arc::new(self.0.clock.clone()),
            random: Arc::new(SeededRandom::new(fork(self.0.seed, &format!("life {life}")))),
            disk: Arc::new(self.0.disk.clone()),
            cpu: Arc::new(self.0.cpu.clone()),
            // A machine of its own.
            host: Some(self.name().into()),
        }
    }

    pub fn spill(&self) -> Spill {
        Spill::Custom(Arc::new(MemorySpill))
    }

    /// Gives an executor memory that [`Host::memory`] can take away. Half of the executors have none for shuffle outputs,
    /// which all go to the disk there: the tables of a simulation are too small to fill any.
    pub fn limit_memory(&self, config: &mut ExecutorConfig) {
        if fork(self.0.seed, "shuffle").is_multiple_of(2) {
            config.shuffle_memory_fraction = 0.0;
        }
        let (_, operator_bytes) = config.budgets();
        config.memory_pool = Some(self.0.memory.pool(operator_bytes));
    }

    /// Whether its software runs: a spare host waits until a fault asks for it.
    pub fn set_started(&self, started: bool) {
        self.0.started.store(started, Ordering::Relaxed);
    }

    pub fn is_started(&self) -> bool {
        self.0.started.load(Ordering::Relaxed)
    }

    pub async fn wait_until_started(&self) {
        while !self.is_started() {
            sleep(LOOK).await;
        }
    }

    /// Its process is told to end in order within so long, as by SIGTERM.
    pub fn signal(&self, deadline_ms: u64) {
        self.0.signal.store(deadline_ms.saturating_add(1), Ordering::Relaxed);
    }

    /// Waits for [`Host::signal`] and takes it.
    pub async fn signalled(&self) -> Duration {
        loop {
            match self.0.signal.swap(0, Ordering::Relaxed) {
                0 => sleep(LOOK).await,
                told => return Duration::from_millis(told - 1),
            }
        }
    }

    pub fn disk(&self) -> &SimDisk {
        &self.0.disk
    }

    pub fn clock(&self) -> &SimClock {
        &self.0.clock
    }

    pub fn cpu(&self) -> &SimCpu {
        &self.0.cpu
    }

    pub fn net(&self) -> &NetKnobs {
        &self.0.net
    }

    pub fn memory(&self) -> &Memory {
        &self.0.memory
    }

    pub fn pause(&self) -> &Pause {
        &self.0.pause
    }
}
