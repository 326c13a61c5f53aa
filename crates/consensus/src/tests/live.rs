//! A replica as it runs, over keys in memory that fail or stall on demand.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use polybolos_env::Env;
use polybolos_model::{ReplicaId, Term};
use polybolos_state::{ClusterState, Command, ENTRY_VERSION, Entry, TableDef};
use tokio::sync::watch;

use super::{ADDRESS, entry, env, leads, set, term, value};
use crate::{
    DiskState, Log, MAX_ENTRY_BYTES, ProposeError, in_memory,
    kv::{Batch, Durability, Kv, KvError, Pairs, memory::MemoryKv},
    open, read_with,
    replica::Replica,
    store::{self, StoredLogId, purged::Purged, snapshot},
};

const WORKS: u8 = 0;
const FAILS: u8 = 1;
const STALLS: u8 = 2;

#[derive(Default)]
struct Disk {
    kv: MemoryKv,
    mode: AtomicU8,
    flushes: AtomicU64,
}

#[async_trait]
impl Kv for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.kv.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        self.kv.range(from, to)
    }

    async fn free_bytes(&self) -> Result<u64, KvError> {
        self.kv.free_bytes().await
    }

    async fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        self.flushes.fetch_add((durability == Durability::Flushed).into(), Ordering::Relaxed);
        match self.mode.load(Ordering::Relaxed) {
            FAILS => Err(KvError::Io { operation: "write", source: std::io::Error::other("no space left") }),
            STALLS => std::future::pending().await,
            _ => self.kv.write(batch, durability).await,
        }
    }
}

/// A cluster of one that leads, has its name, and has nothing left to put in order.
async fn start(disk: &Arc<Disk>, env: &Env) -> Arc<Replica> {
    let kv = Arc::clone(disk) as Arc<dyn Kv>;
    let (_, state) = watch::channel(DiskState::Ok);
    let config = super::config(Path::new("/data"));
    let (replica, _) = open::start(kv, state, config, ADDRESS.to_owned(), env).await.unwrap();
    leads(replica.as_ref()).await;
    let mut applied = replica.applied();
    applied
        .wait_for(|_| read_with(replica.as_ref(), |state| state.version()) == ENTRY_VERSION)
        .await
        .unwrap();
    while replica.node().member.cluster_id().is_empty() {
        tokio::task::yield_now().await;
    }
    replica
}

fn purged(disk: &Disk) -> Option<StoredLogId> {
    store::get::<Purged>(&disk.kv).unwrap().map(|purged| purged.0)
}

#[tokio::test]
async fn what_was_proposed_is_applied_and_survives_a_restart() {
    let (disk, env) = (Arc::default(), env());
    let replica = start(&disk, &env).await;
    let mut applied = replica.applied();
    let index = set(replica.as_ref(), "one").await;
    assert_eq!(value(replica.as_ref()).as_deref(), Some("one"));
    assert!(*applied.wait_for(|applied| *applied >= index).await.unwrap() >= index);
    let leads = replica.leadership().borrow().clone();
    assert_eq!(leads.leader, Some((ReplicaId(1), ADDRESS.to_owned())));
    let hash = read_with(replica.as_ref(), polybolos_state::ClusterState::hash);
    replica.shutdown().await;
    drop(replica);

    let replica = start(&disk, &env).await;
    assert_eq!(read_with(replica.as_ref(), polybolos_state::ClusterState::hash), hash);
    // Attempts are counted anew in each term, so a restart must begin one.
    assert!(term(replica.as_ref()) > leads.term);
    assert!(set(replica.as_ref(), "two").await > index);
    assert_eq!(value(replica.as_ref()).as_deref(), Some("two"));
}

#[tokio::test]
async fn a_commit_waits_for_one_flush() {
    let (disk, env) = (Arc::<Disk>::default(), env());
    let replica = start(&disk, &env).await;
    let before = disk.flushes.load(Ordering::Relaxed);
    for i in 0..10 {
        set(replica.as_ref(), &i.to_string()).await;
    }
    assert_eq!(disk.flushes.load(Ordering::Relaxed) - before, 10);
}

#[tokio::test]
async fn proposals_at_once_are_all_committed_in_some_order() {
    let (disk, env) = (Arc::default(), env());
    let replica = start(&disk, &env).await;
    let term = term(replica.as_ref());
    let tasks: Vec<_> = (0..100)
        .map(|i| {
            let replica = Arc::clone(&replica);
            tokio::spawn(async move { replica.propose(entry(term, &i.to_string())).await.unwrap().index })
        })
        .collect();
    let mut indexes = Vec::new();
    for task in tasks {
        indexes.push(task.await.unwrap());
    }
    indexes.sort_unstable();
    assert!(indexes.windows(2).all(|pair| pair[1] == pair[0] + 1), "{indexes:?}");
}

