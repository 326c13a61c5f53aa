//! What a leader keeps in order by itself: the cluster's name, the register of replicas, the version in use.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use polybolos_model::ReplicaId;
use polybolos_proto::v1::{AdmitRequest, admit_response::Outcome};
use polybolos_state::{Applied, ClusterState, Command, Entry, Rejection, policy};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::Status;

use crate::{Leadership, ProposeError, node::Node, open, replica, store::identity::Identity};

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(200);
/// How long a replica waits for the leader to enter it.
const ADMIT_DEADLINE: Duration = Duration::from_secs(6);
/// How often a replica whose register entry is out of date tells the leader, beside each time that it hears of another one.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(200);

/// Runs on every replica; acts while it leads, at once when it begins to: until then nothing of a newer version can be
/// said, and a new cluster has no name.
pub(crate) async fn keep_order(node: Arc<Node>) {
    let mut leadership = node.leadership.clone();
    loop {
        changed_within(&mut leadership, INTERVAL).await;
        bring_in_order(&node).await;
    }
}

/// Waits for a change, but no longer than `interval`.
async fn changed_within(leadership: &mut watch::Receiver<Leadership>, interval: Duration) {
    if let Ok(Err(_)) = timeout(interval, leadership.changed()).await {
        // The replica stops.
        sleep(interval).await;
    }
}

/// One commit may make the next one due: a replica's entry, the raise of the version.
async fn bring_in_order(node: &Arc<Node>) {
    while node.leadership.borrow().serves() {
        let fresh_id = || format!("{:016x}{:016x}", node.env.random.next_u64(), node.env.random.next_u64());
        let members: BTreeSet<ReplicaId> = node.members().into_iter().map(|member| member.id).collect();
        let commands = node.shared.read_with(|state| due(state, node, &members, fresh_id));
        if commands.is_empty() {
            return;
        }
        match propose(node, commands).await {
            Ok(applied) if applied.outcomes.iter().all(Result::is_ok) => {}
            Ok(applied) => {
                tracing::debug!(?applied, "a part of the replicas' register was refused; it is tried again");
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "the replicas' register was not brought up to date; it is tried again");
                return;
            }
        }
    }
}

/// What is missing in `state`.
fn due(
    state: &ClusterState,
    node: &Node,
    members: &BTreeSet<ReplicaId>,
    fresh_id: impl Fn() -> String,
) -> Vec<Command> {
    let mut commands = Vec::new();
    if state.cluster_id().is_empty() {
        commands.push(Command::FoundCluster { cluster_id: fresh_id() });
    }
    let me = &node.member;
    let known = state.replica(me.id);
    if !known.is_some_and(|record| record.folder == me.folder && record.version == me.version) {
        let (replica, folder, version) = (me.id, me.folder, me.version);
        commands.push(Command::RegisterReplica { replica, folder, version });
    }
    commands.extend(policy::upgrade(state, members));
    commands
}

/// Proposes commands of the replica set's own.
pub(crate) async fn propose(node: &Arc<Node>, commands: Vec<Command>) -> Result<Applied, ProposeError> {
    let term = node.leadership.borrow().term;
    let wall_ms = node.env.clock.wall_ms();
    let (version, at_ms) = node.shared.read_with(|state| {
        // The run loop keeps the state's time. Only what comes before its first word of a term must bring a time along.
        (state.version(), if state.term() == term { state.now_ms() } else { wall_ms })
    });
    let entry = Entry::new(version, term, at_ms, commands);
    Ok(replica::propose(node, entry).await?.applied)
}

