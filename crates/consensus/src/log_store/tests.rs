//! Reads are bounded, and what is cut off leaves no hole.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use openraft::{CommittedLeaderId, storage::RaftLogStorageExt};
use polybolos_model::{SessionId, Term};
use polybolos_state::Command;

use super::*;
use crate::{
    kv::{KvError, Pairs, memory::MemoryKv},
    raft::Proposal,
};

fn entry_of(index: u64, bytes: usize) -> Entry<TypeConfig> {
    let log_id = LogId::new(CommittedLeaderId::new(1, 0), index);
    Entry { log_id, payload: EntryPayload::Normal(Proposal(vec![7; bytes])) }
}

/// One that can be decoded.
fn proposal_of(index: u64, version: u16, bytes: usize) -> Entry<TypeConfig> {
    let session = SessionId::new("session").unwrap();
    let set = Command::SetSession { session, key: "key".to_owned(), value: "x".repeat(bytes) };
    let content = polybolos_state::Entry::new(version, Term(1), 0, vec![set]).encode().unwrap();
    Entry { payload: EntryPayload::Normal(Proposal(content)), ..entry_of(index, 0) }
}

#[tokio::test]
async fn a_reader_takes_no_more_than_a_message_holds_but_always_something() {
    let mut log = LogStore::open(Arc::new(MemoryKv::default()), u16::MAX).unwrap();
    let half = MAX_READ_BYTES / 2;
    let sizes = [half, half, 1, MAX_READ_BYTES + 1, 1, half];
    let entries: Vec<_> = (0..).zip(sizes).map(|(index, bytes)| entry_of(index, bytes)).collect();
    log.blocking_append(entries).await.unwrap();
    let mut took = Vec::new();
    let mut next = 0;
    while next < 6 {
        let entries = log.limited_get_log_entries(next, 6).await.unwrap();
        assert_eq!(entries[0].log_id.index, next);
        took.push(entries.len());
        next += entries.len() as u64;
    }
    assert_eq!(took, [2, 1, 1, 2]);
    assert_eq!(log.limited_get_log_entries(0, 1).await.unwrap().len(), 1);
    assert!(log.limited_get_log_entries(3, 3).await.unwrap().is_empty());
    assert!(log.limited_get_log_entries(6, 9).await.unwrap().is_empty());
}

/// Passes so many writes on, and fails then.
struct Failing(MemoryKv, AtomicUsize);

#[async_trait]
impl Kv for Failing {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.0.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        self.0.range(from, to)
    }

    async fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        let left = |writes: usize| writes.checked_sub(1);
        match self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
            Ok(_) => self.0.write(batch, durability).await,
            Err(_) => Err(KvError::Io { operation: "write", source: io::Error::other("as asked") }),
        }
    }

    async fn free_bytes(&self) -> Result<u64, KvError> {
        self.0.free_bytes().await
    }
}

/// A log of ten entries of a megabyte, of which all but the first or all but the last are removed while only so
/// many writes succeed: purged up to, and last entry.
async fn cut_off(purge: bool, writes: usize) -> (Option<u64>, u64) {
    let kv = Arc::new(Failing(MemoryKv::default(), AtomicUsize::new(usize::MAX)));
    let mut log = LogStore::open(Arc::clone(&kv) as Arc<dyn Kv>, 2).unwrap();
    log.blocking_append((0..=9).map(|index| proposal_of(index, 1, 1_000_000))).await.unwrap();
    kv.1.store(writes, Ordering::Relaxed);
    let done = match purge {
        true => log.purge(entry_of(8, 0).log_id).await,
        false => log.truncate(entry_of(1, 0).log_id).await,
    };
    assert_eq!(done.is_ok(), writes == 2);
    let state = LogStore::open(kv, 2).unwrap().state().unwrap();
    (state.last_purged_log_id.map(|id| id.index), state.last_log_id.unwrap().index)
}

#[tokio::test]
async fn a_large_removal_that_is_cut_off_between_its_steps_leaves_no_hole() {
    assert_eq!(cut_off(true, 0).await, (None, 9));
    assert_eq!(cut_off(true, 1).await, (Some(4), 9));
    assert_eq!(cut_off(true, 2).await, (Some(8), 9));
    assert_eq!(cut_off(false, 0).await, (None, 9));
    assert_eq!(cut_off(false, 1).await, (None, 5));
    assert_eq!(cut_off(false, 2).await, (None, 0));
}

#[tokio::test]
async fn an_entry_that_is_too_new_for_this_replica_is_refused_and_named() {
    let kv = Arc::new(MemoryKv::default());
    let mut log = LogStore::open(Arc::clone(&kv) as Arc<dyn Kv>, 2).unwrap();
    let entries = [(0, 1), (1, 2)].map(|(index, version)| proposal_of(index, version, 0));
    log.blocking_append(entries).await.unwrap();
    assert!(LogStore::open(Arc::clone(&kv) as Arc<dyn Kv>, 2).is_ok());
    let error = LogStore::open(kv, 1).err().unwrap();
    assert!(matches!(error, StoreError::Version { found: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().starts_with("log entry 1 "), "{error}");
}
