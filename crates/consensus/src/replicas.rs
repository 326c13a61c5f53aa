//! Changing the set of replicas: learners first, one change at a time, leadership handed over before its holder leaves.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use openraft::{
    BasicNode, ChangeMembers,
    error::{ChangeMembershipError, ClientWriteError, RaftError},
};
use polybolos_model::ReplicaId;
use polybolos_proto::v1::TakeOverRequest;
use polybolos_state::Command;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    ConfirmError, Leadership, Log as _, ProposeError, Replicas, ReplicasError,
    backup::{self, Header},
    machine::on_cpu,
    node::{Address, Node},
    replica::Replica,
    runtime, steward,
};

/// How long a new replica may take to start, be entered and catch up.
pub(crate) const ADD_TIMEOUT: Duration = Duration::from_secs(600);
/// How long one change of the membership may take to be committed.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long leadership may take to move: the lease, an election, and one more in case it was split.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the successor may take to have the whole log.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);
const TAKE_OVER_DEADLINE: Duration = Duration::from_millis(500);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A learner this close to the end of the log holds up no commit when it becomes a voter.
const CLOSE_ENTRIES: u64 = 100;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn leader_elsewhere(node: &Node) -> Option<(ReplicaId, String)> {
    let leader = node.leadership.borrow().leader.clone();
    leader.filter(|(id, _)| *id != node.id())
}

fn require_leader(node: &Node) -> Result<(), ReplicasError> {
    let leads = node.leadership.borrow().is_self;
    if leads { Ok(()) } else { Err(ReplicasError::NotLeader { leader: leader_elsewhere(node) }) }
}

fn member(node: &Node, id: ReplicaId) -> Option<Address> {
    node.members().into_iter().find(|member| member.id == id)
}

/// Two sets of voters are in force, because the membership is being changed.
fn is_joint(node: &Node) -> bool {
    node.raft.metrics().borrow().membership_config.membership().get_joint_config().len() > 1
}

async fn change(node: &Node, change: ChangeMembers<u64, BasicNode>) -> Result<(), ReplicasError> {
    let changed = runtime::within(&node.env, node.raft.change_membership(change, false));
    match timeout(CHANGE_TIMEOUT, changed).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::Fatal(fatal))) => Err(ReplicasError::Stopped { reason: fatal.to_string() }),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
            Err(ReplicasError::NotLeader { leader: leader_elsewhere(node) })
        }
        Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => Err(match error {
            ChangeMembershipError::InProgress(_) => ReplicasError::UnderWay,
            error @ (ChangeMembershipError::EmptyMembership(_)
            | ChangeMembershipError::LearnerNotFound(_)) => {
                ReplicasError::Refused { reason: error.to_string() }
            }
        }),
        Err(_) => Err(ReplicasError::Unknown { waited_ms: millis(CHANGE_TIMEOUT) }),
    }
}

