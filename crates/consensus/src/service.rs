//! What other replicas ask of this one.

use std::sync::Arc;

use openraft::{
    error::{Fatal, InstallSnapshotError, RaftError},
    raft::{AppendEntriesRequest, AppendEntriesResponse},
};
use polybolos_model::ReplicaId;
use polybolos_proto::v1::{
    AdmitRequest, AdmitResponse, AppendRequest, AppendResponse, DescribeRequest, DescribeResponse,
    PreVoteRequest, PreVoteResponse, Sender, SnapshotChunk, SnapshotChunkResponse, TakeOverRequest,
    TakeOverResponse, VoteRequest, VoteResponse,
    replica_service_server::{ReplicaService, ReplicaServiceServer},
    snapshot_chunk_response,
};
use tonic::{Request, Response, Status};

use crate::{
    heard::Asked, node::Node, peers::MAX_REPLICA_MESSAGE_BYTES, raft::TypeConfig, runtime, steward, wire,
};

/// The service that the other replicas call; to be served at the replica's address.
pub type ReplicaServer = ReplicaServiceServer<ReplicaRpc>;

/// See [`ReplicaServer`].
pub struct ReplicaRpc(Arc<Node>);

pub(crate) fn server(node: Arc<Node>) -> ReplicaServer {
    ReplicaServiceServer::new(ReplicaRpc(node))
        .max_decoding_message_size(MAX_REPLICA_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_REPLICA_MESSAGE_BYTES)
}

fn stopped(fatal: &Fatal<u64>) -> Status {
    Status::unavailable(format!("the replica's log has stopped: {fatal}"))
}

fn failed(error: &RaftError<u64>) -> Status {
    match error {
        RaftError::Fatal(fatal) => stopped(fatal),
        RaftError::APIError(never) => match *never {},
    }
}

type Answer<T> = Result<Response<T>, Status>;

impl ReplicaRpc {
    /// A leader of no older term than this replica's was heard.
    fn heard(&self, leader: ReplicaId, term: u64, committed: Option<u64>) {
        let node = &self.0;
        if term < node.raft.metrics().borrow().current_term {
            polybolos_model::sometimes!("a deposed leader appended");
            // The answer tells it of the higher term; a deposed leader is nobody to wait for.
            node.member.count_refusal();
            return;
        }
        let (applied, now) = (*node.shared.applied().borrow(), node.env.clock.now());
        match committed {
            Some(committed) => node.heard().leader(leader, now, committed, applied),
            None => node.heard().sign(leader, now),
        }
    }
}

impl ReplicaRpc {
    /// Who sends, if it takes part in this cluster together with this replica. Whoever does not know the cluster's name yet
    /// must be one of its members, as those are who form it: a stranger's term would unseat every leader.
    fn check_member(&self, sender: Option<&Sender>) -> Result<ReplicaId, Status> {
        let node = &self.0;
        let replica = node.member.check_admitted(sender)?;
        let is_named = sender.is_some_and(|sender| !sender.cluster_id.is_empty());
        if is_named
            || node.member.cluster_id().is_empty()
            || node.members().iter().any(|known| known.id == replica)
        {
            return Ok(replica);
        }
        node.member.count_refusal();
        Err(Status::failed_precondition(format!(
            "replica {replica} names no cluster and is no member of this one"
        )))
    }
}

impl ReplicaRpc {
    /// openraft's queue has no bound, and its core waits while the disk is full: each append keeps its permit until it is
    /// answered, also when its leader has given it up and sends it again.
    async fn append_bounded(
        &self,
        append: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<u64>, Status> {
        let permit = Arc::clone(&self.0.appends).try_acquire_owned();
        let permit =
            permit.map_err(|_| Status::unavailable("this replica has not taken the last appends yet"))?;
        let node = Arc::clone(&self.0);
        let appended = tokio::spawn(async move {
            let appended = runtime::within(&node.env, node.raft.append_entries(append)).await;
            drop(permit);
            appended
        });
        match appended.await {
            Ok(appended) => appended.map_err(|error| failed(&error)),
            Err(_) => Err(Status::unavailable("this replica is stopping")),
        }
    }
}

#[tonic::async_trait]
impl ReplicaService for ReplicaRpc {
    async fn append(&self, request: Request<AppendRequest>) -> Answer<AppendResponse> {
        let request = request.into_inner();
        let leader = self.check_member(request.sender.as_ref())?;
        let mut append = wire::from_append(request)?;
        if polybolos_model::mutant!("ignore-term") {
            let known = self.0.raft.metrics().borrow().vote;
            let is_stale = known.committed && append.vote.leader_id.term < known.leader_id.term;
            append.vote = if is_stale { known } else { append.vote };
        }
        let (term, committed) = (append.vote.leader_id.term, append.leader_commit.map(|id| id.index));
        self.heard(leader, term, committed);
        let appended = self.append_bounded(append).await?;
        // Once more: the disk may have taken longer than the lease, and the leader waited for it.
        if appended.is_success() {
            self.heard(leader, term, committed);
        }
        Ok(Response::new(wire::appended(appended)))
    }

