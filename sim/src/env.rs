//! The simulated side of every seam.
//!
//! ```text
//!   Host ──┬── disk     a file system in memory: slow, failing, full, torn by power cuts, with flipped bits
//!          ├── clock    wall time that is off, jumps and drifts
//!          ├── cpu      work that takes simulated time
//!          ├── net      turmoil's, with connections that break
//!          └── memory   operators that get none
//!   TableStore          one object store for all hosts
//! ```
//!
//! What is here is passive: `faults/` turns the knobs.

mod clock;
mod cpu;
mod disk;
mod host;
mod memory;
mod net;
mod pause;
mod spill;
mod store;

use std::sync::{Mutex, PoisonError};

use polybolos_env::Random;
use rand::{Rng, SeedableRng, rngs::StdRng};

pub use clock::SimClock;
pub use cpu::SimCpu;
pub use disk::{Damage, DiskKnobs, SimDisk};
pub use host::Host;
pub use memory::Memory;
pub use net::NetKnobs;
pub use pause::Pause;
pub use spill::MemorySpill;
pub use store::TableStore;

struct SeededRandom(Mutex<StdRng>);

impl SeededRandom {
    fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Random for SeededRandom {
    fn next_u64(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}
