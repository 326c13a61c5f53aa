//! A disk in memory on which everything goes wrong that a test asks for.
//!
//! It keeps what real ones keep: after a power cut the synced part of each file, whatever of the rest, and the names in
//! a folder as of some moment since it was last synced. A sync that failed marks its pages as written all the same, so
//! that a later one which succeeds does not bring them back.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use polybolos_env::{Disk, DiskFile, DiskLock, Env, Random};

const SECTOR_BYTES: usize = 512;

/// A disk that draws from `seed` what goes wrong, and a host that has it.
pub(crate) fn simulated(seed: u64) -> (CrashDisk, Env) {
    static ENV: LazyLock<Env> = LazyLock::new(|| Env::production(1).unwrap());
    let random: Arc<dyn Random> = Arc::new(Seeded(Mutex::new(seed)));
    let disk = CrashDisk::new(Arc::clone(&random));
    (disk.clone(), Env { disk: Arc::new(disk), random, ..ENV.clone() })
}

struct Seeded(Mutex<u64>);

impl Random for Seeded {
    /// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    fn next_u64(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[derive(Clone)]
pub(crate) struct CrashDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct Node {
    bytes: Vec<u8>,
    /// So much of it survives a power cut,
    durable: usize,
    /// but for these.
    lost: Vec<Range<usize>>,
}

enum NameChange {
    Link(PathBuf, usize),
    Unlink(PathBuf),
}

struct State {
    nodes: Vec<Node>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Since the folder was synced.
    name_changes: Vec<NameChange>,
    locked: BTreeSet<PathBuf>,
    /// Raised by each power cut: what was open before is of no use any more.
    boot: u64,
    /// The power goes after so many operations.
    power_for: Option<u64>,
    /// The operation after so many others fails in this way.
    fail: Option<(u64, io::ErrorKind)>,
    capacity_bytes: u64,
    random: Arc<dyn Random>,
}

fn no_power() -> io::Error {
    io::Error::other("the power is gone")
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl State {
    fn below(&self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    /// Counts an operation.
    fn operate(&mut self) -> io::Result<()> {
        match &mut self.power_for {
            Some(0) => return Err(no_power()),
            Some(left) => *left -= 1,
            None => {}
        }
        match &mut self.fail {
            Some((0, kind)) => {
                let kind = *kind;
                self.fail = None;
                Err(io::Error::new(kind, "as the test asked for"))
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn node(&self, path: &Path) -> io::Result<&Node> {
        self.names.get(path).map(|at| &self.nodes[*at]).ok_or_else(|| not_found(path))
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|at| self.nodes[*at].bytes.len() as u64).sum()
    }

    /// Some of what was not synced: cut short, or without some of its sectors, or all of it.
    fn tear(&mut self, at: usize) {
        let (how, cut) = (self.below(4), self.below(self.nodes[at].bytes.len() - self.nodes[at].durable + 1));
        let holes: Vec<_> =
            (0..=self.nodes[at].bytes.len() / SECTOR_BYTES).map(|_| self.below(2) == 0).collect();
        let node = &mut self.nodes[at];
        match how {
            0 => {}
            1 | 2 => node.bytes.truncate(node.durable + cut),
            _ => {
                for (index, byte) in node.bytes.iter_mut().enumerate().skip(node.durable) {
                    if holes[index / SECTOR_BYTES] {
                        *byte = 0;
                    }
                }
            }
        }
        for lost in std::mem::take(&mut node.lost) {
            let end = lost.end.min(node.bytes.len());
            node.bytes[lost.start.min(end)..end].fill(0);
        }
        node.durable = node.bytes.len();
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, node) => names.insert(path.clone(), *node),
            Self::Unlink(path) => names.remove(path),
        };
    }
}

impl CrashDisk {
    fn new(random: Arc<dyn Random>) -> Self {
        Self(Arc::new(Mutex::new(State {
            nodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            locked: BTreeSet::new(),
            boot: 0,
            power_for: None,
            fail: None,
            capacity_bytes: u64::MAX,
            random,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power, and restores it.
    pub(crate) fn crash(&self) {
        let mut state = self.lock();
        for at in 0..state.nodes.len() {
            state.tear(at);
        }
        let kept = state.below(state.name_changes.len() + 1);
        let mut names = std::mem::take(&mut state.durable_names);
        state.name_changes.drain(..).take(kept).for_each(|change| change.apply(&mut names));
        (state.names, state.durable_names) = (names.clone(), names);
        state.restart();
    }

    /// Ends the process that uses the disk, and no more.
    pub(crate) fn kill(&self) {
        self.lock().restart();
    }

    pub(crate) fn cut_power_after(&self, operations: u64) {
        self.lock().power_for = Some(operations);
    }

    pub(crate) fn fail_after(&self, operations: u64, kind: io::ErrorKind) {
        self.lock().fail = Some((operations, kind));
    }

    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.lock().capacity_bytes = bytes;
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// How much of a file survives a power cut.
    pub(crate) fn durable_bytes(&self, path: &Path) -> usize {
        self.lock().node(path).unwrap().durable
    }

    /// Changes a file behind everybody's back.
    pub(crate) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        let at = state.names[path];
        change(&mut state.nodes[at].bytes);
        state.nodes[at].durable = state.nodes[at].bytes.len();
    }
}

impl State {
    fn restart(&mut self) {
        self.boot += 1;
        (self.power_for, self.fail) = (None, None);
        self.locked.clear();
    }
}

/// A caller that stops waiting does so here.
async fn pause() {
    tokio::task::yield_now().await;
}

#[async_trait]
impl Disk for CrashDisk {
    async fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        self.lock().operate()
    }

    async fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        pause().await;
        let mut state = self.lock();
        state.operate()?;
        if state.names.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, path.display().to_string()));
        }
        let node = state.nodes.len();
        state.nodes.push(Node::default());
        state.change_name(NameChange::Link(path.to_owned(), node));
        Ok(Box::new(CrashFile { disk: self.clone(), node, boot: state.boot }))
    }

    async fn read(&self, path: &Path, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut state = self.lock();
        state.operate()?;
        let bytes = &state.node(path)?.bytes;
        let range = offset as usize..offset as usize + length;
        bytes.get(range).map(Bytes::copy_from_slice).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    async fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(self.lock().node(path)?.bytes.len() as u64)
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        pause().await;
        {
            let mut state = self.lock();
            state.operate()?;
            let node = *state.names.get(from).ok_or_else(|| not_found(from))?;
            state.change_name(NameChange::Link(to.to_owned(), node));
            state.change_name(NameChange::Unlink(from.to_owned()));
        }
        pause().await;
        Ok(())
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.operate()?;
        state.node(path)?;
        state.change_name(NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.operate()?;
        let below: Vec<_> = state.names.keys().filter(|name| name.starts_with(path)).cloned().collect();
        below.into_iter().for_each(|name| state.change_name(NameChange::Unlink(name)));
        Ok(())
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.operate()?;
        match state.names.keys().any(|name| name.starts_with(path)) {
            true => Err(io::ErrorKind::DirectoryNotEmpty.into()),
            false => Ok(()),
        }
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.lock().names.keys().filter(|name| name.parent() == Some(path)).cloned().collect())
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        pause().await;
        let mut state = self.lock();
        state.operate()?;
        let (mut names, mut rest) = (std::mem::take(&mut state.durable_names), Vec::new());
        for change in state.name_changes.drain(..) {
            let (NameChange::Link(name, _) | NameChange::Unlink(name)) = &change;
            if name.parent() == Some(path) { change.apply(&mut names) } else { rest.push(change) }
        }
        (state.durable_names, state.name_changes) = (names, rest);
        Ok(())
    }

    async fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let state = self.lock();
        Ok(state.capacity_bytes.saturating_sub(state.used_bytes()))
    }

    async fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        let boot = {
            let mut state = self.lock();
            state.operate()?;
            if !state.locked.insert(path.to_owned()) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            state.boot
        };
        Ok(DiskLock::new(Locked { disk: self.clone(), path: path.to_owned(), boot }))
    }
}