#[tokio::test]
async fn a_snapshot_replaces_the_log_and_restores_the_state() {
    let (disk, env) = (Arc::default(), env());
    let replica = start(&disk, &env).await;
    for i in 0..10 {
        set(replica.as_ref(), &i.to_string()).await;
    }
    let last = set(replica.as_ref(), "in the snapshot").await;
    replica.node().raft.trigger().snapshot().await.unwrap();
    let mut metrics = replica.node().raft.metrics();
    metrics.wait_for(|metrics| metrics.snapshot.is_some_and(|id| id.index >= last)).await.unwrap();
    replica.node().raft.trigger().purge_log(last).await.unwrap();
    metrics.wait_for(|metrics| metrics.purged.is_some_and(|id| id.index >= last)).await.unwrap();
    assert_eq!(purged(&disk).unwrap().index, last);
    drop(replica);

    let replica = start(&disk, &env).await;
    assert_eq!(value(replica.as_ref()).as_deref(), Some("in the snapshot"));
    set(replica.as_ref(), "after it").await;
    let hash = read_with(replica.as_ref(), polybolos_state::ClusterState::hash);
    drop(replica);
    let replica = start(&disk, &env).await;
    assert_eq!(value(replica.as_ref()).as_deref(), Some("after it"));
    assert_eq!(read_with(replica.as_ref(), polybolos_state::ClusterState::hash), hash);
}

#[tokio::test]
async fn a_long_log_is_cut_by_itself() {
    let (disk, env) = (Arc::default(), env());
    let replica = start(&disk, &env).await;
    let mut last = 0;
    for i in 0..2_500 {
        last = set(replica.as_ref(), &i.to_string()).await;
    }
    let mut metrics = replica.node().raft.metrics();
    metrics.wait_for(|metrics| metrics.purged.is_some()).await.unwrap();
    let kept = snapshot::last_log_id(&disk.kv).unwrap().unwrap().index - purged(&disk).unwrap().index;
    assert!(kept <= 100, "{kept} entries are kept that the snapshot holds");
    drop(replica);
    let replica = start(&disk, &env).await;
    assert_eq!(value(replica.as_ref()).as_deref(), Some("2499"));
    assert!(set(replica.as_ref(), "on").await > last);
}

#[tokio::test]
async fn an_entry_that_is_too_large_is_refused_before_the_log() {
    let (disk, env) = (Arc::default(), env());
    let replica = start(&disk, &env).await;
    let name = polybolos_state::RelationName { schema: "s".to_owned(), name: "t".to_owned() };
    let table = TableDef { ddl: String::new(), provider: vec![0; MAX_ENTRY_BYTES] };
    let create = Command::CreateTable { name, table, or_replace: false, if_not_exists: false };
    let before = *replica.applied().borrow();
    let refused = replica.propose(Entry::new(1, term(replica.as_ref()), 1, vec![create])).await.unwrap_err();
    assert!(matches!(refused, ProposeError::TooLarge { bytes } if bytes > MAX_ENTRY_BYTES));
    assert!(!refused.may_be_committed());
    assert_eq!(set(replica.as_ref(), "still alive").await, before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_disk_leaves_the_outcome_unknown() {
    let (disk, env) = (Arc::<Disk>::default(), env());
    let replica = start(&disk, &env).await;
    disk.mode.store(STALLS, Ordering::Relaxed);
    let stalled = replica.propose(entry(term(replica.as_ref()), "one")).await.unwrap_err();
    assert_eq!(stalled, ProposeError::Unknown { waited_ms: 5_000 });
    assert!(stalled.may_be_committed());
}

#[tokio::test]
async fn a_failing_disk_is_fatal_and_ends_leadership() {
    let (disk, env) = (Arc::<Disk>::default(), env());
    let replica = start(&disk, &env).await;
    let (mut fatal, mut leadership) = (replica.fatal(), replica.leadership());
    assert_eq!(*fatal.borrow(), None);
    disk.mode.store(FAILS, Ordering::Relaxed);
    let stopped = replica.propose(entry(term(replica.as_ref()), "one")).await.unwrap_err();
    assert!(matches!(stopped, ProposeError::Stopped { .. }), "{stopped}");
    let reason = fatal.wait_for(Option::is_some).await.unwrap().clone().unwrap().to_string();
    assert!(reason.contains("no space left"), "{reason}");
    assert!(!leadership.wait_for(|leadership| !leadership.is_self).await.unwrap().is_self);

    disk.mode.store(WORKS, Ordering::Relaxed);
    drop(replica);
    let replica = start(&disk, &env).await;
    set(replica.as_ref(), "two").await;
}

#[tokio::test]
async fn a_shutdown_is_not_fatal() {
    let (disk, env) = (Arc::default(), env());
    let replica = start(&disk, &env).await;
    let (fatal, mut leadership) = (replica.fatal(), replica.leadership());
    replica.shutdown().await;
    leadership.wait_for(|leadership| !leadership.is_self).await.unwrap();
    let stopped = replica.propose(entry(Term(9), "one")).await.unwrap_err();
    assert!(matches!(stopped, ProposeError::Stopped { .. }));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(*fatal.borrow(), None);
}

#[tokio::test]
async fn a_log_in_memory_behaves_alike() {
    let log = in_memory(ReplicaId(1), ADDRESS.to_owned(), "embedded".to_owned());
    assert!(log.leadership().borrow().is_self);
    let mut applied = log.applied();
    assert_eq!(set(log.as_ref(), "one").await, 1);
    assert_eq!(set(log.as_ref(), "two").await, 2);
    assert_eq!(*applied.borrow_and_update(), 2);
    assert_eq!(value(log.as_ref()).as_deref(), Some("two"));
    assert_eq!(read_with(log.as_ref(), |state| state.cluster_id().to_owned()), "embedded");
    assert_eq!(read_with(log.as_ref(), ClusterState::version), ENTRY_VERSION);
    log.shutdown().await;
    assert!(matches!(log.propose(entry(Term(1), "three")).await, Err(ProposeError::NotLeader { .. })));
}
