//! A replica of one voter: openraft over the stores, behind [`Log`].

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use openraft::{
    BasicNode, Config, SnapshotPolicy,
    error::{ClientWriteError, RaftError},
};
use polybolos_env::Env;
use polybolos_model::ReplicaId;
use polybolos_state::{ClusterState, Entry};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    Committed, Fatal, Leadership, Log, MAX_ENTRY_BYTES, PROPOSE_TIMEOUT, ProposeError,
    kv::Kv,
    leadership,
    log_store::LogStore,
    machine::{Machine, MachineError, Shared},
    network::NoPeers,
    raft::{Proposal, Raft},
    store::StoreError,
};

/// A snapshot replaces the log after this many entries, or after this many bytes of them.
const SNAPSHOT_EVERY_ENTRIES: u64 = 2_000;
const SNAPSHOT_EVERY_BYTES: u64 = 256 * 1024 * 1024;
/// Entries that stay in the log although a snapshot holds them.
const KEEP_ENTRIES: u64 = 100;
/// Entries that openraft reads or sends at once.
const MAX_PAYLOAD_ENTRIES: u64 = 64;
/// How often openraft looks at its timers.
const HEARTBEAT_INTERVAL_MS: u64 = 200;
/// openraft draws from `[this, this + 1)`, so its random generator decides nothing. Its elections are off.
const ELECTION_TIMEOUT_MS: u64 = 1_000;
/// How long the election of a cluster of one, and applying the rest of the log, may take at start.
const LEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long stopping may take; what was committed is durable already.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Replica {
    raft: Raft,
    shared: Arc<Shared>,
    leadership: watch::Receiver<Leadership>,
    fatal: watch::Receiver<Option<Fatal>>,
    stopping: Arc<AtomicBool>,
    follower: JoinHandle<()>,
    /// Committed since the last snapshot that was asked for by size.
    bytes_since_snapshot: AtomicU64,
}

/// Why a replica with a sound identity did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error("openraft: {0}")]
    Storage(#[from] Box<openraft::StorageError<u64>>),
    #[error("{0}")]
    Stopped(String),
    #[error("no leader after {} ms", LEAD_TIMEOUT.as_millis())]
    NoLeader,
}

impl StartError {
    pub(crate) const LEAD_TIMEOUT: Duration = LEAD_TIMEOUT;

    fn stopped(error: impl std::fmt::Display) -> Self {
        Self::Stopped(error.to_string())
    }
}

fn config(cluster_id: &str) -> Config {
    Config {
        cluster_name: cluster_id.to_owned(),
        heartbeat_interval: HEARTBEAT_INTERVAL_MS,
        election_timeout_min: ELECTION_TIMEOUT_MS,
        election_timeout_max: ELECTION_TIMEOUT_MS + 1,
        max_payload_entries: MAX_PAYLOAD_ENTRIES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY_ENTRIES),
        max_in_snapshot_log_to_keep: KEEP_ENTRIES,
        enable_elect: false,
        ..Config::default()
    }
}

impl Replica {
    /// Starts the one voter over `kv` and waits until it leads and has applied its whole log.
    ///
    /// Must run [`crate::runtime::within`] the same `env`.
    pub(crate) async fn start(
        kv: Arc<dyn Kv>,
        cluster_id: &str,
        (id, address): (ReplicaId, &str),
        env: &Env,
    ) -> Result<Self, StartError> {
        let log_store = LogStore::open(Arc::clone(&kv))?;
        log_store.resign(id.0).await?;
        let machine = Machine::open(kv, cluster_id, env).await?;
        let shared = machine.shared();
        let config = Arc::new(config(cluster_id).validate().map_err(StartError::stopped)?);
        let raft =
            Raft::new(id.0, config, NoPeers, log_store, machine).await.map_err(|fatal| match fatal {
                openraft::error::Fatal::StorageError(error) => StartError::Storage(Box::new(error)),
                other => StartError::stopped(other),
            })?;
        if raft.is_initialized().await.map_err(StartError::stopped)? {
            raft.trigger().elect().await.map_err(StartError::stopped)?;
        } else {
            let members = BTreeMap::from([(id.0, BasicNode { addr: address.to_owned() })]);
            raft.initialize(members).await.map_err(StartError::stopped)?;
        }
        let stopping = Arc::new(AtomicBool::new(false));
        let (leadership, fatal) = (watch::Sender::new(Leadership::default()), watch::Sender::new(None));
        let mut replica = Self {
            shared,
            leadership: leadership.subscribe(),
            fatal: fatal.subscribe(),
            stopping: Arc::clone(&stopping),
            follower: tokio::spawn(leadership::follow(raft.metrics(), leadership, fatal, stopping)),
            raft,
            bytes_since_snapshot: AtomicU64::new(0),
        };
        replica.wait_to_lead().await?;
        Ok(replica)
    }

