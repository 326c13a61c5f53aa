//! What a replica keeps on disk: one file here for each family of keys.
//!
//! ```text
//!   log_store ─┐             ┌─ identity · vote · committed · purged   one record each
//!   snapshots ─┼─▶ records ──┤
//!   replica   ─┘  (CRC, ver) └─ entry · snapshot                       values cut into chunks
//! ```
//!
//! Every record carries its version and a checksum of ours over its key and body, so that a record that changed,
//! or lies under another's key, is never believed.

pub(crate) mod committed;
pub(crate) mod entry;
pub(crate) mod identity;
pub(crate) mod purged;
mod raft_types;
mod record;
pub(crate) mod snapshot;
pub(crate) mod vote;

use crate::kv::{Batch, Durability, Kv, KvError};

pub(crate) use raft_types::{StoredLogId, StoredMembers, StoredMembersAt};

/// A family's first key byte. Never reuse a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Family {
    Identity = 1,
    Vote = 2,
    Committed = 3,
    Purged = 4,
    Entry = 16,
    SnapshotMeta = 32,
    SnapshotChunk = 33,
}

/// A record can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error("{what} fails its checksum")]
    Checksum { what: String },
    #[error("{what} has format {found}, and this version of Polybolos {}", version_text(*.found, *.known))]
    Version { what: String, found: u16, known: u16 },
    #[error("{what} is malformed ({reason})")]
    Malformed { what: String, reason: String },
    #[error("{what} is missing ({reason})")]
    Missing { what: String, reason: String },
}

fn version_text(found: u16, known: u16) -> String {
    if found > known {
        format!("knows only up to {known}")
    } else {
        format!(
            "reads only {known}: what is that old can't be carried over, so begin with an empty data folder"
        )
    }
}

/// A family with one record.
pub(crate) trait Single: serde::Serialize + serde::de::DeserializeOwned {
    const FAMILY: Family;
    /// Raised with every change of the layout.
    const VERSION: u8;
    /// What an error calls it.
    const NAME: &'static str;
}

/// The record of `T`, or `None` if it was never put.
pub(crate) fn get<T: Single>(kv: &dyn Kv) -> Result<Option<T>, StoreError> {
    let key = [T::FAMILY as u8];
    let Some(sealed) = kv.get(&key)? else { return Ok(None) };
    let (version, body) = record::unseal(&key, &sealed, || T::NAME.to_owned())?;
    record::check_version(version, T::VERSION, || T::NAME.to_owned())?;
    record::from_body(body, || T::NAME.to_owned()).map(Some)
}

pub(crate) fn put<T: Single>(batch: &mut Batch, value: &T) -> Result<(), StoreError> {
    let key = vec![T::FAMILY as u8];
    let body = record::to_body(value, || T::NAME.to_owned())?;
    let sealed = record::seal(&key, T::VERSION, &body);
    batch.put(key, sealed);
    Ok(())
}

/// What one write removes at most, more or less: removing takes room on the disk as writing does.
const STEP_BYTES: usize = 4 * 1024 * 1024;

/// Removes every key from `from` up to, and without, `to`, in several writes that are not flushed.
async fn clear(kv: &dyn Kv, mut from: Vec<u8>, to: Vec<u8>) -> Result<(), StoreError> {
    while kv.range(&from, &to).next().is_some() {
        let next = step(kv, &from, &to)?;
        let mut batch = Batch::default();
        batch.remove(from, next.clone().unwrap_or_else(|| to.clone()));
        kv.write(batch, Durability::Buffered).await?;
        match next {
            Some(next) => from = next,
            None => break,
        }
    }
    Ok(())
}

/// The key that the next step begins with, if this one does not reach `to`.
fn step(kv: &dyn Kv, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let mut bytes = 0;
    for pair in kv.range(from, to) {
        let (key, value) = pair?;
        if bytes >= STEP_BYTES {
            return Ok(Some(key));
        }
        bytes += key.len() + value.len();
    }
    Ok(None)
}

/// A record of a family with one of them, in any version.
#[cfg(test)]
pub(crate) fn sealed(family: Family, version: u8, body: &[u8]) -> Vec<u8> {
    record::seal(&[family as u8], version, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::memory::MemoryKv;

    #[tokio::test]
    async fn what_is_cleared_goes_in_steps_and_what_lies_beside_it_stays() {
        let kv = MemoryKv::default();
        let value = vec![0; crate::kv::MAX_VALUE_BYTES];
        let pairs = (3 * STEP_BYTES / 2 / value.len()) as u32;
        let mut batch = Batch::default();
        batch.put(vec![4], value.clone());
        batch.put(vec![6], value.clone());
        (0..pairs).for_each(|n| batch.put([&[5][..], &n.to_be_bytes()].concat(), value.clone()));
        kv.write(batch, Durability::Buffered).await.unwrap();
        let next = step(&kv, &[5], &[6]).unwrap().unwrap();
        assert!(step(&kv, &next, &[6]).unwrap().is_none());
        clear(&kv, vec![5], vec![6]).await.unwrap();
        assert_eq!(kv.lock().keys().cloned().collect::<Vec<_>>(), [vec![4], vec![6]]);
    }

    /// Puts, gets, damages and outdates a record.
    pub(super) fn check_single<T: Single + PartialEq + std::fmt::Debug>(value: &T) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let kv = MemoryKv::default();
        assert_eq!(get::<T>(&kv).unwrap(), None);
        let mut batch = Batch::default();
        put(&mut batch, value).unwrap();
        runtime.block_on(kv.write(batch, Durability::Flushed)).unwrap();
        assert_eq!(get::<T>(&kv).unwrap().as_ref(), Some(value));
        if let Some(sealed) = kv.lock().values_mut().next() {
            sealed[4] ^= 1;
        }
        assert!(matches!(get::<T>(&kv), Err(StoreError::Checksum { .. })));
        let mut batch = Batch::default();
        let key = [T::FAMILY as u8];
        batch.put(key.to_vec(), record::seal(&key, T::VERSION + 1, b"from the future"));
        runtime.block_on(kv.write(batch, Durability::Flushed)).unwrap();
        assert!(matches!(get::<T>(&kv), Err(StoreError::Version { .. })));
    }
}
