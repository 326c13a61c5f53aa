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

use crate::kv::{Batch, Kv, KvError};

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

/// A record of a family with one of them, in any version.
#[cfg(test)]
pub(crate) fn sealed(family: Family, version: u8, body: &[u8]) -> Vec<u8> {
    record::seal(&[family as u8], version, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Durability, memory::MemoryKv};

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
