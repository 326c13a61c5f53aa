//! The newest snapshot: its meta record names the chunks that hold it.

use openraft::{BasicNode, LogId, SnapshotMeta};
use serde::{Deserialize, Serialize};

use crate::{
    kv::{Batch, Durability, Kv},
    store::{self, Family, Single, StoreError, StoredLogId, StoredMembersAt, record},
};

const DATA_VERSION: u8 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredSnapshotMeta {
    /// Chunks lie under this number; each snapshot has a higher one than the one before.
    sequence: u64,
    snapshot_id: String,
    last_log_id: Option<StoredLogId>,
    members: StoredMembersAt,
    /// CRC-32 of the whole data.
    crc: u32,
}

impl Single for StoredSnapshotMeta {
    const FAMILY: Family = Family::SnapshotMeta;
    const VERSION: u8 = 1;
    const NAME: &'static str = "the snapshot's record";
}

fn prefix(sequence: u64) -> Vec<u8> {
    [&[Family::SnapshotChunk as u8][..], &sequence.to_be_bytes()].concat()
}

fn name(sequence: u64) -> String {
    format!("snapshot {sequence}")
}

/// Keeps `data` as the one snapshot, durably, and then drops the one before. Two calls must take turns.
///
/// # Errors
/// The disk fails; the snapshot before is then still in place.
pub(crate) async fn save(
    kv: &dyn Kv,
    meta: &SnapshotMeta<u64, BasicNode>,
    data: &[u8],
) -> Result<(), StoreError> {
    let sequence = store::get::<StoredSnapshotMeta>(kv)?.map_or(0, |before| before.sequence.wrapping_add(1));
    let mut chunks = Batch::default();
    // A save that a crash cut short may have left some.
    chunks.remove(prefix(sequence), prefix(sequence.saturating_add(1)));
    record::put_chunks(&mut chunks, &prefix(sequence), DATA_VERSION, data);
    kv.write(chunks, Durability::Buffered).await?;
    let record = StoredSnapshotMeta {
        sequence,
        snapshot_id: meta.snapshot_id.clone(),
        last_log_id: meta.last_log_id.map(Into::into),
        members: (&meta.last_membership).into(),
        crc: crc32fast::hash(data),
    };
    let mut switch = Batch::default();
    store::put(&mut switch, &record)?;
    switch.remove(prefix(0), prefix(sequence));
    Ok(kv.write(switch, Durability::Flushed).await?)
}

/// The last entry that the newest snapshot holds.
pub(crate) fn last_log_id(kv: &dyn Kv) -> Result<Option<LogId<u64>>, StoreError> {
    Ok(store::get::<StoredSnapshotMeta>(kv)?.and_then(|record| record.last_log_id).map(Into::into))
}

/// A snapshot's description and data.
pub(crate) type Loaded = (SnapshotMeta<u64, BasicNode>, Vec<u8>);

/// The newest snapshot, whole and as it was saved.
pub(crate) fn load(kv: &dyn Kv) -> Result<Option<Loaded>, StoreError> {
    let Some(record) = store::get::<StoredSnapshotMeta>(kv)? else { return Ok(None) };
    let what = || name(record.sequence);
    let Some((version, data)) = record::get_chunks(kv, &prefix(record.sequence), what)? else {
        return Err(StoreError::Missing { what: what(), reason: "none of it is there".to_owned() });
    };
    record::check_version(version, DATA_VERSION, what)?;
    if crc32fast::hash(&data) != record.crc {
        return Err(StoreError::Checksum { what: what() });
    }
    let meta = SnapshotMeta {
        last_log_id: record.last_log_id.map(Into::into),
        last_membership: record.members.into(),
        snapshot_id: record.snapshot_id,
    };
    Ok(Some((meta, data)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        kv::memory::MemoryKv,
        store::{StoredMembers, tests::check_single},
    };

    fn meta() -> impl Strategy<Value = StoredSnapshotMeta> {
        let log_id =
            || any::<Option<(u64, u64)>>().prop_map(|id| id.map(|(term, index)| StoredLogId { term, index }));
        let voters = prop::collection::vec(prop::collection::btree_set(any::<u64>(), 0..9), 0..3);
        let members = (voters, prop::collection::btree_map(any::<u64>(), ".{0,20}", 0..9));
        (any::<(u64, String, u32)>(), log_id(), log_id(), members).prop_map(
            |((sequence, snapshot_id, crc), last_log_id, log_id, (voters, addresses))| {
                let members = StoredMembersAt { log_id, members: StoredMembers { voters, addresses } };
                StoredSnapshotMeta { sequence, snapshot_id, last_log_id, members, crc }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn round_trips(record in meta()) {
            check_single(&record);
        }

        #[test]
        fn the_newest_of_several_is_kept_alone(sizes in prop::collection::vec(0..20_000usize, 1..4)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let kv = MemoryKv::default();
            for (at, size) in sizes.iter().enumerate() {
                let data = vec![at as u8; *size];
                let meta = SnapshotMeta { snapshot_id: at.to_string(), ..SnapshotMeta::default() };
                runtime.block_on(save(&kv, &meta, &data)).unwrap();
                prop_assert_eq!(load(&kv).unwrap(), Some((meta, data)));
            }
            let sequences: BTreeSet<_> =
                kv.lock().keys().filter(|key| key[0] == Family::SnapshotChunk as u8).map(|key| key[8]).collect();
            prop_assert_eq!(sequences, BTreeSet::from([sizes.len() as u8 - 1]));
        }
    }
}
