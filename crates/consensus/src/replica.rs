//! A replica as the scheduler sees it: openraft over the stores and the network, behind [`Log`].

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::join_all;
use openraft::{
    ServerState,
    error::{ClientWriteError, RaftError},
};
use polybolos_model::{ReplicaId, Term};
use polybolos_proto::v1::{DescribeRequest, DescribeResponse};
use polybolos_state::{ClusterState, Entry};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    Committed, ConfirmError, DESCRIBE_TIMEOUT, DiskState, Fatal, Leadership, Log, MAX_ENTRY_BYTES,
    PROPOSE_TIMEOUT, ProposeError, ReplicaInfo, Replicas, Role,
    confirm::Confirmer,
    node::{Address, Node},
    raft::Proposal,
    replicas,
};

/// How long stopping may take; what was committed is durable already.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Replica {
    node: Arc<Node>,
    confirmer: Confirmer,
    tasks: Vec<JoinHandle<()>>,
}

impl Replica {
    /// `tasks` end with the replica.
    pub(crate) fn new(node: Arc<Node>, tasks: Vec<JoinHandle<()>>) -> Self {
        Self { confirmer: Confirmer::new(Arc::clone(&node)), node, tasks }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }
}

/// Commits an entry; see [`Log::propose`].
pub(crate) async fn propose(node: &Arc<Node>, entry: Entry) -> Result<Committed, ProposeError> {
    let bytes = entry.encode().map_err(|error| ProposeError::Refused { reason: error.to_string() })?;
    if bytes.len() > MAX_ENTRY_BYTES {
        return Err(ProposeError::TooLarge { bytes: bytes.len() });
    }
    // tokio's clock, since that is what the time-out below follows.
    let started = tokio_now();
    let deadline = started + PROPOSE_TIMEOUT;
    let unknown = || ProposeError::Unknown { waited_ms: millis(started.elapsed()) };
    // While leadership is handed over; afterwards openraft says who leads.
    let mut silent = node.silent.subscribe();
    if timeout_at(deadline, silent.wait_for(|silent| !silent)).await.is_err() {
        return Err(ProposeError::NotLeader { leader: None });
    }
    let written = tokio::select! {
        biased;
        written = timeout_at(deadline, write(node, bytes)) => written.unwrap_or_else(|_| Err(unknown())),
        // openraft tells only those whose entry was overwritten.
        () = leadership_lost(node) => {
            polybolos_model::sometimes!("leadership was lost with an entry under way");
            Err(unknown())
        }
    };
    match written {
        Err(ProposeError::NotLeader { leader: None }) => {
            let leader = node.leadership.borrow().leader.clone();
            Err(ProposeError::NotLeader { leader: leader.filter(|(id, _)| *id != node.id()) })
        }
        other => other,
    }
}

