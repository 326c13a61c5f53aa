//! When which replica loses its power, and for how long. Drawn from the seed; a majority stays up if there are three.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use turmoil::Sim;

use crate::{cluster::replica_host, env::MemoryDisk};

/// See the module.
pub struct Faults {
    random: StdRng,
    disks: BTreeMap<u64, MemoryDisk>,
    /// The replica that is down, and until when.
    down: Option<(u64, Duration)>,
    /// When the next one goes down.
    next: Duration,
    /// No more faults: what is left must come to its end.
    calm: Arc<AtomicBool>,
    crashes: u32,
}

impl Faults {
    pub fn new(seed: u64, replicas: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let next = Duration::from_millis(random.random_range(500..3_000));
        let disks = (1..=replicas).map(|id| (id, MemoryDisk::default())).collect();
        Self { random, disks, down: None, next, calm: Arc::default(), crashes: 0 }
    }

    /// The disk of a replica, which outlives its crashes.
    pub fn disk(&self, id: u64) -> MemoryDisk {
        self.disks.get(&id).cloned().unwrap_or_default()
    }

    /// Ends the faults when it is called.
    pub fn calm(&self) -> impl Fn() + use<> {
        let calm = Arc::clone(&self.calm);
        move || calm.store(true, Ordering::Relaxed)
    }

    pub fn crashes(&self) -> u32 {
        self.crashes
    }

    /// Looks at the clock after each tick.
    pub fn step(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        let calm = self.calm.load(Ordering::Relaxed);
        match self.down {
            Some((id, until)) if now >= until || calm => {
                sim.bounce(replica_host(id));
                self.down = None;
                self.next = now + Duration::from_millis(self.random.random_range(200..3_000));
            }
            None if now >= self.next && !calm => self.crash(sim, now),
            Some(_) | None => {}
        }
    }

    fn crash(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let id = self.random.random_range(1..=self.disks.len() as u64);
        sim.crash(replica_host(id));
        let random = &mut self.random;
        if let Some(disk) = self.disks.get(&id) {
            disk.crash(|unsynced| random.random_range(0..=unsynced));
        }
        self.crashes += 1;
        self.down = Some((id, now + Duration::from_millis(self.random.random_range(50..4_000))));
    }
}
