//! The journal on a disk that loses what was not synced, and everything else that disks do.

mod random;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use polybolos_env::Env;

use super::{
    super::{
        Batch, Durability, Kv, KvError,
        crash_disk::{CrashDisk, simulated},
    },
    JournalKv, NAME, SIZES, Sizes,
};

const FOLDER: &str = "/data/log";
/// So small that the journal is written anew every few batches, and its base has several parts.
const SMALL: Sizes = Sizes { part_bytes: 300, slack_bytes: 2_000 };

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

fn journal() -> PathBuf {
    Path::new(FOLDER).join(NAME)
}

async fn open(env: &Env) -> Result<JournalKv, KvError> {
    JournalKv::open_sized(env, Path::new(FOLDER), SMALL).await
}

fn all(kv: &dyn Kv) -> Pairs {
    kv.range(&[], &[u8::MAX]).map(Result::unwrap).collect()
}

fn batch_of(pairs: &[(&[u8], &[u8])]) -> Batch {
    let mut batch = Batch::default();
    pairs.iter().for_each(|(key, value)| batch.put(key.to_vec(), value.to_vec()));
    batch
}

async fn put(kv: &JournalKv, key: &[u8], value: &[u8]) -> Result<(), KvError> {
    kv.write(batch_of(&[(key, value)]), Durability::Flushed).await
}

/// A journal with three acknowledged batches that each fill several sectors, and where each begins.
async fn three_batches(env: &Env, disk: &CrashDisk) -> Vec<usize> {
    let kv = open(env).await.unwrap();
    let mut starts = Vec::new();
    for key in 0..3 {
        starts.push(disk.durable_bytes(&journal()));
        put(&kv, &[key], &[7; 2_000]).await.unwrap();
    }
    starts
}

#[tokio::test]
async fn sectors_that_read_as_zeros_are_refused_where_a_later_batch_says_they_were_durable() {
    let (disk, env) = simulated(1);
    let starts = three_batches(&env, &disk).await;
    disk.crash();
    let second = starts[1].next_multiple_of(512);
    disk.damage(&journal(), |bytes| bytes[second..second + 512].fill(0));
    let error = open(&env).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "the database file is damaged (it ends at batch 1, and 2 were acknowledged)"
    );
}

/// What `replay` says can't be told: the witness lost its last numbers too.
#[tokio::test]
async fn sectors_of_the_last_batch_that_read_as_zeros_after_a_power_cut_look_as_if_never_written() {
    let (disk, env) = simulated(1);
    let starts = three_batches(&env, &disk).await;
    disk.crash();
    let third = starts[2].next_multiple_of(512);
    disk.damage(&journal(), |bytes| bytes[third..third + 512].fill(0));
    assert_eq!(all(&open(&env).await.unwrap()).len(), 2);
}

#[tokio::test]
async fn a_missing_file_is_refused() {
    for name in [NAME, "acknowledged"] {
        let (disk, env) = simulated(1);
        three_batches(&env, &disk).await;
        disk.kill();
        env.disk.remove_file(&Path::new(FOLDER).join(name)).await.unwrap();
        let error = open(&env).await.err().unwrap();
        assert!(matches!(error, KvError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("is gone from /data/log"), "{error}");
    }
}

#[tokio::test]
async fn a_failed_append_or_sync_ends_the_journal_and_what_was_acknowledged_is_kept() {
    for operations in 0..20 {
        let (disk, env) = simulated(operations);
        let kv = open(&env).await.unwrap();
        disk.fail_after(operations, io::ErrorKind::Other);
        let mut acknowledged = Pairs::new();
        let mut failed = false;
        for key in 0..20 {
            let done = put(&kv, &[key], b"value").await;
            assert!(!failed || done.is_err());
            match done {
                Ok(()) => assert!(acknowledged.insert(vec![key], b"value".to_vec()).is_none()),
                Err(error) => {
                    assert!(matches!(error, KvError::Io { .. }), "{error}");
                    failed = true;
                }
            }
        }
        assert!(failed, "after {operations} operations");
        drop(kv);
        disk.crash();
        let back = all(&open(&env).await.unwrap());
        assert!(acknowledged.iter().all(|(key, value)| back.get(key) == Some(value)));
        assert!(back.len() <= acknowledged.len() + 1);
    }
}

#[tokio::test]
async fn a_full_disk_leaves_the_journal_as_it_is_until_there_is_room() {
    let (disk, env) = simulated(1);
    disk.set_capacity(40_000);
    let kv = open(&env).await.unwrap();
    let mut written = 0;
    let full = loop {
        match put(&kv, &[written], &[written; 4_000]).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, KvError::Full { .. }), "{full}");
    assert!(written > 4, "{written}");
    // What was live is more than half of the disk, so that there is no room to write it anew.
    assert!(matches!(put(&kv, &[written], &[written; 4_000]).await, Err(KvError::Full { .. })));
    assert_eq!(all(&kv).len(), usize::from(written));
    disk.set_capacity(400_000);
    put(&kv, &[written], &[written; 4_000]).await.unwrap();
    drop(kv);
    disk.crash();
    assert_eq!(all(&open(&env).await.unwrap()).len(), usize::from(written) + 1);
}

