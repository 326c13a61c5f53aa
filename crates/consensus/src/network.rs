//! The network between replicas, as openraft wants it: one RPC each, with a deadline of ours.
//!
//! openraft 0.9.25 ends a replication task whose peer answers with a higher vote, and only then tells its core. A core
//! that asks the ended task for a snapshot before it reads that takes its closed channel for a broken store and stops
//! for good. So no replication task gets to see a higher vote: the core hears of it as of a candidate's request, and the
//! task of a peer that gives no answer now.

use std::{sync::Arc, time::Duration};

use openraft::{
    BasicNode, RaftNetwork, RaftNetworkFactory, SnapshotSegmentId, Vote,
    error::{
        InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, SnapshotMismatch, Unreachable,
    },
    network::{Backoff, RPCOption},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
        VoteRequest, VoteResponse,
    },
};
use polybolos_model::ReplicaId;
use polybolos_proto::v1::{Sender, snapshot_chunk_response};
use prost::Message;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    member::Member,
    peers::{PeerError, Peers},
    raft::TypeConfig,
    wire,
};

/// An append may take this long, and as much again for each [`BYTES_A_SECOND`] that it carries. The receiver answers
/// when it is on its disk.
const APPEND_DEADLINE: Duration = Duration::from_secs(1);
const BYTES_A_SECOND: usize = 4 * 1024 * 1024;
const VOTE_DEADLINE: Duration = Duration::from_millis(300);
/// The last chunk is answered when the receiver has installed the whole snapshot.
pub(crate) const CHUNK_DEADLINE: Duration = Duration::from_secs(30);
/// How long a replica that can't be reached is left alone.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(100);
/// How long a deposed leader's task waits for its core to step down; the core may be waiting for the disk.
const DEPOSE_TIMEOUT: Duration = Duration::from_millis(200);
/// Higher votes on their way to the core. What finds no room is answered again.
const HIGHER_VOTES: usize = 8;

/// A vote above this replica's, that another one answered with.
#[derive(Debug)]
pub(crate) struct HigherVote {
    pub(crate) vote: Vote<u64>,
    /// Told when the core has heard of it.
    pub(crate) heard: oneshot::Sender<()>,
}

#[derive(Debug, thiserror::Error)]
#[error("replica {by} knows a higher vote, {vote}: this one does not lead any more")]
struct Deposed {
    by: ReplicaId,
    vote: Vote<u64>,
}

/// Makes connections to members.
pub(crate) struct Network {
    member: Arc<Member>,
    peers: Arc<Peers>,
    higher: mpsc::Sender<HigherVote>,
}

impl Network {
    /// Also gives where the higher votes come out: [`crate::driver::step_down`] hands them to the core.
    pub(crate) fn new(member: Arc<Member>, peers: Arc<Peers>) -> (Self, mpsc::Receiver<HigherVote>) {
        let (higher, votes) = mpsc::channel(HIGHER_VOTES);
        (Self { member, peers, higher }, votes)
    }
}

/// The way to one other replica.
pub(crate) struct Peer {
    member: Arc<Member>,
    peers: Arc<Peers>,
    target: u64,
    node: BasicNode,
    higher: mpsc::Sender<HigherVote>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        let (member, peers) = (Arc::clone(&self.member), Arc::clone(&self.peers));
        Peer { member, peers, target, node: node.clone(), higher: self.higher.clone() }
    }
}

type Rpc<R, E> = Result<R, RPCError<u64, BasicNode, E>>;

impl Peer {
    fn to(&self) -> (ReplicaId, &str) {
        (ReplicaId(self.target), &self.node.addr)
    }

    fn sender(&self) -> Sender {
        self.member.sender()
    }

    /// See the module.
    async fn deposed<E: std::error::Error>(&self, vote: Vote<u64>) -> RPCError<u64, BasicNode, E> {
        let (heard, told) = oneshot::channel();
        if self.higher.try_send(HigherVote { vote, heard }).is_ok() {
            let _heard_or_later = timeout(DEPOSE_TIMEOUT, told).await;
        }
        RPCError::Unreachable(Unreachable::new(&Deposed { by: ReplicaId(self.target), vote }))
    }

    fn malformed<E: std::error::Error>(error: &polybolos_proto::ConvertError) -> RPCError<u64, BasicNode, E> {
        RPCError::Unreachable(Unreachable::new(error))
    }
}

/// openraft pauses only after `Unreachable`: whatever fails at once must be that, or it is tried again without end.
fn failed<E: std::error::Error>(error: &PeerError) -> RPCError<u64, BasicNode, E> {
    match error {
        PeerError::Connect { .. } | PeerError::Status { .. } => {
            RPCError::Unreachable(Unreachable::new(error))
        }
        PeerError::Deadline { .. } => RPCError::Network(NetworkError::new(error)),
    }
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Rpc<AppendEntriesResponse<u64>, RaftError<u64>> {
        let request = wire::append(self.sender(), rpc);
        let seconds = u32::try_from(request.encoded_len() / BYTES_A_SECOND).unwrap_or(u32::MAX);
        let deadline = APPEND_DEADLINE.saturating_add(Duration::from_secs(1).saturating_mul(seconds));
        let answer =
            self.peers.call(self.to(), deadline, |mut peer| async move { peer.append(request).await }).await;
        let appended = wire::from_appended(answer.map_err(|error| failed(&error))?);
        match appended.map_err(|error| Self::malformed(&error))? {
            AppendEntriesResponse::HigherVote(vote) => Err(self.deposed(vote).await),
            appended => Ok(appended),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        _: RPCOption,
    ) -> Rpc<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>> {
        let got = SnapshotSegmentId { id: rpc.meta.snapshot_id.clone(), offset: rpc.offset };
        let mine = rpc.vote;
        let request = wire::chunk(self.sender(), rpc);
        let sent = self
            .peers
            .call(self.to(), CHUNK_DEADLINE, |mut peer| async move { peer.install_snapshot(request).await });
        match sent.await.map_err(|error| failed(&error))?.outcome {
            Some(snapshot_chunk_response::Outcome::Vote(vote)) => {
                let vote = wire::from_vote(Some(vote)).map_err(|error| Self::malformed(&error))?;
                if vote > mine { Err(self.deposed(vote).await) } else { Ok(InstallSnapshotResponse { vote }) }
            }
            // What it expects instead is not used: the sender begins again.
            Some(snapshot_chunk_response::Outcome::Mismatch(_)) | None => {
                let expect = SnapshotSegmentId { id: got.id.clone(), offset: 0 };
                let mismatch = InstallSnapshotError::SnapshotMismatch(SnapshotMismatch { expect, got });
                Err(RPCError::RemoteError(RemoteError::new(self.target, RaftError::APIError(mismatch))))
            }
        }
    }

    async fn vote(&mut self, rpc: VoteRequest<u64>, _: RPCOption) -> Rpc<VoteResponse<u64>, RaftError<u64>> {
        let request = wire::vote_request(self.sender(), &rpc);
        let sent =
            self.peers.call(self.to(), VOTE_DEADLINE, |mut peer| async move { peer.vote(request).await });
        let answer = sent.await.map_err(|error| failed(&error))?;
        wire::from_voted(answer).map_err(|error| Self::malformed(&error))
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}