    async fn vote(&self, request: Request<VoteRequest>) -> Answer<VoteResponse> {
        let request = request.into_inner();
        let candidate = self.check_member(request.sender.as_ref())?;
        let mut vote = wire::from_vote_request(request)?;
        let claim = (vote.last_log_id, candidate);
        if polybolos_model::mutant!("vote-ignores-log") {
            vote.last_log_id = vote.last_log_id.max(self.0.last_log_id().await.unwrap_or_default());
        }
        let voted = runtime::within(&self.0.env, self.0.raft.vote(vote)).await;
        let voted = voted.map_err(|error| failed(&error))?;
        polybolos_model::sometimes!("a vote was refused", !voted.vote_granted);
        if voted.vote_granted {
            self.0.heard().voted(claim, self.0.env.clock.now());
        }
        Ok(Response::new(wire::voted(&voted)))
    }

    async fn install_snapshot(&self, request: Request<SnapshotChunk>) -> Answer<SnapshotChunkResponse> {
        let chunk = request.into_inner();
        let leader = self.check_member(chunk.sender.as_ref())?;
        if crc32fast::hash(&chunk.data) != chunk.crc {
            let at = chunk.offset;
            return Err(Status::data_loss(format!("the snapshot's chunk at {at} fails its checksum")));
        }
        let chunk = wire::from_chunk(chunk)?;
        self.heard(leader, chunk.vote.leader_id.term, None);
        let installed = runtime::within(&self.0.env, self.0.raft.install_snapshot(chunk)).await;
        let outcome = match installed {
            Ok(installed) => snapshot_chunk_response::Outcome::Vote(wire::vote(&installed.vote)),
            Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(_))) => {
                snapshot_chunk_response::Outcome::Mismatch(true)
            }
            Err(RaftError::Fatal(fatal)) => return Err(stopped(&fatal)),
        };
        Ok(Response::new(SnapshotChunkResponse { outcome: Some(outcome) }))
    }

    async fn pre_vote(&self, request: Request<PreVoteRequest>) -> Answer<PreVoteResponse> {
        let request = request.into_inner();
        let node = &self.0;
        let candidate = self.check_member(request.sender.as_ref())?;
        let last = node.last_log_id().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let asked = Asked {
            me: node.id(),
            last,
            leads: node.leads_surely(),
            knows_candidate: node.members().iter().any(|known| known.id == candidate && known.is_voter),
        };
        let now = node.env.clock.now();
        let claim = (request.last.map(wire::from_log_id), candidate);
        let (consent, leader) = {
            let mut heard = node.heard();
            (heard.consent(claim, asked, &node.timing, now), heard.leader_within(node.timing.lease, now))
        };
        polybolos_model::sometimes!("consent to a campaign was refused", consent.is_err());
        let leader = if asked.leads { Some(node.id()) } else { leader };
        let term = node.raft.metrics().borrow().current_term;
        Ok(Response::new(PreVoteResponse {
            granted: consent.is_ok(),
            reason: consent.err().map(|refusal| refusal.to_string()).unwrap_or_default(),
            term,
            leader: leader.map_or(0, |id| id.0),
        }))
    }

    async fn take_over(&self, request: Request<TakeOverRequest>) -> Answer<TakeOverResponse> {
        let request = request.into_inner();
        let node = &self.0;
        let leader = self.check_member(request.sender.as_ref())?;
        let (term, known) = {
            let metrics = node.raft.metrics();
            let metrics = metrics.borrow();
            (metrics.current_term, metrics.current_leader)
        };
        if request.term != term || known != Some(leader.0) {
            node.member.count_refusal();
            return Err(Status::failed_precondition(format!(
                "replica {leader} does not lead term {term}, so it can't give way"
            )));
        }
        node.take_over.notify_one();
        Ok(Response::new(TakeOverResponse {}))
    }

    /// Also for replicas of other clusters: they learn so that they are.
    async fn describe(&self, request: Request<DescribeRequest>) -> Answer<DescribeResponse> {
        let asks = request.into_inner().sender.map(|sender| ReplicaId(sender.replica));
        let sender_removed = asks.is_some_and(|id| self.0.shared.read_with(|state| state.is_retired(id)));
        Ok(Response::new(DescribeResponse { sender_removed, ..self.0.describe().await }))
    }

    async fn admit(&self, request: Request<AdmitRequest>) -> Answer<AdmitResponse> {
        let request = request.into_inner();
        let replica = self.0.member.check_admitted(request.sender.as_ref())?;
        let version = request.sender.as_ref().map_or(0, |sender| sender.version);
        let version = u16::try_from(version).unwrap_or(u16::MAX);
        let outcome = steward::admit(&self.0, replica, request.folder, version).await?;
        Ok(Response::new(AdmitResponse { outcome: Some(outcome) }))
    }
}