#[tokio::test]
async fn a_full_disk_refuses_to_open_and_changes_nothing() {
    let (disk, env) = simulated(1);
    three_batches(&env, &disk).await;
    disk.kill();
    disk.set_capacity(disk.used_bytes() + 100);
    let error = open(&env).await.err().unwrap();
    assert!(matches!(error, KvError::Full { free_bytes: 100 }), "{error}");
    disk.set_capacity(u64::MAX);
    assert_eq!(all(&open(&env).await.unwrap()).len(), 3);
}

#[tokio::test]
async fn the_journal_does_not_outgrow_what_is_live() {
    let (disk, env) = simulated(1);
    let kv = open(&env).await.unwrap();
    for round in 0..200u8 {
        put(&kv, &[round % 3], &[round; 1_000]).await.unwrap();
        assert!(disk.used_bytes() < 2 * 3 * 1_100 + 2_000 + 2_000, "{}", disk.used_bytes());
    }
    assert_eq!(all(&kv).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_second_process_is_kept_out() {
    let (_, env) = simulated(1);
    let first = open(&env).await.unwrap();
    assert!(matches!(open(&env).await, Err(KvError::Locked)));
    drop(first);
    open(&env).await.unwrap();
}

#[tokio::test]
async fn ranges_go_both_ways_and_meet() {
    let (_, env) = simulated(1);
    let kv = open(&env).await.unwrap();
    let pairs: Vec<_> = (0..5u8).map(|key| (vec![key], vec![key; 3])).collect();
    for (key, value) in &pairs {
        put(&kv, key, value).await.unwrap();
    }
    assert_eq!(kv.range(&[1], &[4]).map(Result::unwrap).collect::<Vec<_>>(), pairs[1..4]);
    let mut backwards: Vec<_> = kv.range(&[1], &[4]).rev().map(Result::unwrap).collect();
    backwards.reverse();
    assert_eq!(backwards, pairs[1..4]);
    let mut range = kv.range(&[0], &[9]);
    let mut both = Vec::new();
    while let Some(first) = range.next() {
        both.push(first.unwrap().0[0]);
        both.extend(range.next_back().map(|last| last.unwrap().0[0]));
    }
    assert_eq!(both, [0, 4, 1, 3, 2]);
    assert_eq!(kv.range(&[4], &[1]).count(), 0);
}

#[tokio::test]
async fn it_opens_again_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let env = Env::production(1).unwrap();
    let path = folder.path().join("made/on/demand");
    for round in 0..3u8 {
        let kv = JournalKv::open_sized(&env, &path, SIZES).await.unwrap();
        assert_eq!(all(&kv).len(), usize::from(round));
        put(&kv, &[round], b"value").await.unwrap();
        assert!(kv.free_bytes().await.unwrap() > 0);
    }
}
