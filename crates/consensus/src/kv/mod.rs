//! What the stores need of a disk: ordered keys, atomic batches, and a promise about what is durable.
//!
//! ```text
//!   stores ─▶ PatientKv ─▶ Kv ──┬─▶ sled      a database on threads of its own, and an fsync of ours
//!             (waits for        └─▶ journal   one file over `env.disk`: also what the simulator runs
//!              room)
//! ```
//!
//! Tests have one more side, in memory. All else in this crate is the same over each of them.

#[cfg(test)]
pub(crate) mod crash_disk;
mod guarded;
pub(crate) mod journal;
#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod patient;
pub(crate) mod sled;
mod witness;

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;

/// Largest value. sled keeps up to 17 values in a page, and more while it merges pages; a page of more than 128 KiB
/// would move to a file of its own, which sled neither syncs with the rest nor reads as fast.
pub(crate) const MAX_VALUE_BYTES: usize = 4 * 1024;

/// How long a process that is on its way out may still hold the lock.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// What went wrong below the stores.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KvError {
    #[error("the disk failed to {operation}")]
    Io { operation: &'static str, source: io::Error },
    #[error("the database file is damaged ({reason})")]
    Damaged { reason: String },
    #[error("the database file has format {found}, and this version of Polybolos knows only up to {known}")]
    Version { found: u32, known: u32 },
    #[error("another process has the database open")]
    Locked,
    /// Readers may see the write already, but it is not durable; the same write may be tried again.
    #[error("the disk has no room for a write: {free_bytes} bytes are free")]
    Full { free_bytes: u64 },
    /// A bug, or damage that nobody checks for.
    #[error("the database gave up when it was to {operation} ({reason})")]
    Panicked { operation: &'static str, reason: String },
    #[error("the thread that was to {operation} has ended: the process is shutting down")]
    Stopped { operation: &'static str },
}

/// Changes that happen together or not at all. Cheap to clone.
#[derive(Debug, Default, Clone)]
pub(crate) struct Batch(Arc<Changes>);

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Changes {
    /// Half-open ranges; removed before anything is put.
    removals: Vec<(Vec<u8>, Vec<u8>)>,
    puts: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Batch {
    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        Arc::make_mut(&mut self.0).puts.push((key, value));
    }

    /// Removes every key from `from` up to, and without, `to`.
    pub(crate) fn remove(&mut self, from: Vec<u8>, to: Vec<u8>) {
        Arc::make_mut(&mut self.0).removals.push((from, to));
    }

    /// Of the keys and values that it puts.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.puts.iter().map(bytes_of).sum()
    }
}

fn bytes_of((key, value): &(Vec<u8>, Vec<u8>)) -> u64 {
    key.len() as u64 + value.len() as u64
}

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Once readers see it. A crash may undo it, but never without undoing every write after it.
    Buffered,
    /// Once it, and every write before it, survives a power cut.
    Flushed,
}

pub(crate) type Pairs<'a> = Box<dyn DoubleEndedIterator<Item = Result<(Vec<u8>, Vec<u8>), KvError>> + 'a>;

/// Keys in byte order; those that begin with a zero byte are this module's own. Two writers of the same key must take
/// turns.
#[async_trait]
pub(crate) trait Kv: Send + Sync + 'static {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;

    /// Keys from `from` up to, and without, `to`, as they were at one moment between two batches: writes wait while it
    /// lives, so whoever has one must not ask for another.
    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_>;

    /// A caller that stops waiting does not know whether it happened.
    async fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError>;

    /// What the disk may still take.
    async fn free_bytes(&self) -> Result<u64, KvError>;
}

/// Calls `open` until no other process has the lock, for [`LOCK_WAIT`] at most.
async fn when_unlocked<T, F>(mut open: impl FnMut() -> F) -> Result<T, KvError>
where
    F: Future<Output = Result<T, KvError>>,
{
    let mut waited = Duration::ZERO;
    loop {
        match open().await {
            Err(KvError::Locked) if waited < LOCK_WAIT => {
                tokio::time::sleep(LOCK_RETRY_INTERVAL).await;
                waited += LOCK_RETRY_INTERVAL;
            }
            done => return done,
        }
    }
}
