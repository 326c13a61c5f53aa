//! What all parts of a running replica share, and what it says of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use openraft::{LogId, ServerState, storage::RaftLogStorage};
use polybolos_env::Env;
use polybolos_model::{
    ReplicaId, Term,
    simulation::{Fact, report},
};
use polybolos_proto::v1::DescribeResponse;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::timeout,
};

use crate::{
    DiskState, Fatal, Leadership, Timing,
    heard::Heard,
    kv::Kv,
    leadership,
    log_store::LogStore,
    machine::Shared,
    member::Member,
    peers::Peers,
    raft::{Metrics, Raft, StorageError},
};

/// How long openraft's core may take for a question; longer only while it waits for a full disk.
const CORE_TIMEOUT: Duration = Duration::from_millis(200);

pub(crate) struct Node {
    pub(crate) member: Arc<Member>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) raft: Raft,
    pub(crate) log_store: LogStore,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) env: Env,
    pub(crate) timing: Timing,
    /// The `--cluster` that it was started with.
    pub(crate) bootstrap: BTreeMap<ReplicaId, String>,
    pub(crate) heard: Mutex<Heard>,
    pub(crate) disk: watch::Receiver<DiskState>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) fatal: watch::Sender<Option<Fatal>>,
    /// Leadership is being handed over: no heartbeats, and proposals wait.
    pub(crate) silent: watch::Sender<bool>,
    /// The leader asks this replica to take over.
    pub(crate) take_over: Notify,
    pub(crate) stopping: Arc<AtomicBool>,
    /// Appends that openraft may hold at once.
    pub(crate) appends: Arc<Semaphore>,
}

/// A member as the others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) id: ReplicaId,
    pub(crate) address: String,
    pub(crate) is_voter: bool,
}

impl Node {
    pub(crate) fn id(&self) -> ReplicaId {
        self.member.id
    }

    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow().clone()
    }

    /// All members by the log, ascending; before it has any, those that it was started with.
    pub(crate) fn members(&self) -> Vec<Address> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        if voters.is_empty() {
            let first = self.bootstrap.iter();
            return first
                .map(|(id, address)| Address { id: *id, address: address.clone(), is_voter: true })
                .collect();
        }
        let nodes = metrics.membership_config.nodes();
        nodes
            .map(|(id, node)| Address {
                id: ReplicaId(*id),
                address: node.addr.clone(),
                is_voter: voters.contains(id),
            })
            .collect()
    }

    pub(crate) fn others(&self) -> Vec<Address> {
        self.members().into_iter().filter(|member| member.id != self.id()).collect()
    }

    /// Whether `granted` holds a majority of each set of voters (two sets while they change).
    pub(crate) fn is_majority(&self, granted: &BTreeSet<u64>) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let sets = metrics.membership_config.membership().get_joint_config();
        !sets.is_empty() && sets.iter().all(|set| set.intersection(granted).count() * 2 > set.len())
    }

    /// It leads, and a majority has answered it within the lease.
    pub(crate) fn leads_surely(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let lease_ms = u64::try_from(self.timing.lease.as_millis()).unwrap_or(u64::MAX);
        // openraft's numbers stand still while its core waits for a full disk.
        metrics.state == ServerState::Leader
            && *self.disk.borrow() == DiskState::Ok
            && (metrics.membership_config.voter_ids().count() <= 1
                || metrics.millis_since_quorum_ack.is_none_or(|ms| ms < lease_ms))
    }

    /// It leads, or it has heard a leader lately.
    pub(crate) fn hears_leader(&self) -> bool {
        let within = Duration::from_millis(leadership::QUORUM_TIMEOUT_MS);
        self.leads_surely() || self.heard().leader_within(within, self.env.clock.now()).is_some()
    }

    /// The last entry of the log on this disk.
    pub(crate) async fn last_log_id(&self) -> Result<Option<LogId<u64>>, StorageError> {
        Ok(self.log_store.clone().get_log_state().await?.last_log_id)
    }

    /// The last entry that is known to be committed; what is applied if the core does not answer in time.
    async fn committed_index(&self, applied: u64) -> u64 {
        let committed = timeout(CORE_TIMEOUT, self.raft.with_raft_state(|state| state.committed)).await;
        match committed {
            Ok(Ok(committed)) => committed.map_or(0, |id| id.index).max(applied),
            Ok(Err(_)) | Err(_) => applied,
        }
    }

    pub(crate) fn role(&self, metrics: &Metrics) -> &'static str {
        if !self.member.is_admitted() {
            return "joining";
        }
        match metrics.state {
            ServerState::Leader => "leader",
            ServerState::Candidate => "candidate",
            ServerState::Learner => "learner",
            ServerState::Follower | ServerState::Shutdown => "follower",
        }
    }

    /// What it says of itself.
    pub(crate) async fn describe(&self) -> DescribeResponse {
        let metrics = self.metrics();
        let state = self.shared.describe();
        let (disk, disk_free_bytes) = match *self.disk.borrow() {
            DiskState::Ok => ("ok", 0),
            DiskState::Full { free_bytes } => ("full", free_bytes),
        };
        let last_log_index = metrics.last_log_index.unwrap_or_default();
        let members = self.members();
        DescribeResponse {
            cluster_id: self.member.cluster_id(),
            replica: self.id().0,
            role: self.role(&metrics).to_owned(),
            term: metrics.current_term,
            leader: metrics.current_leader.unwrap_or_default(),
            last_log_index,
            committed_index: self.committed_index(state.applied).await,
            applied_index: state.applied,
            state_hash: state.hash,
            snapshot_index: metrics.snapshot.map_or(0, |id| id.index),
            snapshot_bytes: self.shared.snapshot_bytes(),
            disk: disk.to_owned(),
            disk_free_bytes,
            version: self.member.version.into(),
            refused_messages: self.member.refused(),
            voters: members.iter().filter(|member| member.is_voter).map(|member| member.id.0).collect(),
            members: members.into_iter().map(|member| (member.id.0, member.address)).collect(),
            sender_removed: false,
        }
    }

    /// The replica can't go on until somebody acts.
    pub(crate) fn refuse(&self, reason: String) {
        tracing::error!(reason, "the replica stops");
        let refusal = Fatal { reason: reason.into(), refused: true };
        self.fatal.send_if_modified(|known| known.is_none() && known.replace(refusal).is_none());
    }

    /// A number below `bound`.
    pub(crate) fn draw(&self, bound: u64) -> u64 {
        self.env.random.below(bound)
    }
}

impl leadership::Around for Arc<Node> {
    fn hears_leader(&self) -> bool {
        Node::hears_leader(self)
    }

    fn too_new(&self) -> Option<String> {
        self.shared.too_new()
    }

    fn elected(&self, term: u64) {
        report(|| {
            // An end that can't be read must not look like a short log.
            let unreadable = (term, u64::MAX);
            let last = self.log_store.last_before(term);
            let (last_term, last_index) =
                last.map_or(unreadable, |last| last.map_or((0, 0), |last| (last.leader_id.term, last.index)));
            Fact::Elected { term: Term(term), last_term: Term(last_term), last_index }
        });
    }
}
