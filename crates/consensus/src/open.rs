//! Opening a data folder: whose is it, is it sound, then start.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use openraft::{Config, SnapshotPolicy};
use polybolos_env::Env;
use polybolos_model::ReplicaId;
use tokio::sync::{Notify, Semaphore, mpsc, watch};

use crate::{
    DiskState, Leadership, Log, OpenError, ReplicaConfig, Snapshots, Store, Timing,
    codec::DecodeError,
    driver, joining,
    kv::{
        Batch, Durability, Kv, KvError,
        journal::JournalKv,
        patient::PatientKv,
        sled::{self, SledKv},
    },
    leadership,
    log_store::LogStore,
    machine::{Machine, MachineError},
    member::Member,
    network::{CHUNK_DEADLINE, HigherVote, Network},
    node::Node,
    peers::Peers,
    raft::Raft,
    replica::Replica,
    runtime,
    service::{self, ReplicaServer},
    steward,
    store::{self, StoreError, identity::Identity},
};

/// Snapshots come by this share of their interval later for each replica id, so that not all replicas copy their state
/// at the same entry.
const SNAPSHOT_STAGGER: u64 = 20;
/// Ids beyond it share their places.
const STAGGERED_REPLICAS: u64 = 8;
/// Entries that openraft reads or sends at once; the log store bounds their bytes.
const MAX_PAYLOAD_ENTRIES: u64 = 64;
/// Appends under way at a follower. A leader sends one at a time, and again what was not answered in time.
const MAX_APPENDS: usize = 16;
const SNAPSHOT_CHUNK_BYTES: u64 = 1024 * 1024;
/// openraft ticks one and a half times as slowly, and gives an append and a confirmed read this long. Ours come first.
const CORE_INTERVAL_MS: u64 = 10_000;

