//! What is on a disk, and what is left of it after a crash.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::{Rng, rngs::StdRng};

use super::{Damage, DiskKnobs};

const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) bytes: Vec<u8>,
    /// So many of them were handed to the system,
    pub(super) flushed: usize,
    /// and so many to the disk,
    pub(super) synced: usize,
    /// but for these, whose sync failed.
    pub(super) lost: Vec<Range<usize>>,
}

/// A file stays what it is when its name changes: who has it open writes on.
pub(super) type File = Arc<Mutex<Inode>>;

pub(super) fn inode(file: &File) -> MutexGuard<'_, Inode> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

type Names = BTreeMap<PathBuf, File>;

/// A change of names that a power cut may undo.
pub(super) enum Change {
    Link(PathBuf, File),
    Unlink(PathBuf),
}

impl Change {
    fn path(&self) -> &Path {
        let (Self::Link(path, _) | Self::Unlink(path)) = self;
        path
    }

    fn apply(self, names: &mut Names) {
        match self {
            Self::Link(path, file) => names.insert(path, file),
            Self::Unlink(path) => names.remove(&path),
        };
    }
}

pub(super) struct State {
    pub(super) names: Names,
    /// As they are after a power cut, if none of `changes` survives it.
    durable: Names,
    changes: Vec<Change>,
    pub(super) locked: BTreeSet<PathBuf>,
    /// Raised by each crash: what was open before is of no use any more.
    pub(super) boot: u64,
    pub(super) knobs: DiskKnobs,
    pub(super) random: StdRng,
}

pub(super) fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl State {
    pub(super) fn new(random: StdRng) -> Self {
        Self {
            names: Names::new(),
            durable: Names::new(),
            changes: Vec::new(),
            locked: BTreeSet::new(),
            boot: 0,
            knobs: DiskKnobs::default(),
            random,
        }
    }

    /// Whether this operation fails.
    pub(super) fn draw_error(&mut self) -> io::Result<()> {
        let rate = self.knobs.error_rate;
        if rate > 0.0 && self.random.random_bool(rate.min(1.0)) {
            return Err(io::Error::other("simulated disk error"));
        }
        Ok(())
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<&File> {
        self.names.get(path).ok_or_else(|| not_found(path))
    }

    pub(super) fn link(&mut self, path: &Path, file: &File) {
        self.names.insert(path.to_owned(), Arc::clone(file));
        self.changes.push(Change::Link(path.to_owned(), Arc::clone(file)));
    }

    pub(super) fn unlink(&mut self, path: &Path) {
        self.names.remove(path);
        self.changes.push(Change::Unlink(path.to_owned()));
    }

    pub(super) fn sync_dir(&mut self, folder: &Path) {
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            self.changes.drain(..).partition(|change| change.path().parent() == Some(folder));
        self.changes = elsewhere;
        here.into_iter().for_each(|change| change.apply(&mut self.durable));
    }

    fn restart(&mut self) {
        self.boot += 1;
        self.locked.clear();
    }

    pub(super) fn kill(&mut self) {
        let Self { names, random, .. } = self;
        for file in names.values() {
            let mut file = inode(file);
            let end = random.random_range(file.flushed..=file.bytes.len());
            file.bytes.truncate(end);
            file.flushed = end;
        }
        self.restart();
    }

    pub(super) fn power_loss(&mut self) {
        let kept = self.random.random_range(0..=self.changes.len());
        let mut names = std::mem::take(&mut self.durable);
        self.changes.drain(..).take(kept).for_each(|change| change.apply(&mut names));
        for file in names.values() {
            tear(&mut inode(file), &mut self.random);
        }
        (self.names, self.durable) = (names.clone(), names);
        self.restart();
    }

    pub(super) fn wipe(&mut self) {
        self.names.clear();
        self.durable.clear();
        self.changes.clear();
        self.restart();
    }

    pub(super) fn sizes(&self, folder: &Path, damage: Damage) -> Vec<(PathBuf, usize)> {
        let below = self.names.iter().filter(|(path, _)| path.starts_with(folder));
        let sized = below.map(|(path, file)| {
            let file = inode(file);
            (path.clone(), if damage == Damage::Synced { file.synced } else { file.bytes.len() })
        });
        sized.collect()
    }

    pub(super) fn flip(&mut self, path: &Path, at: usize, bit: u32) {
        if let Some(file) = self.names.get(path)
            && let Some(byte) = inode(file).bytes.get_mut(at)
        {
            *byte ^= 1 << bit;
        }
    }
}

/// Leaves some of what was not synced: all, a part, or all but some of its sectors.
fn tear(file: &mut Inode, random: &mut StdRng) {
    let (synced, length) = (file.synced, file.bytes.len());
    if synced < length {
        match random.random_range(0..6_u8) {
            0 => {}
            1..=3 => file.bytes.truncate(random.random_range(synced..=length)),
            _ => {
                for sector in synced / SECTOR_BYTES..=length / SECTOR_BYTES {
                    let range =
                        (sector * SECTOR_BYTES).max(synced)..((sector + 1) * SECTOR_BYTES).min(length);
                    if range.is_empty() || random.random_bool(0.5) {
                        continue;
                    }
                    // A file system that got the length and not the data shows zeros. That none shows what was there
                    // before is what the journal relies on.
                    file.bytes[range].fill(0);
                }
            }
        }
    }
    for lost in std::mem::take(&mut file.lost) {
        let end = lost.end.min(file.bytes.len());
        file.bytes[lost.start.min(end)..end].fill(0);
    }
    (file.flushed, file.synced) = (file.bytes.len(), file.bytes.len());
}