struct Locked {
    disk: CrashDisk,
    path: PathBuf,
    boot: u64,
}

impl Drop for Locked {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if state.boot == self.boot {
            state.locked.remove(&self.path);
        }
    }
}

struct CrashFile {
    disk: CrashDisk,
    node: usize,
    boot: u64,
}

impl CrashFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        if state.boot == self.boot { Ok(state) } else { Err(no_power()) }
    }

    fn take(&self, data: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        let room = state.capacity_bytes.saturating_sub(state.used_bytes());
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(data.len());
        state.nodes[self.node].bytes.extend_from_slice(&data[..fits]);
        if fits < data.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[async_trait]
impl DiskFile for CrashFile {
    async fn append(&mut self, data: &[u8]) -> io::Result<()> {
        let (cut, operated) = {
            let mut state = self.state()?;
            (state.below(data.len() + 1), state.operate())
        };
        let (first, second) = data.split_at(cut);
        self.take(first)?;
        pause().await;
        operated?;
        self.take(second)
    }

    async fn finish(&mut self, durable: bool) -> io::Result<()> {
        pause().await;
        {
            let mut state = self.state()?;
            let operated = state.operate();
            let failed = operated.is_err() && state.power_for != Some(0);
            let node = &mut state.nodes[self.node];
            if durable && failed {
                node.lost.push(node.durable..node.bytes.len());
            }
            operated?;
            if durable {
                node.durable = node.bytes.len();
            }
        }
        pause().await;
        Ok(())
    }
}
