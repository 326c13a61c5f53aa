//! Keys in one file over `env.disk`: what the simulator runs, and what a replica can run instead of sled.
//!
//! ```text
//!   write ─▶ append to the file ─▶ change what readers see ─▶ sync ─▶ note in the witness ─▶ acknowledged
//!                │ when it has grown to twice what is live, when it is opened,
//!                │ or when nobody knows any more how it ends
//!                ▼
//!            written anew aside, synced, renamed
//! ```
//!
//! `format` says how the file lies on the disk, `replay` what is dropped and what is refused when it is opened.
//! All keys and values are in memory, and writes wait while the file is written anew: it is meant for the log and one
//! snapshot, not for a large database.
//!
//! After an append or a sync that failed, or whose caller stopped waiting, the rest of the file is not trusted: the
//! next write writes it anew from memory first. A failure other than a full disk is for good.

mod format;
mod live;
mod replay;
#[cfg(test)]
mod tests;
mod witness;

use std::{
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use async_trait::async_trait;
use polybolos_env::{Disk, DiskFile, DiskLock, Env, Random};
use tokio::sync::Mutex;

use super::{Batch, Changes, Durability, Kv, KvError, Pairs, when_unlocked};
use format::Kind;
use live::Live;
use replay::Replayed;
use witness::Witness;

const NAME: &str = "journal";
const LOCK_NAME: &str = "lock";

/// Smaller in tests.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// What one record of the base holds, about.
    part_bytes: u64,
    /// A journal is written anew when it has more than this beside twice what is live.
    slack_bytes: u64,
}

const SIZES: Sizes = Sizes { part_bytes: 1024 * 1024, slack_bytes: 4 * 1024 * 1024 };

pub(crate) struct JournalKv {
    sizes: Sizes,
    disk: Arc<dyn Disk>,
    random: Arc<dyn Random>,
    folder: PathBuf,
    live: RwLock<Live>,
    writer: Mutex<Writer>,
    _lock: DiskLock,
}

/// Who holds it writes.
struct Writer {
    /// `None` while nobody knows how the file ends.
    journal: Option<Journal>,
    /// Of the last batch that readers see.
    number: u64,
    /// Why nothing can be written any more.
    failed: Option<(io::ErrorKind, String)>,
}

/// The file that takes the next batch.
struct Journal {
    file: Box<dyn DiskFile>,
    witness: Witness,
    salt: u64,
    bytes: u64,
    /// The last batch that is known to be durable.
    durable: u64,
    /// It is not written anew before it has this size.
    compact_at_bytes: u64,
}

/// A journal that was written and synced, and is not in place yet.
struct Aside {
    file: Box<dyn DiskFile>,
    salt: u64,
    bytes: u64,
}

impl JournalKv {
    /// Opens or makes the journal in `folder`, and waits [`super::LOCK_WAIT`] for a lock on it.
    ///
    /// # Errors
    /// [`KvError::Full`] and [`KvError::Locked`] leave the folder as it is.
    pub(crate) async fn open(env: &Env, folder: &Path) -> Result<Self, KvError> {
        Self::open_sized(env, folder, SIZES).await
    }