/// A replica that runs.
pub struct Opened {
    pub log: Arc<dyn Log>,
    /// What the other replicas call; to be served at this replica's address from now on.
    pub service: ReplicaServer,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

/// Opens the replica's data folder, which is made if need be, and starts the replica.
///
/// Returns before anybody leads: to form or join the cluster and to elect a leader, the replicas must reach each other.
///
/// # Errors
/// Each says what to do about it. What only the other replicas can tell comes later, by [`Log::fatal`].
pub async fn open(config: ReplicaConfig, env: &Env) -> Result<Opened, OpenError> {
    let address = config
        .cluster
        .get(&config.id)
        .cloned()
        .ok_or_else(|| OpenError::NotInCluster { id: config.id, cluster: config.cluster.clone() })?;
    let data_dir = config.data_dir.as_path();
    let kv = match config.store {
        Store::Sled => open_kv(data_dir, env).await?,
        Store::Journal => open_journal(data_dir, env).await?,
    };
    let kv = Arc::new(PatientKv::new(kv));
    let disk = kv.state();
    let (log, service) = start(kv, disk, config, address, env).await?;
    Ok(Opened { log, service })
}

/// A data folder as it is, for work while no replica runs on it.
pub(crate) async fn open_kv(data_dir: &Path, env: &Env) -> Result<Arc<dyn Kv>, OpenError> {
    make(data_dir, &journal_in(data_dir), env).await?;
    Ok(Arc::new(SledKv::open(&sled::folder_in(data_dir)).await.map_err(|error| of_kv(data_dir, error))?))
}

async fn open_journal(data_dir: &Path, env: &Env) -> Result<Arc<dyn Kv>, OpenError> {
    make(data_dir, &sled::folder_in(data_dir), env).await?;
    let journal = journal_in(data_dir);
    env.disk.create_dir_all(&journal).await.map_err(|source| folder(data_dir, "it can't be made", source))?;
    Ok(Arc::new(JournalKv::open(env, &journal).await.map_err(|error| of_kv(data_dir, error))?))
}

fn journal_in(data_dir: &Path) -> PathBuf {
    data_dir.join("journal")
}

/// Makes the data folder, unless it holds a log of the other kind: this one would take it for a new one.
async fn make(data_dir: &Path, other: &Path, env: &Env) -> Result<(), OpenError> {
    let failed = |reason| move |source| folder(data_dir, reason, source);
    env.disk.create_dir_all(data_dir).await.map_err(failed("it can't be made"))?;
    let present = env.disk.list(data_dir).await.map_err(failed("it can't be listed"))?;
    if present.iter().any(|path| path == other) {
        return Err(OpenError::OtherStore { data_dir: data_dir.to_owned(), found: other.to_owned() });
    }
    Ok(())
}

/// Starts the replica over an open store.
pub(crate) async fn start(
    kv: Arc<dyn Kv>,
    disk: watch::Receiver<DiskState>,
    config: ReplicaConfig,
    address: String,
    env: &Env,
) -> Result<(Arc<Replica>, ReplicaServer), OpenError> {
    let data_dir = config.data_dir.as_path();
    let identity = identify(kv.as_ref(), &config, &address, env).await?;
    let log_store =
        LogStore::open(Arc::clone(&kv), config.version).map_err(|error| of_store(data_dir, error))?;
    log_store.resign(config.id.0).await.map_err(|error| of_store(data_dir, error))?;
    let log_store = log_store.after_snapshots();
    let machine = Machine::open(Arc::clone(&kv), env, config.version).await;
    let machine = machine.map_err(|error| of_machine(data_dir, error))?;
    let member =
        Member::new(config.id, &address, identity.folder, config.version, identity.cluster_id.clone());
    let (member, peers) = (Arc::new(member), Peers::new(env));
    let shared = machine.shared();
    let (network, votes) = Network::new(Arc::clone(&member), Arc::clone(&peers));
    let raft_config = Arc::new(raft_config(config.id, config.timing, config.snapshots));
    let raft =
        runtime::within(env, Raft::new(config.id.0, raft_config, network, log_store.clone(), machine)).await;
    let raft = raft.map_err(|fatal| match fatal {
        openraft::error::Fatal::StorageError(error) => damaged(data_dir, error),
        other => OpenError::Stopped { data_dir: data_dir.to_owned(), reason: other.to_string() },
    })?;
    let initialized = raft
        .is_initialized()
        .await
        .map_err(|fatal| OpenError::Stopped { data_dir: data_dir.to_owned(), reason: fatal.to_string() })?;
    let (leadership, fatal) = (watch::Sender::new(Leadership::default()), watch::Sender::new(None));
    let stopping = Arc::new(AtomicBool::new(false));
    let node = Arc::new(Node {
        member,
        peers,
        raft,
        log_store,
        kv,
        shared,
        env: env.clone(),
        timing: config.timing,
        bootstrap: config.cluster,
        disk,
        leadership: leadership.subscribe(),
        fatal,
        stopping,
        heard: Mutex::default(),
        silent: watch::Sender::new(false),
        take_over: Notify::new(),
        appends: Arc::new(Semaphore::new(MAX_APPENDS)),
    });
    let log = runtime::within(env, async { run(&node, votes, leadership, identity, initialized) }).await;
    Ok((Arc::new(log), service::server(node)))
}

/// Starts what runs beside openraft.
fn run(
    node: &Arc<Node>,
    votes: mpsc::Receiver<HigherVote>,
    leadership: watch::Sender<Leadership>,
    identity: Identity,
    initialized: bool,
) -> Replica {
    let (metrics, fatal, stopping) = (node.raft.metrics(), node.fatal.clone(), Arc::clone(&node.stopping));
    let follow = leadership::follow(metrics, leadership, fatal, stopping, Arc::clone(node));
    let mut tasks = vec![
        tokio::spawn(follow),
        tokio::spawn(driver::beat(Arc::clone(node))),
        tokio::spawn(driver::campaign(Arc::clone(node))),
        tokio::spawn(driver::step_down(Arc::clone(node), votes)),
        tokio::spawn(steward::keep_order(Arc::clone(node))),
        tokio::spawn(steward::announce(Arc::clone(node))),
        tokio::spawn(joining::check_belonging(Arc::clone(node))),
    ];
    if identity.cluster_id.is_empty() {
        tasks.push(tokio::spawn(steward::remember_cluster(Arc::clone(node), identity.clone())));
    }
    if initialized || !identity.cluster_id.is_empty() {
        node.member.admit();
    } else {
        tasks.push(tokio::spawn(joining::join(Arc::clone(node), identity)));
    }
    Replica::new(Arc::clone(node), tasks)
}

/// Not validated: openraft's own timers are off, and its rules are about them. Its draw of an election time-out is from
/// a range of one value, so that its random generator decides nothing.
fn raft_config(id: ReplicaId, timing: Timing, snapshots: Snapshots) -> Config {
    let Snapshots { every_entries, keep_entries } = snapshots;
    let snapshot_every = every_entries + id.0 % STAGGERED_REPLICAS * (every_entries / SNAPSHOT_STAGGER);
    let lease_ms = u64::try_from(timing.lease.as_millis()).unwrap_or(u64::MAX).max(1);
    Config {
        cluster_name: "polybolos".to_owned(),
        heartbeat_interval: CORE_INTERVAL_MS,
        election_timeout_min: lease_ms - 1,
        // The lease within which a follower refuses its vote.
        election_timeout_max: lease_ms,
        max_payload_entries: MAX_PAYLOAD_ENTRIES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_every),
        snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
        install_snapshot_timeout: u64::try_from(CHUNK_DEADLINE.as_millis()).unwrap_or(u64::MAX),
        max_in_snapshot_log_to_keep: keep_entries,
        enable_elect: false,
        enable_heartbeat: false,
        ..Config::default()
    }
}