    async fn wait_to_lead(&mut self) -> Result<(), StartError> {
        let leads =
            tokio::time::timeout(LEAD_TIMEOUT, self.leadership.wait_for(|leadership| leadership.is_self));
        match leads.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => {
                let fatal = self.fatal.borrow().clone();
                Err(StartError::Stopped(fatal.map_or("unknown".to_owned(), |fatal| fatal.reason.to_string())))
            }
            Err(_) => Err(StartError::NoLeader),
        }
    }

    /// The entries' number alone would let a log of large plans grow to many times the state that it makes.
    async fn count_bytes(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let before = self.bytes_since_snapshot.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) >= SNAPSHOT_EVERY_BYTES {
            self.bytes_since_snapshot.store(0, Ordering::Relaxed);
            if let Err(error) = self.raft.trigger().snapshot().await {
                tracing::warn!(%error, "no snapshot was asked for");
            }
        }
    }

    async fn write(&self, bytes: Vec<u8>) -> Result<Committed, ProposeError> {
        let stopped = |reason: String| ProposeError::Stopped { reason };
        let written = match self.raft.client_write(Proposal(bytes)).await {
            Ok(written) => written,
            Err(RaftError::Fatal(fatal)) => return Err(stopped(fatal.to_string())),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                let address = forward.leader_node.map(|node| node.addr).unwrap_or_default();
                let leader = forward.leader_id.map(|id| (ReplicaId(id), address));
                return Err(ProposeError::NotLeader { leader });
            }
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
                return Err(ProposeError::Refused { reason: error.to_string() });
            }
        };
        match written.data.0 {
            Some(applied) => Ok(Committed { index: written.log_id.index, applied }),
            None => Err(stopped(format!("entry {} was applied as an empty one", written.log_id.index))),
        }
    }

    #[cfg(test)]
    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }
}

#[async_trait]
impl Log for Replica {
    async fn propose(&self, entry: Entry) -> Result<Committed, ProposeError> {
        let bytes = entry.encode().map_err(|error| ProposeError::Refused { reason: error.to_string() })?;
        let size = bytes.len();
        if size > MAX_ENTRY_BYTES {
            return Err(ProposeError::TooLarge { bytes: size });
        }
        let waited_ms = u64::try_from(PROPOSE_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        let committed = tokio::time::timeout(PROPOSE_TIMEOUT, self.write(bytes))
            .await
            .unwrap_or(Err(ProposeError::Unknown { waited_ms }))?;
        self.count_bytes(size).await;
        Ok(committed)
    }

    fn read(&self, f: &mut dyn FnMut(&ClusterState)) {
        self.shared.read(f);
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    fn fatal(&self) -> watch::Receiver<Option<Fatal>> {
        self.fatal.clone()
    }

    async fn shutdown(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        match tokio::time::timeout(SHUTDOWN_TIMEOUT, self.raft.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the replicated log did not stop cleanly"),
            Err(_) => tracing::warn!("the replicated log did not stop within {SHUTDOWN_TIMEOUT:?}"),
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.follower.abort();
    }
}