    async fn open_sized(env: &Env, folder: &Path, sizes: Sizes) -> Result<Self, KvError> {
        let disk = env.disk.as_ref();
        disk.create_dir_all(folder).await.map_err(io_error("make the journal's folder"))?;
        let path = folder.join(LOCK_NAME);
        let lock = when_unlocked(|| async {
            disk.lock(&path).await.map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => KvError::Locked,
                _ => io_error("lock the journal")(error),
            })
        })
        .await?;
        let replayed = match find(disk, folder).await? {
            Some(acknowledged) => replay::replay(disk, &folder.join(NAME), acknowledged).await?,
            None => match begin(disk, folder).await {
                Ok(()) => Replayed { live: Live::default(), number: 0 },
                Err(error) => return Err(failure(disk, folder, error).await),
            },
        };
        let mut this = Self {
            sizes,
            disk: Arc::clone(&env.disk),
            random: Arc::clone(&env.random),
            folder: folder.to_owned(),
            live: RwLock::new(replayed.live),
            writer: Mutex::new(Writer { journal: None, number: replayed.number, failed: None }),
            _lock: lock,
        };
        match this.rewrite(replayed.number).await {
            Ok(journal) => this.writer.get_mut().journal = Some(journal),
            Err(error) => return Err(failure(disk, folder, error).await),
        }
        Ok(this)
    }

    fn read(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write_next(&self, writer: &mut Writer, batch: &Batch, durability: Durability) -> io::Result<()> {
        // It comes back once all has gone well: not after an error, nor when the caller stops waiting.
        let mut journal = match writer.journal.take() {
            Some(journal) => journal,
            None => self.rewrite(writer.number).await?,
        };
        let number = writer.number.saturating_add(1);
        let record = record(journal.salt, Kind::Batch, (number, journal.durable), &batch.0)?;
        journal.file.append(&record).await?;
        journal.bytes += record.len() as u64;
        writer.number = number;
        self.live.write().unwrap_or_else(PoisonError::into_inner).apply(&batch.0);
        if durability == Durability::Flushed && !polybolos_model::mutant!("skip-flush") {
            polybolos_model::failpoint!("log.after_append_before_flush");
            journal.file.finish(true).await?;
            journal.durable = number;
            journal.witness.note(number).await?;
        }
        if journal.bytes > journal.compact_at_bytes.max(self.compact_at_bytes()) {
            journal = self.compact(journal, number).await?;
        }
        writer.journal = Some(journal);
        Ok(())
    }

    fn compact_at_bytes(&self) -> u64 {
        self.read().bytes().saturating_mul(2).saturating_add(self.sizes.slack_bytes)
    }

    /// Leaves the journal as it is, for a while, if there is no room for another.
    async fn compact(&self, mut journal: Journal, number: u64) -> io::Result<Journal> {
        match self.write_aside(number).await {
            Ok(aside) => self.switch(aside, number).await,
            Err(error) if is_full(&error) => {
                journal.compact_at_bytes = journal.bytes.saturating_add(self.sizes.slack_bytes);
                Ok(journal)
            }
            Err(error) => Err(error),
        }
    }

    async fn rewrite(&self, number: u64) -> io::Result<Journal> {
        let aside = self.write_aside(number).await?;
        self.switch(aside, number).await
    }

    /// Writes all that readers see; that is what the batches up to `number` left.
    async fn write_aside(&self, number: u64) -> io::Result<Aside> {
        let path = aside(&self.folder, NAME);
        remove_if_there(self.disk.as_ref(), &path).await?;
        let written = self.write_live(&path, number).await;
        if written.is_err() {
            // What it takes may be what others wait for. If it stays, the next attempt removes it.
            let _ = self.disk.remove_file(&path).await;
        }
        written
    }

    async fn write_live(&self, path: &Path, number: u64) -> io::Result<Aside> {
        let salt = self.random.next_u64();
        let mut file = self.disk.create(path).await?;
        let head = format::head(salt);
        file.append(&head).await?;
        let (mut bytes, mut last) = (head.len() as u64, None::<Vec<u8>>);
        for part in 0.. {
            let puts = self.read().part(last.as_deref(), self.sizes.part_bytes);
            last = puts.last().map(|(key, _)| key.clone()).or(last);
            let (kind, number) = if puts.is_empty() { (Kind::End, number) } else { (Kind::Base, part) };
            let changes = Changes { removals: Vec::new(), puts };
            let record = record(salt, kind, (number, 0), &changes)?;
            file.append(&record).await?;
            bytes += record.len() as u64;
            if kind == Kind::End {
                break;
            }
        }
        file.finish(true).await?;
        Ok(Aside { file, salt, bytes })
    }

    /// The journal must be durable under its name before the witness says how far it goes.
    async fn switch(&self, new: Aside, number: u64) -> io::Result<Journal> {
        polybolos_model::failpoint!("journal.before_rename");
        self.disk.rename(&aside(&self.folder, NAME), &self.folder.join(NAME)).await?;
        self.disk.sync_dir(&self.folder).await?;
        let witness = Witness::renew(self.disk.as_ref(), &self.folder, number).await?;
        let Aside { file, salt, bytes } = new;
        Ok(Journal { file, witness, salt, bytes, durable: number, compact_at_bytes: 0 })
    }
}