/// Reads whose folder this is and checks that it is ours, or writes that it is.
async fn identify(
    kv: &dyn Kv,
    config: &ReplicaConfig,
    address: &str,
    env: &Env,
) -> Result<Identity, OpenError> {
    let data_dir = config.data_dir.as_path();
    let of_store = |error| of_store(data_dir, error);
    if let Some(stored) = store::get::<Identity>(kv).map_err(of_store)? {
        check_identity(&stored, config, address)?;
        return Ok(stored);
    }
    let identity = Identity {
        cluster_id: String::new(),
        replica: config.id.0,
        address: address.to_owned(),
        folder: env.random.next_u64(),
        bootstrap: config.cluster.iter().map(|(id, address)| (id.0, address.clone())).collect(),
    };
    write_identity(kv, &identity).await.map_err(of_store)?;
    Ok(identity)
}

pub(crate) async fn write_identity(kv: &dyn Kv, identity: &Identity) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    store::put(&mut batch, identity)?;
    Ok(kv.write(batch, Durability::Flushed).await?)
}

/// The other members change through the cluster, so `--cluster` may name others than when the folder was made. This
/// replica's own address is what they know it by.
fn check_identity(stored: &Identity, config: &ReplicaConfig, address: &str) -> Result<(), OpenError> {
    let data_dir = config.data_dir.clone();
    if stored.replica != config.id.0 {
        let (stored, asked) = (ReplicaId(stored.replica), config.id);
        return Err(OpenError::OtherReplica { data_dir, stored, asked });
    }
    if stored.address != address {
        let (cluster_id, asked) = (stored.cluster_id.clone(), config.cluster.clone());
        let stored: BTreeMap<_, _> =
            stored.bootstrap.iter().map(|(id, address)| (ReplicaId(*id), address.clone())).collect();
        return Err(OpenError::OtherCluster { data_dir, cluster_id, stored, asked });
    }
    Ok(())
}

fn folder(data_dir: &Path, reason: &'static str, source: std::io::Error) -> OpenError {
    OpenError::Folder { data_dir: data_dir.to_owned(), reason, source }
}

fn damaged(data_dir: &Path, reason: impl ToString) -> OpenError {
    OpenError::Damaged { data_dir: data_dir.to_owned(), reason: reason.to_string() }
}

fn newer(data_dir: &Path, reason: impl ToString) -> OpenError {
    OpenError::Newer { data_dir: data_dir.to_owned(), reason: reason.to_string() }
}

fn of_kv(data_dir: &Path, error: KvError) -> OpenError {
    match error {
        KvError::Io { operation, source } => folder(data_dir, operation, source),
        KvError::Locked => OpenError::Locked { data_dir: data_dir.to_owned() },
        KvError::Full { free_bytes } => OpenError::Full { data_dir: data_dir.to_owned(), free_bytes },
        error @ KvError::Version { .. } => newer(data_dir, error),
        error @ KvError::Stopped { .. } => {
            OpenError::Stopped { data_dir: data_dir.to_owned(), reason: error.to_string() }
        }
        // sled panics on some kinds of damage.
        error @ (KvError::Damaged { .. } | KvError::Panicked { .. }) => damaged(data_dir, error),
    }
}

fn of_store(data_dir: &Path, error: StoreError) -> OpenError {
    match error {
        StoreError::Kv(error) => of_kv(data_dir, error),
        error @ StoreError::Version { .. } => newer(data_dir, error),
        error => damaged(data_dir, error),
    }
}

fn of_machine(data_dir: &Path, error: MachineError) -> OpenError {
    match error {
        MachineError::Store(error) => of_store(data_dir, error),
        error @ MachineError::Snapshot(DecodeError::Newer { .. }) => newer(data_dir, error),
        error @ MachineError::Cpu => {
            OpenError::Stopped { data_dir: data_dir.to_owned(), reason: error.to_string() }
        }
        error => damaged(data_dir, error),
    }
}
