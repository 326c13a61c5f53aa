//! The log's entries, by index.

use openraft::{Entry, EntryPayload, LogId};
use serde::{Deserialize, Serialize};

use crate::{
    kv::{Batch, Kv},
    raft::{Proposal, TypeConfig},
    store::{
        Family, STEP_BYTES, StoreError, StoredLogId, StoredMembers,
        record::{self, Chunks},
    },
};

const VERSION: u8 = 1;

/// What comes before the command bytes. Variants are stored by position: append, never reorder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Head {
    /// A leader's first entry, which has no content.
    Blank(StoredLogId),
    /// The rest of the record is the command bytes.
    Commands(StoredLogId),
    Members(StoredLogId, StoredMembers),
}

fn name(index: u64) -> String {
    format!("log entry {index}")
}

fn prefix(index: u64) -> Vec<u8> {
    [&[Family::Entry as u8][..], &index.to_be_bytes()].concat()
}

/// The first key after `index`.
fn end(index: u64) -> Vec<u8> {
    match index.checked_add(1) {
        Some(next) => prefix(next),
        None => vec![Family::Entry as u8 + 1],
    }
}

pub(crate) fn put(batch: &mut Batch, entry: &Entry<TypeConfig>) -> Result<(), StoreError> {
    let id = entry.log_id.into();
    let (head, rest) = match &entry.payload {
        EntryPayload::Blank => (Head::Blank(id), &[][..]),
        EntryPayload::Normal(proposal) => (Head::Commands(id), proposal.0.as_slice()),
        EntryPayload::Membership(members) => (Head::Members(id, members.into()), &[][..]),
    };
    let mut body = record::to_body(&head, || name(id.index))?;
    body.extend_from_slice(rest);
    record::put_chunks(batch, &prefix(id.index), VERSION, &body);
    Ok(())
}

/// Removes the entries from `first` to `last`, both included.
pub(crate) fn remove(batch: &mut Batch, first: u64, last: u64) {
    batch.remove(prefix(first), end(last));
}

/// The entries from `first` to `last`, both included, cut where a removal of all of them should pause: the last entry
/// of each part but the last one.
pub(crate) fn steps(kv: &dyn Kv, first: u64, last: u64) -> Result<Vec<u64>, StoreError> {
    let (mut steps, mut bytes, mut before) = (Vec::new(), 0, None);
    for pair in kv.range(&prefix(first), &end(last)) {
        let (key, value) = pair?;
        let index = index_of(&key)?;
        if let Some(before) = before
            && before != index
            && bytes >= STEP_BYTES
        {
            steps.push(before);
            bytes = 0;
        }
        before = Some(index);
        bytes += key.len() + value.len();
    }
    Ok(steps)
}

fn decode(index: u64, version: u8, body: &[u8]) -> Result<Entry<TypeConfig>, StoreError> {
    record::check_version(version, VERSION, || name(index))?;
    let malformed = |reason: String| StoreError::Malformed { what: name(index), reason };
    let (head, rest) =
        postcard::take_from_bytes::<Head>(body).map_err(|error| malformed(error.to_string()))?;
    let (id, payload) = match head {
        Head::Blank(id) => (id, EntryPayload::Blank),
        Head::Commands(id) => (id, EntryPayload::Normal(Proposal(rest.to_vec()))),
        Head::Members(id, members) => (id, EntryPayload::Membership(members.into())),
    };
    if id.index != index {
        return Err(malformed(format!("it calls itself {}", id.index)));
    }
    Ok(Entry { log_id: id.into(), payload })
}

/// The index of the last entry, if there is one.
pub(crate) fn last_index(kv: &dyn Kv) -> Result<Option<u64>, StoreError> {
    match kv.range(&prefix(0), &end(u64::MAX)).next_back() {
        Some(pair) => index_of(&pair?.0).map(Some),
        None => Ok(None),
    }
}

pub(crate) fn get(kv: &dyn Kv, index: u64) -> Result<Option<Entry<TypeConfig>>, StoreError> {
    match record::get_chunks(kv, &prefix(index), || name(index))? {
        Some((version, body)) => decode(index, version, &body).map(Some),
        None => Ok(None),
    }
}