#[async_trait]
impl Kv for JournalKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.read().get(key).cloned())
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        if from >= to {
            return Box::new(std::iter::empty());
        }
        Box::new(Range { live: self.read(), from: Bound::Included(from.to_owned()), to: to.to_owned() })
    }

    async fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        let mut writer = self.writer.lock().await;
        if let Some((kind, reason)) = &writer.failed {
            let source = io::Error::new(*kind, format!("an earlier write failed: {reason}"));
            return Err(io_error("write the journal")(source));
        }
        match self.write_next(&mut writer, &batch, durability).await {
            Ok(()) => Ok(()),
            Err(error) => {
                if !is_full(&error) {
                    writer.failed = Some((error.kind(), error.to_string()));
                }
                Err(failure(self.disk.as_ref(), &self.folder, error).await)
            }
        }
    }

    async fn free_bytes(&self) -> Result<u64, KvError> {
        let free = self.disk.free_bytes(&self.folder).await;
        let free_bytes = free.map_err(io_error("tell how much room is left"))?;
        let needs_rewrite = self.writer.try_lock().is_ok_and(|writer| writer.journal.is_none());
        Ok(if needs_rewrite { free_bytes.saturating_sub(self.read().bytes()) } else { free_bytes })
    }
}

struct Range<'a> {
    live: RwLockReadGuard<'a, Live>,
    from: Bound<Vec<u8>>,
    to: Vec<u8>,
}

impl Range<'_> {
    fn from(&self) -> Bound<&[u8]> {
        self.from.as_ref().map(Vec::as_slice)
    }

    /// `BTreeMap` takes no range that ends before it begins.
    fn is_over(&self) -> bool {
        matches!(&self.from, Bound::Included(from) | Bound::Excluded(from) if *from >= self.to)
    }
}

impl Iterator for Range<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>), KvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over() {
            return None;
        }
        let (key, value) = self.live.first(self.from(), Bound::Excluded(&self.to))?;
        let pair = (key.clone(), value.clone());
        self.from = Bound::Excluded(pair.0.clone());
        Some(Ok(pair))
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.is_over() {
            return None;
        }
        let (key, value) = self.live.last(self.from(), Bound::Excluded(&self.to))?;
        let pair = (key.clone(), value.clone());
        self.to = pair.0.clone();
        Some(Ok(pair))
    }
}

/// The number of the last batch that is known to be durable; `None` in a new folder.
async fn find(disk: &dyn Disk, folder: &Path) -> Result<Option<u64>, KvError> {
    let files = disk.list(folder).await.map_err(io_error("list the journal's folder"))?;
    let gone = |what: &str| KvError::Damaged { reason: format!("{what} is gone from {}", folder.display()) };
    match (files.contains(&folder.join(NAME)), Witness::is_there(&files, folder)) {
        (true, true) => Witness::read(disk, folder).await.map(Some),
        (true, false) => Err(gone("the file of acknowledged batches")),
        // The witness is made first.
        (false, true) if Witness::read(disk, folder).await? > 0 => Err(gone("the journal")),
        (false, _) => Ok(None),
    }
}

/// A witness of nothing yet, in a folder that is durable.
async fn begin(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    Witness::renew(disk, folder, 0).await?;
    let folders = [Some(folder), folder.parent(), folder.parent().and_then(Path::parent)];
    for folder in folders.into_iter().flatten().filter(|folder| !folder.as_os_str().is_empty()) {
        disk.sync_dir(folder).await?;
    }
    Ok(())
}

fn record(salt: u64, kind: Kind, numbers: (u64, u64), changes: &Changes) -> io::Result<Vec<u8>> {
    let too_large = || io::Error::new(io::ErrorKind::InvalidInput, "the batch is larger than 4 GiB");
    format::record(salt, kind, numbers, changes).ok_or_else(too_large)
}

async fn failure(disk: &dyn Disk, folder: &Path, error: io::Error) -> KvError {
    if is_full(&error) {
        return KvError::Full { free_bytes: disk.free_bytes(folder).await.unwrap_or(0) };
    }
    io_error("write the journal")(error)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn io_error(operation: &'static str) -> impl Fn(io::Error) -> KvError + Copy {
    move |source| KvError::Io { operation, source }
}

fn aside(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.new"))
}

async fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