#[allow(clippy::disallowed_methods, reason = "measures a wait of tokio's own timers, by the same clock")]
fn tokio_now() -> Instant {
    Instant::now()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Waits until this replica leads no more, if it leads now.
async fn leadership_lost(node: &Node) {
    let mut metrics = node.raft.metrics();
    let (leads, term) = {
        let metrics = metrics.borrow_and_update();
        (metrics.state == ServerState::Leader, metrics.current_term)
    };
    if !leads {
        // The answer is on its way.
        return futures::future::pending().await;
    }
    // An error means that openraft has stopped, which the write says better.
    if metrics
        .wait_for(|metrics| metrics.state != ServerState::Leader || metrics.current_term != term)
        .await
        .is_err()
    {
        futures::future::pending::<()>().await;
    }
}

async fn write(node: &Node, bytes: Vec<u8>) -> Result<Committed, ProposeError> {
    let stopped = |reason: String| ProposeError::Stopped { reason };
    let written = match node.raft.client_write(Proposal(bytes)).await {
        Ok(written) => written,
        Err(RaftError::Fatal(fatal)) => return Err(stopped(fatal.to_string())),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
            let address = forward.leader_node.map(|node| node.addr).unwrap_or_default();
            let leader = forward.leader_id.filter(|id| *id != node.id().0);
            return Err(ProposeError::NotLeader { leader: leader.map(|id| (ReplicaId(id), address)) });
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

fn info(member: &Address, answer: Option<DescribeResponse>) -> ReplicaInfo {
    let (id, address, is_voter) = (member.id, member.address.clone(), member.is_voter);
    let Some(answer) = answer else {
        return ReplicaInfo { id, address, is_voter, ..ReplicaInfo::default() };
    };
    let disk = match answer.disk.as_str() {
        "full" => DiskState::Full { free_bytes: answer.disk_free_bytes },
        _ => DiskState::Ok,
    };
    ReplicaInfo {
        id,
        address,
        is_voter,
        role: role(&answer.role),
        term: Term(answer.term),
        last_log_index: answer.last_log_index,
        committed_index: answer.committed_index,
        applied_index: answer.applied_index,
        state_hash: answer.state_hash,
        snapshot_index: answer.snapshot_index,
        snapshot_bytes: answer.snapshot_bytes,
        disk,
        version: u16::try_from(answer.version).unwrap_or(u16::MAX),
        refused_messages: answer.refused_messages,
    }
}

fn role(name: &str) -> Role {
    match name {
        "leader" => Role::Leader,
        "candidate" => Role::Candidate,
        "learner" => Role::Learner,
        "joining" => Role::Joining,
        // What a later version may say is none of the others.
        _ => Role::Follower,
    }
}

#[async_trait]
impl Log for Replica {
    async fn propose(&self, entry: Entry) -> Result<Committed, ProposeError> {
        propose(&self.node, entry).await
    }

    fn read(&self, f: &mut dyn FnMut(&ClusterState)) {
        self.node.shared.read(f);
    }

    async fn confirm(&self) -> Result<(), ConfirmError> {
        self.confirmer.confirm().await
    }

    fn age(&self) -> Option<Duration> {
        let metrics = self.node.metrics();
        if metrics.state == ServerState::Leader {
            let alone = metrics.membership_config.voter_ids().count() <= 1;
            let acked = metrics.millis_since_quorum_ack.map(Duration::from_millis);
            // openraft's numbers stand still while its core waits for a full disk.
            let acked = acked.filter(|_| *self.node.disk.borrow() == DiskState::Ok);
            return if alone { Some(Duration::ZERO) } else { acked };
        }
        let applied = *self.node.shared.applied().borrow();
        self.node.heard().age(self.node.env.clock.now(), applied)
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.node.shared.applied()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.node.leadership.clone()
    }

    async fn describe(&self) -> Vec<ReplicaInfo> {
        let node = &self.node;
        let asked = node.members().into_iter().map(|member| async move {
            if member.id == node.id() {
                let answer = node.describe().await;
                return info(&member, Some(answer));
            }
            let request = DescribeRequest { sender: Some(node.member.sender()) };
            let described =
                node.peers.call((member.id, &member.address), DESCRIBE_TIMEOUT, |mut peer| async move {
                    peer.describe(request).await
                });
            info(&member, described.await.ok())
        });
        join_all(asked).await
    }

    fn outline(&self) -> String {
        let node = &self.node;
        let now = node.env.clock.now();
        let metrics = node.metrics();
        let mut lines = BTreeMap::new();
        for member in node.members() {
            let line = if member.id == node.id() {
                let disk = match *node.disk.borrow() {
                    DiskState::Ok => String::new(),
                    DiskState::Full { free_bytes } => format!(", its disk is full ({free_bytes} bytes free)"),
                };
                format!("this one, a {} of term {}{disk}", node.role(&metrics), metrics.current_term)
            } else {
                let contact = node.peers.contact(member.id);
                match (contact.answered, contact.error) {
                    (Some(at), None) => format!("answered {} ms ago", millis(now - at)),
                    (Some(at), Some(error)) => format!("last answered {} ms ago ({error})", millis(now - at)),
                    (None, Some(error)) => format!("has not answered ({error})"),
                    (None, None) => "was not asked yet".to_owned(),
                }
            };
            lines.insert(member.id, format!("replica {} at {}: {line}", member.id, member.address));
        }
        lines.into_values().collect::<Vec<_>>().join("; ")
    }

    fn replicas(&self) -> Option<&dyn Replicas> {
        Some(self)
    }

    fn fatal(&self) -> watch::Receiver<Option<Fatal>> {
        self.node.fatal.subscribe()
    }

    async fn shutdown(&self) {
        let others = self.node.others().into_iter().any(|member| member.is_voter);
        if others && self.node.leadership.borrow().serves() {
            match replicas::transfer(&self.node, None).await {
                Ok(next) => tracing::info!(leader = ?next.leader, "leadership was handed over"),
                Err(error) => tracing::warn!(%error, "leadership was not handed over"),
            }
        }
        self.node.stopping.store(true, Ordering::Relaxed);
        match timeout(SHUTDOWN_TIMEOUT, self.node.raft.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the replicated log did not stop cleanly"),
            Err(_) => tracing::warn!("the replicated log did not stop within {SHUTDOWN_TIMEOUT:?}"),
        }
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
