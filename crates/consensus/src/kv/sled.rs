//! Keys in sled, with an fsync and a witness of ours.
//!
//! sled's `flush` reaches `sync_file_range` on Linux, which does not survive a power cut. So a durable write also
//! syncs the database file through a second handle (a sync is per file, not per handle) before it reports.
//!
//! A failed write of its file ends sled for good, and a full disk is such a failure: so nothing here begins without
//! room, the opening included, and [`super::patient`] holds back writes in time.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
};

use async_trait::async_trait;

use super::{Batch, Durability, Kv, KvError, Pairs, guarded::guarded, when_unlocked, witness::Witness};

/// What sled may cache: far more than the log that a snapshot leaves, far less than a busy host has.
const CACHE_BYTES: u64 = 128 * 1024 * 1024;
/// What opening may write: two of sled's buffers and its map of pages.
const OPEN_BYTES: u64 = 8 * 1024 * 1024;

const READ: &str = "read the database";

/// Holds the number (big-endian) of the last durable write.
const NUMBER_KEY: &[u8] = &[0];

pub(crate) struct SledKv(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    db: sled::Db,
    /// The second handle to sled's database file.
    file: File,
    witness: Witness,
    /// Written while sled takes a batch, read while a range lives: sled's own iterators take a lock for each step only,
    /// and would show a part of a batch.
    batches: RwLock<()>,
    /// The number of the last durable write that began. Held while sled takes a batch, so that numbers are in order.
    number: Mutex<u64>,
}

impl SledKv {
    /// Opens or makes the database in `folder`, and waits [`super::LOCK_WAIT`] for a lock on it.
    ///
    /// # Errors
    /// [`KvError::Full`] leaves the folder as it is.
    pub(crate) async fn open(folder: &Path) -> Result<Self, KvError> {
        when_unlocked(|| {
            let folder = folder.to_owned();
            blocking("open the database", move || open(&folder))
        })
        .await
    }
}

#[allow(clippy::disallowed_methods, reason = "sled is the production side of the `Kv` seam")]
fn open(folder: &Path) -> Result<SledKv, KvError> {
    let io = |operation| move |source| KvError::Io { operation, source };
    std::fs::create_dir_all(folder).map_err(io("make the database's folder"))?;
    let free_bytes = free_bytes(folder)?;
    if free_bytes < OPEN_BYTES {
        return Err(KvError::Full { free_bytes });
    }
    let config = sled::Config::default().path(folder).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let db = config.open().map_err(|error| match error {
        // sled has no kind of its own for this.
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => KvError::Locked,
        error => error.into(),
    })?;
    let file =
        OpenOptions::new().write(true).open(folder.join("db")).map_err(io("open the database file"))?;
    let witness = Witness::open(&folder.join("durable"))?;
    let number = check_whole(&db, &witness)?;
    db.flush()?;
    file.sync_all().map_err(io("sync the database file"))?;
    // sled writes its settings once, in two parts, never syncs them, and does not open with half of them.
    File::open(folder.join("conf"))
        .and_then(|settings| settings.sync_all())
        .map_err(io("sync the database's settings"))?;
    // A new file survives a power cut once its folders do.
    let folders = [Some(folder), folder.parent(), folder.parent().and_then(Path::parent)];
    for folder in folders.into_iter().flatten().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync the data folder"))?;
    }
    let folder = folder.to_owned();
    Ok(SledKv(Arc::new(Inner {
        folder,
        db,
        file,
        witness,
        batches: RwLock::new(()),
        number: Mutex::new(number),
    })))
}

/// A call of about a microsecond, so it needs no thread of its own.
fn free_bytes(folder: &Path) -> Result<u64, KvError> {
    fs2::available_space(folder)
        .map_err(|source| KvError::Io { operation: "tell how much room is left", source })
}

/// The number of the last durable write that the database holds; an error if a later one is known.
fn check_whole(db: &sled::Db, witness: &Witness) -> Result<u64, KvError> {
    let number = match db.get(NUMBER_KEY)?.as_deref().map(<[u8; 8]>::try_from) {
        Some(Ok(bytes)) => u64::from_be_bytes(bytes),
        Some(Err(_)) => return Err(KvError::Damaged { reason: "its write number is malformed".to_owned() }),
        None => 0,
    };
    let durable = witness.highest();
    if number < durable {
        let reason = format!("it ends at durable write {number}, and {durable} were acknowledged");
        return Err(KvError::Damaged { reason });
    }
    Ok(number)
}