/// Enters a replica under its id, if this one leads.
///
/// # Errors
/// It is not known whether the replica was entered: it asks again.
pub(crate) async fn admit(
    node: &Arc<Node>,
    replica: ReplicaId,
    folder: u64,
    version: u16,
) -> Result<Outcome, Status> {
    let leadership = node.leadership.borrow().clone();
    if !leadership.serves() {
        let leader = leadership.leader.filter(|(id, _)| *id != node.id());
        return Ok(Outcome::Leader(leader.map(|(_, address)| address).unwrap_or_default()));
    }
    let (is_retired, in_use) = node.shared.read_with(|state| (state.is_retired(replica), state.version()));
    if is_retired {
        return Ok(Outcome::Refused(format!(
            "replica {replica} was removed from this cluster, and its id is never used again: start with another --id \
             and an empty --data-dir, and enter it by `polybolos cluster add`"
        )));
    }
    if !node.members().iter().any(|member| member.id == replica) {
        return Ok(Outcome::NotAMember(true));
    }
    if version < in_use {
        return Ok(Outcome::Refused(format!(
            "the cluster uses version {in_use} of entries, and replica {replica} speaks only up to {version}: start a \
             newer version of Polybolos, or one that is held back less"
        )));
    }
    let applied = propose(node, vec![Command::RegisterReplica { replica, folder, version }]).await;
    let applied = applied.map_err(|error| Status::unavailable(error.to_string()))?;
    match applied.outcomes.into_iter().next() {
        Some(Err(Rejection::ReplicaFolder { .. })) => {
            return Ok(Outcome::Refused(format!(
                "replica {replica} of this cluster has another data folder: if that one is lost, remove the replica \
                 (`polybolos cluster remove --id {replica}`), and start one with another --id and an empty --data-dir"
            )));
        }
        Some(Err(rejection @ (Rejection::ReplicaRetired { .. } | Rejection::ReplicaTooOld { .. }))) => {
            return Ok(Outcome::Refused(rejection.to_string()));
        }
        // It may be admitted when it asks again: by a leader of a newer term, above all.
        Some(Err(rejection)) => return Err(Status::unavailable(rejection.to_string())),
        Some(Ok(_)) | None => {}
    }
    bring_in_order(node).await;
    match node.shared.read_with(|state| state.cluster_id().to_owned()) {
        id if id.is_empty() => Err(Status::unavailable("the cluster has no name yet: ask again")),
        id => Ok(Outcome::ClusterId(id)),
    }
}

/// Asks the replica at `address` to enter this one.
pub(crate) async fn ask_admission(node: &Node, (id, address): (ReplicaId, &str)) -> Option<Outcome> {
    let request = AdmitRequest {
        sender: Some(node.member.sender()),
        address: node.member.address.clone(),
        folder: node.member.folder,
    };
    let asked =
        node.peers.call((id, address), ADMIT_DEADLINE, |mut peer| async move { peer.admit(request).await });
    match asked.await {
        Ok(answer) => answer.outcome,
        Err(error) => {
            tracing::debug!(%error, "not entered yet");
            None
        }
    }
}

/// Tells the leader what this replica is, whenever the register says something else: after an upgrade, above all.
pub(crate) async fn announce(node: Arc<Node>) {
    let mut leadership = node.leadership.clone();
    loop {
        changed_within(&mut leadership, ANNOUNCE_INTERVAL).await;
        let me = &node.member;
        let is_known = node.shared.read_with(|state| {
            let known = state.replica(me.id);
            known.is_some_and(|record| record.folder == me.folder && record.version == me.version)
        });
        let leader = node.leadership.borrow().leader.clone().filter(|(id, _)| *id != me.id);
        let Some((id, address)) = leader.filter(|_| !is_known && me.is_admitted()) else { continue };
        match ask_admission(&node, (id, &address)).await {
            Some(Outcome::Refused(reason)) => return node.refuse(reason),
            Some(Outcome::ClusterId(_) | Outcome::Leader(_) | Outcome::NotAMember(_)) | None => {}
        }
    }
}

/// Writes the cluster's name into the data folder once it is known, so that no other cluster's messages are taken.
pub(crate) async fn remember_cluster(node: Arc<Node>, identity: Identity) {
    let mut applied = node.shared.applied();
    loop {
        let named = node.shared.read_with(|state| state.cluster_id().to_owned());
        if !named.is_empty() {
            let identity = Identity { cluster_id: named.clone(), ..identity };
            if let Err(error) = open::write_identity(node.kv.as_ref(), &identity).await {
                tracing::error!(%error, "the cluster's id could not be kept");
            }
            return node.member.set_cluster_id(&named);
        }
        if applied.changed().await.is_err() {
            return;
        }
    }
}
