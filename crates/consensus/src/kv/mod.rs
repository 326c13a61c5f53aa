//! What the stores need of a disk: ordered keys, atomic batches, and a promise about what is durable.
//!
//! One side is sled; tests have one in memory. All else in this crate is the same over both.

#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod sled;
mod witness;

use std::io;

use async_trait::async_trait;

/// Largest value. sled keeps up to 17 values in a page, and more while it merges pages; a page of more than 128 KiB
/// would move to a file of its own, which sled neither syncs with the rest nor reads as fast.
pub(crate) const MAX_VALUE_BYTES: usize = 4 * 1024;

/// What went wrong below the stores.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KvError {
    #[error("the disk failed to {operation}")]
    Io { operation: &'static str, source: io::Error },
    #[error("the database file is damaged ({reason})")]
    Damaged { reason: String },
    #[error("the thread that was to {operation} has ended ({reason})")]
    Stopped { operation: &'static str, reason: String },
}

/// Changes that happen together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Half-open ranges; removed before anything is put.
    removals: Vec<(Vec<u8>, Vec<u8>)>,
    puts: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Batch {
    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.puts.push((key, value));
    }

    /// Removes every key from `from` up to, and without, `to`.
    pub(crate) fn remove(&mut self, from: Vec<u8>, to: Vec<u8>) {
        self.removals.push((from, to));
    }
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

    /// Keys from `from` up to, and without, `to`.
    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_>;

    async fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError>;
}