impl Inner {
    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), KvError> {
        if let ([(key, value)], [], Durability::Flushed) =
            (batch.0.puts.as_slice(), batch.0.removals.as_slice(), durability)
        {
            let number = self.take_alone(key, value)?;
            return self.sync(number);
        }
        let mut changes = sled::Batch::default();
        for (from, to) in &batch.0.removals {
            for key in self.db.range(from.as_slice()..to.as_slice()).keys() {
                changes.remove(key?);
            }
        }
        for (key, value) in &batch.0.puts {
            changes.insert(key.as_slice(), value.as_slice());
        }
        if durability == Durability::Buffered {
            return self.take(changes);
        }
        let number = {
            let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
            *number += 1;
            changes.insert(NUMBER_KEY, &number.to_be_bytes());
            self.take(changes)?;
            *number
        };
        self.sync(number)
    }

    /// One pair needs no batch. sled writes its buffer out before a batch, behind the batch's head and behind the rest, each
    /// time by another thread: that took longer than the fsync. The number comes behind the pair in sled's log, of which a
    /// crash leaves a beginning: it is never there without the pair.
    fn take_alone(&self, key: &[u8], value: &[u8]) -> Result<u64, KvError> {
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        let _alone = self.batches.write().unwrap_or_else(PoisonError::into_inner);
        *number += 1;
        self.db.insert(key, value)?;
        self.db.insert(NUMBER_KEY, &number.to_be_bytes())?;
        Ok(*number)
    }

    /// Returns once the write of this number, and all before it, survive a power cut.
    fn sync(&self, number: u64) -> Result<(), KvError> {
        self.db.flush()?;
        self.file.sync_all().map_err(|source| KvError::Io { operation: "sync the database file", source })?;
        let noted = self.witness.note(number);
        noted.map_err(|source| KvError::Io { operation: "write the file of durable writes", source })
    }

    fn take(&self, changes: sled::Batch) -> Result<(), KvError> {
        let _alone = self.batches.write().unwrap_or_else(PoisonError::into_inner);
        Ok(self.db.apply_batch(changes)?)
    }
}

/// Runs `work` where blocking is allowed.
#[allow(
    clippy::disallowed_methods,
    reason = "sled is the production side of the `Kv` seam and blocks on the disk"
)]
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, KvError> + Send + 'static,
) -> Result<T, KvError> {
    let done = tokio::task::spawn_blocking(move || guarded(operation, work)).await;
    done.unwrap_or(Err(KvError::Stopped { operation }))
}

#[async_trait]
impl Kv for SledKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        guarded(READ, || Ok(self.0.db.get(key)?.map(|value| value.to_vec())))
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        if from >= to {
            return Box::new(std::iter::empty());
        }
        let moment = self.0.batches.read().unwrap_or_else(PoisonError::into_inner);
        Box::new(Range { pairs: self.0.db.range(from..to), gave_up: false, _moment: moment })
    }

    async fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        let inner = Arc::clone(&self.0);
        blocking("write to the database", move || inner.write(&batch, durability)).await
    }

    async fn free_bytes(&self) -> Result<u64, KvError> {
        free_bytes(&self.0.folder)
    }
}

/// An iterator of sled's, guarded step by step.
struct Range<'a> {
    pairs: sled::Iter,
    /// sled's iterator is not asked again after a panic.
    gave_up: bool,
    _moment: RwLockReadGuard<'a, ()>,
}

impl Range<'_> {
    fn step(
        &mut self,
        step: impl FnOnce(&mut sled::Iter) -> Option<sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Option<<Self as Iterator>::Item> {
        if self.gave_up {
            return None;
        }
        let pairs = &mut self.pairs;
        let pair = guarded(READ, || match step(pairs) {
            Some(pair) => {
                let (key, value) = pair?;
                Ok(Some((key.to_vec(), value.to_vec())))
            }
            None => Ok(None),
        });
        self.gave_up = matches!(pair, Err(KvError::Panicked { .. }));
        pair.transpose()
    }
}

impl Iterator for Range<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>), KvError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(sled::Iter::next)
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(sled::Iter::next_back)
    }
}

impl From<sled::Error> for KvError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(source) => Self::Io { operation: "read or write the database file", source },
            sled::Error::Unsupported(reason) => Self::Io {
                operation: "use the database",
                source: io::Error::new(io::ErrorKind::Unsupported, reason),
            },
            other => Self::Damaged { reason: other.to_string() },
        }
    }
}

/// Where sled keeps its files inside a data folder.
pub(crate) fn folder_in(data_dir: &Path) -> PathBuf {
    data_dir.join("log")
}