async fn commit(node: &Arc<Node>, command: Command) -> Result<(), ReplicasError> {
    let applied = steward::propose(node, vec![command]).await.map_err(|error| match error {
        ProposeError::NotLeader { leader } => ReplicasError::NotLeader { leader },
        ProposeError::Unknown { waited_ms } => ReplicasError::Unknown { waited_ms },
        ProposeError::Stopped { reason } => ReplicasError::Stopped { reason },
        error @ (ProposeError::TooLarge { .. } | ProposeError::Refused { .. }) => {
            ReplicasError::Refused { reason: error.to_string() }
        }
    })?;
    match applied.outcomes.into_iter().next() {
        Some(Err(rejection)) => Err(ReplicasError::Refused { reason: rejection.to_string() }),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// How far a learner is, in words, unless it is close enough.
fn behind(node: &Node, id: ReplicaId) -> Option<String> {
    if !node.shared.read_with(|state| state.replica(id).is_some()) {
        return Some("it has not come forward yet".to_owned());
    }
    let metrics = node.metrics();
    let last = metrics.last_log_index.unwrap_or_default();
    let matched = metrics.replication.and_then(|all| all.get(&id.0).copied().flatten());
    match matched {
        Some(matched) if matched.index.saturating_add(CLOSE_ENTRIES) >= last => None,
        Some(matched) => Some(format!("it has entries up to {} of {last}", matched.index)),
        None => Some("it has no entries yet".to_owned()),
    }
}

async fn add(node: &Arc<Node>, id: ReplicaId, address: String) -> Result<(), ReplicasError> {
    require_leader(node)?;
    if node.shared.read_with(|state| state.is_retired(id)) {
        return Err(ReplicasError::Retired { id });
    }
    match member(node, id) {
        Some(known) if known.address != address => {
            return Err(ReplicasError::OtherAddress { id, address: known.address });
        }
        // A change that was cut off between its two steps is carried to its end below.
        Some(known) if known.is_voter && !is_joint(node) => return Ok(()),
        Some(_) => {}
        None => {
            let learner = BasicNode { addr: address.clone() };
            change(node, ChangeMembers::AddNodes([(id.0, learner)].into())).await?;
            tracing::info!(replica = %id, address, "a learner");
        }
    }
    let mut waited = Duration::ZERO;
    while let Some(state) = behind(node, id) {
        require_leader(node)?;
        if waited >= ADD_TIMEOUT {
            return Err(ReplicasError::NotCaughtUp { id, address, waited_ms: millis(waited), state });
        }
        sleep(LOOK_INTERVAL).await;
        waited += LOOK_INTERVAL;
    }
    polybolos_model::failpoint!("membership.learner_caught_up");
    change(node, ChangeMembers::AddVoterIds(BTreeSet::from([id.0]))).await?;
    polybolos_model::sometimes!("a replica was added");
    tracing::info!(replica = %id, "a voter");
    Ok(())
}

async fn remove(node: &Arc<Node>, id: ReplicaId) -> Result<(), ReplicasError> {
    require_leader(node)?;
    let voters = node.members().into_iter().filter(|member| member.is_voter).count();
    match member(node, id) {
        Some(member) if member.is_voter && voters == 1 => return Err(ReplicasError::LastVoter { id }),
        Some(_) if id == node.id() => {
            let next = transfer(node, None).await?;
            return Err(ReplicasError::NotLeader { leader: next.leader });
        }
        Some(member) if member.is_voter => {
            change(node, ChangeMembers::RemoveVoters(BTreeSet::from([id.0]))).await?;
        }
        Some(_) => change(node, ChangeMembers::RemoveNodes(BTreeSet::from([id.0]))).await?,
        None => {
            let (retired, known) =
                node.shared.read_with(|state| (state.is_retired(id), state.replica(id).is_some()));
            match (retired, known) {
                (true, _) => return Ok(()),
                // A removal that was cut off in the middle.
                (false, true) => {}
                (false, false) => return Err(ReplicasError::NotAMember { id }),
            }
        }
    }
    polybolos_model::failpoint!("membership.before_retired");
    commit(node, Command::RetireReplica { replica: id }).await?;
    polybolos_model::sometimes!("a replica was removed");
    tracing::info!(replica = %id, "removed");
    Ok(())
}

/// Silence ends when this is dropped, however the transfer went.
struct Silence<'a>(&'a watch::Sender<bool>);

impl<'a> Silence<'a> {
    fn begin(silent: &'a watch::Sender<bool>) -> Option<Self> {
        silent.send_if_modified(|silent| !std::mem::replace(silent, true)).then_some(Self(silent))
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

/// See [`Replicas::transfer`]. openraft 0.9 has no such thing: the leader proposes and says nothing more, so that its
/// lease runs out, and its successor campaigns before anybody else thinks of it.
pub(crate) async fn transfer(node: &Arc<Node>, to: Option<ReplicaId>) -> Result<Leadership, ReplicasError> {
    require_leader(node)?;
    if to == Some(node.id()) {
        return Ok(node.leadership.borrow().clone());
    }
    let _silence = Silence::begin(&node.silent).ok_or(ReplicasError::UnderWay)?;
    let successor = successor(node, to).await?;
    tracing::info!(to = %successor.id, "handing leadership over");
    let request = TakeOverRequest {
        sender: Some(node.member.sender()),
        term: node.raft.metrics().borrow().current_term,
    };
    let asked =
        node.peers.call((successor.id, &successor.address), TAKE_OVER_DEADLINE, |mut peer| async move {
            peer.take_over(request).await
        });
    let began = node.env.clock.now();
    let not_moved = || ReplicasError::NotMoved {
        waited_ms: millis(node.env.clock.now() - began),
        leader: node.leadership.borrow().leader.clone(),
    };
    if let Err(error) = asked.await {
        tracing::warn!(%error, "the successor was not told");
        return Err(not_moved());
    }
    let mut leadership = node.leadership.clone();
    let me = node.id();
    let moved = leadership.wait_for(|now| now.leader.as_ref().is_some_and(|(id, _)| *id != me));
    match timeout(TRANSFER_TIMEOUT, moved).await {
        Ok(Ok(now)) => {
            polybolos_model::sometimes!("leadership was handed over");
            Ok(now.clone())
        }
        Ok(Err(_)) => Err(ReplicasError::Stopped { reason: "the replica is gone".to_owned() }),
        Err(_) => Err(not_moved()),
    }
}

/// Whom to hand over to, once it has the whole log.
async fn successor(node: &Node, to: Option<ReplicaId>) -> Result<Address, ReplicasError> {
    if let Some(id) = to {
        let known = member(node, id).ok_or(ReplicasError::NotAMember { id })?;
        if !known.is_voter {
            return Err(ReplicasError::NotAVoter { id });
        }
    }
    let mut waited = Duration::ZERO;
    loop {
        require_leader(node)?;
        let metrics = node.metrics();
        let last = metrics.last_log_index;
        let replication = metrics.replication.unwrap_or_default();
        let matched = |id: ReplicaId| replication.get(&id.0).copied().flatten().map(|id| id.index);
        let has_all = |member: &&Address| {
            member.is_voter && to.is_none_or(|to| to == member.id) && matched(member.id) >= last
        };
        if let Some(ready) = node.others().iter().find(has_all) {
            return Ok(ready.clone());
        }
        if waited >= CATCH_UP_TIMEOUT {
            let leader = node.leadership.borrow().leader.clone();
            return Err(ReplicasError::NotMoved { waited_ms: millis(waited), leader });
        }
        sleep(LOOK_INTERVAL).await;
        waited += LOOK_INTERVAL;
    }
}

#[async_trait]
impl Replicas for Replica {
    async fn add(&self, id: ReplicaId, address: String) -> Result<(), ReplicasError> {
        add(self.node(), id, address).await
    }

    async fn remove(&self, id: ReplicaId) -> Result<(), ReplicasError> {
        remove(self.node(), id).await
    }

    async fn transfer(&self, to: Option<ReplicaId>) -> Result<Leadership, ReplicasError> {
        transfer(self.node(), to).await
    }

    async fn backup(&self) -> Result<Vec<u8>, ReplicasError> {
        self.confirm().await.map_err(|error| match error {
            ConfirmError::NotLeader { leader } => ReplicasError::NotLeader { leader },
            ConfirmError::NoQuorum { waited_ms } => ReplicasError::Unknown { waited_ms },
            ConfirmError::Stopped { reason } => ReplicasError::Stopped { reason },
        })?;
        let node = self.node();
        let (last, state) = node.shared.copy();
        if state.cluster_id().is_empty() {
            let reason = "the cluster is being founded: try again in a moment".to_owned();
            return Err(ReplicasError::Refused { reason });
        }
        let header = Header {
            cluster_id: state.cluster_id().to_owned(),
            term: last.map_or(0, |id| id.leader_id.term),
            index: last.map_or(0, |id| id.index),
            version: state.version(),
        };
        let encoded = on_cpu(&node.env, move || state.encode().map(|state| backup::encode(&header, &state)));
        match encoded.await {
            Ok(Ok(Ok(bytes))) => Ok(bytes),
            Ok(Ok(Err(error))) => Err(ReplicasError::Refused { reason: error.to_string() }),
            Ok(Err(error)) => Err(ReplicasError::Refused { reason: error.to_string() }),
            Err(error) => Err(ReplicasError::Stopped { reason: error.to_string() }),
        }
    }
}
