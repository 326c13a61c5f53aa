//! The newest snapshot: its meta record names the chunks that hold it.
//!
//! ```text
//!   chunks under a new number, not flushed ─▶ the record names them, flushed ─▶ the old chunks go, not flushed
//! ```
//!
//! A crash before the flush leaves the old snapshot, and one after it the new one, whole, since a flush covers every
//! write before it. Chunks that nothing names are removed by the next save.

use openraft::{BasicNode, LogId, SnapshotMeta};
use serde::{Deserialize, Serialize};

use crate::{
    kv::{Batch, Durability, Kv},
    store::{self, Family, Single, StoreError, StoredLogId, StoredMembersAt, record},
};

const DATA_VERSION: u8 = 1;
/// What is written at once, so that a large snapshot does not hold up the log.
const BATCH_BYTES: u64 = 1024 * 1024;

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
/// The disk fails; the snapshot before is then still in place, or this one is.
pub(crate) async fn save(
    kv: &dyn Kv,
    meta: &SnapshotMeta<u64, BasicNode>,
    data: &[u8],
) -> Result<(), StoreError> {
    let sequence = store::get::<StoredSnapshotMeta>(kv)?.map_or(0, |before| before.sequence.wrapping_add(1));
    // A save that a crash cut short may have left some.
    store::clear(kv, prefix(sequence), prefix(sequence.saturating_add(1))).await?;
    let mut batch = Batch::default();
    for (key, value) in record::chunks(&prefix(sequence), DATA_VERSION, data) {
        batch.put(key, value);
        if batch.bytes() >= BATCH_BYTES {
            kv.write(std::mem::take(&mut batch), Durability::Buffered).await?;
        }
    }
    kv.write(batch, Durability::Buffered).await?;
    polybolos_model::failpoint!("snapshot.before_switch");
    let record = StoredSnapshotMeta {
        sequence,
        snapshot_id: meta.snapshot_id.clone(),
        last_log_id: meta.last_log_id.map(Into::into),
        members: (&meta.last_membership).into(),
        crc: crc32fast::hash(data),
    };
    let mut switch = Batch::default();
    store::put(&mut switch, &record)?;
    kv.write(switch, Durability::Flushed).await?;
    store::clear(kv, prefix(0), prefix(sequence)).await
}

/// The last entry that the newest snapshot holds.
pub(crate) fn last_log_id(kv: &dyn Kv) -> Result<Option<LogId<u64>>, StoreError> {
    Ok(store::get::<StoredSnapshotMeta>(kv)?.and_then(|record| record.last_log_id).map(Into::into))
}

/// A snapshot's description and data.
pub(crate) type Loaded = (SnapshotMeta<u64, BasicNode>, Vec<u8>);

/// The newest snapshot, whole and as it was saved. A save may go on at the same time.
pub(crate) fn load(kv: &dyn Kv) -> Result<Option<Loaded>, StoreError> {
    let mut record = store::get::<StoredSnapshotMeta>(kv)?;
    loop {
        let Some(present) = record else { return Ok(None) };
        match load_one(kv, present.clone()) {
            Ok(loaded) => return Ok(Some(loaded)),
            Err(error) => {
                record = store::get(kv)?;
                // Its chunks went because it was replaced while they were read.
                if record.as_ref() == Some(&present) {
                    return Err(error);
                }
            }
        }
    }
}

fn load_one(kv: &dyn Kv, record: StoredSnapshotMeta) -> Result<Loaded, StoreError> {
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
    Ok((meta, data))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
    };

    use async_trait::async_trait;
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        kv::{KvError, Pairs, crash_disk::simulated, journal::JournalKv, memory::MemoryKv},
        store::{StoredMembers, tests::check_single},
    };

    /// Saves a second snapshot as soon as somebody reads the chunks of the first.
    #[derive(Default)]
    struct Replaced {
        kv: MemoryKv,
        is_done: AtomicBool,
    }

    #[async_trait]
    impl Kv for Replaced {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
            self.kv.get(key)
        }

        fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
            if !self.is_done.swap(true, Ordering::Relaxed) {
                save(&self.kv, &named("second"), b"two").now_or_never().unwrap().unwrap();
            }
            self.kv.range(from, to)
        }

        async fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
            self.kv.write(batch, durability).await
        }

        async fn free_bytes(&self) -> Result<u64, KvError> {
            self.kv.free_bytes().await
        }
    }

    fn named(id: &str) -> SnapshotMeta<u64, BasicNode> {
        SnapshotMeta { snapshot_id: id.to_owned(), ..SnapshotMeta::default() }
    }

    #[tokio::test]
    async fn a_reader_whose_snapshot_is_replaced_gets_the_one_after() {
        let kv = Replaced::default();
        save(&kv.kv, &named("first"), b"one").await.unwrap();
        assert_eq!(load(&kv).unwrap(), Some((named("second"), b"two".to_vec())));
    }

    #[tokio::test]
    async fn a_snapshot_without_its_chunks_is_refused() {
        let kv = MemoryKv::default();
        save(&kv, &named("first"), b"one").await.unwrap();
        kv.lock().retain(|key, _| key[0] != Family::SnapshotChunk as u8);
        assert!(matches!(load(&kv), Err(StoreError::Missing { .. })));
    }

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

    /// The snapshot that a replica finds when it starts, by the number that its content is made of.
    fn found(kv: &dyn Kv, sizes: &[usize]) -> Option<usize> {
        let (meta, data) = load(kv).unwrap()?;
        let number: usize = meta.snapshot_id.parse().unwrap();
        assert_eq!(data, vec![number as u8; sizes[number]]);
        Some(number)
    }

    fn sequences(kv: &dyn Kv) -> BTreeSet<Vec<u8>> {
        let chunks = Family::SnapshotChunk as u8;
        kv.range(&[chunks], &[chunks + 1]).map(|pair| pair.unwrap().0[..9].to_vec()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_save_that_a_power_cut_ends_leaves_the_one_before_or_itself_whole(
            seed: u64,
            sizes in prop::collection::vec(prop_oneof![3 => 0..20_000usize, 1 => 0..3_000_000usize], 1..5),
            operations in 0..40u64,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (disk, env) = simulated(seed);
                let folder = Path::new("/data/log");
                let kv = JournalKv::open(&env, folder).await.unwrap();
                disk.cut_power_after(operations);
                let (mut saved, mut tried) = (None, None);
                for (number, size) in sizes.iter().enumerate() {
                    tried = Some(number);
                    let data = vec![number as u8; *size];
                    if save(&kv, &named(&number.to_string()), &data).await.is_err() {
                        break;
                    }
                    saved = tried;
                }
                drop(kv);
                disk.crash();
                let kv = JournalKv::open(&env, folder).await.unwrap();
                let found = found(&kv, &sizes);
                assert!(found == saved || found == tried, "{found:?} of {saved:?} and {tried:?}");
                save(&kv, &named("0"), &vec![0; sizes[0]]).await.unwrap();
                assert_eq!(sequences(&kv).len(), 1);
            });
        }

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
                let meta = named(&at.to_string());
                runtime.block_on(save(&kv, &meta, &data)).unwrap();
                prop_assert_eq!(load(&kv).unwrap(), Some((meta, data)));
            }
            prop_assert_eq!(sequences(&kv), BTreeSet::from([prefix(sizes.len() as u64 - 1)]));
        }
    }
}