/// Entries from `first` to `last`, both included, that are there. Ends after the first error.
pub(crate) fn scan(
    kv: &dyn Kv,
    first: u64,
    last: u64,
) -> impl Iterator<Item = Result<Entry<TypeConfig>, StoreError>> + '_ {
    let mut pairs = kv.range(&prefix(first), &end(last));
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let entry = next_entry(&mut pairs).transpose();
        failed = matches!(entry, Some(Err(_)));
        entry
    })
}

/// Takes the chunks of one entry.
fn next_entry(
    pairs: &mut dyn Iterator<Item = Result<(Vec<u8>, Vec<u8>), crate::kv::KvError>>,
) -> Result<Option<Entry<TypeConfig>>, StoreError> {
    let Some(pair) = pairs.next() else { return Ok(None) };
    let (mut key, mut value) = pair?;
    let index = index_of(&key)?;
    let (prefix, what) = (prefix(index), || name(index));
    let mut chunks = Chunks::default();
    loop {
        chunks.add(&prefix, &key, &value, &what)?;
        if chunks.is_complete() {
            break;
        }
        let Some(pair) = pairs.next() else { break };
        (key, value) = pair?;
    }
    match chunks.finish(&what)? {
        Some((version, body)) => decode(index, version, &body).map(Some),
        None => Ok(None),
    }
}

fn index_of(key: &[u8]) -> Result<u64, StoreError> {
    match key.get(1..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(index) => Ok(u64::from_be_bytes(*index)),
        None => {
            Err(StoreError::Malformed { what: "a log entry's key".to_owned(), reason: format!("{key:?}") })
        }
    }
}

/// The id of the entry at `index`, which must be there.
pub(crate) fn log_id(kv: &dyn Kv, index: u64) -> Result<LogId<u64>, StoreError> {
    match get(kv, index)? {
        Some(entry) => Ok(entry.log_id),
        None => Err(StoreError::Missing { what: name(index), reason: "a hole in the log".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use openraft::{BasicNode, CommittedLeaderId, Membership};
    use proptest::prelude::*;

    use super::*;
    use crate::kv::{Durability, memory::MemoryKv};

    fn payload() -> impl Strategy<Value = EntryPayload<TypeConfig>> {
        let members = any::<(Vec<BTreeSet<u64>>, BTreeMap<u64, String>)>().prop_map(|(voters, addresses)| {
            let nodes = addresses.into_iter().map(|(id, addr)| (id, BasicNode { addr }));
            EntryPayload::Membership(Membership::new(voters, nodes.collect::<BTreeMap<_, _>>()))
        });
        prop_oneof![
            Just(EntryPayload::Blank),
            prop::collection::vec(any::<u8>(), 0..20_000)
                .prop_map(|bytes| EntryPayload::Normal(Proposal(bytes))),
            members,
        ]
    }

    fn same(a: &Entry<TypeConfig>, b: &Entry<TypeConfig>) -> bool {
        a.log_id == b.log_id
            && match (&a.payload, &b.payload) {
                (EntryPayload::Blank, EntryPayload::Blank) => true,
                (EntryPayload::Normal(a), EntryPayload::Normal(b)) => a == b,
                (EntryPayload::Membership(a), EntryPayload::Membership(b)) => a == b,
                _ => false,
            }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn round_trips(term: u64, first in 0..u64::MAX - 10, payloads in prop::collection::vec(payload(), 1..5)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let kv = MemoryKv::default();
            let id = |at| LogId::new(CommittedLeaderId::new(term, 0), first + at as u64);
            let entries: Vec<_> =
                payloads.into_iter().enumerate().map(|(at, payload)| Entry { log_id: id(at), payload }).collect();
            let mut batch = Batch::default();
            entries.iter().for_each(|entry| put(&mut batch, entry).unwrap());
            runtime.block_on(kv.write(batch, Durability::Flushed)).unwrap();
            let read: Vec<_> = scan(&kv, 0, u64::MAX).map(Result::unwrap).collect();
            prop_assert_eq!(read.len(), entries.len());
            prop_assert!(read.iter().zip(&entries).all(|(a, b)| same(a, b)));
            let last = entries.last().unwrap();
            prop_assert_eq!(last_index(&kv).unwrap(), Some(last.log_id.index));
            prop_assert!(same(&get(&kv, last.log_id.index).unwrap().unwrap(), last));
            let mut batch = Batch::default();
            remove(&mut batch, first, last.log_id.index);
            runtime.block_on(kv.write(batch, Durability::Flushed)).unwrap();
            prop_assert!(kv.lock().is_empty());
        }
    }
}
