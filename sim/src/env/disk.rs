//! A file system in memory, one for each host, on which everything goes wrong that a fault asks for.
//!
//! ```text
//!   files:  [ synced | handed to the system | in the process ]   names: as of some moment since the last `sync_dir`
//!   a process that dies loses the last part, a power cut tears all but the first, and undoes names
//! ```
//!
//! A sync that fails marks its pages as written all the same, as Linux does: a later one does not bring them back.
//! Folders exist as soon as a file in them does.

mod content;
mod seam;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use self::content::State;
use super::pause::{Debt, Pause};

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DiskKnobs {
    /// Share of operations that fail.
    pub error_rate: f64,
    /// What an operation takes more.
    pub extra_ms: u64,
    /// Nothing more can be written.
    pub full: bool,
}

/// The disk of a host. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Inner>);

struct Inner {
    latency_us: u64,
    debt: Debt,
    pause: Pause,
    state: Mutex<State>,
}

/// Which bytes of files may be damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    Synced,
    Any,
}

impl SimDisk {
    pub(super) fn new(seed: u64, latency_us: u64, pause: Pause) -> Self {
        let state = Mutex::new(State::new(StdRng::seed_from_u64(seed)));
        Self(Arc::new(Inner { latency_us, debt: Debt::default(), pause, state }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_knobs(&self, knobs: DiskKnobs) {
        self.state().knobs = knobs;
    }

    /// The process that used the disk has died. What it handed to the system stays.
    pub fn kill(&self) {
        self.state().kill();
    }

    /// The power was cut: what was not synced is lost or torn, and names that were not synced may be undone.
    pub fn power_loss(&self) {
        self.state().power_loss();
    }

    /// Another, empty disk is in its place.
    pub fn wipe(&self) {
        self.state().wipe();
    }

    /// All files, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// How many bytes below a folder [`SimDisk::flip_bits`] may hit.
    pub fn damageable_bytes(&self, folder: &Path, damage: Damage) -> u64 {
        self.state().sizes(folder, damage).iter().map(|(_, size)| *size as u64).sum()
    }

    /// Flips bits of files below a folder, each byte as likely as any other. Returns where.
    pub fn flip_bits(
        &self,
        folder: &Path,
        damage: Damage,
        bits: u32,
        random: &mut StdRng,
    ) -> Vec<(PathBuf, usize)> {
        let mut state = self.state();
        let sizes = state.sizes(folder, damage);
        let bytes: usize = sizes.iter().map(|(_, size)| size).sum();
        let mut flipped = Vec::new();
        for _ in 0..if bytes == 0 { 0 } else { bits } {
            let mut at = random.random_range(0..bytes);
            let bit = random.random_range(0..8);
            for (path, size) in &sizes {
                if at < *size {
                    state.flip(path, at, bit);
                    flipped.push((path.clone(), at));
                    break;
                }
                at -= size;
            }
        }
        flipped
    }
}
