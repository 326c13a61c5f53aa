//! `ClusterService`: operating the set of scheduler replicas, and letting executors go. Whatever is asked, the leader does.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, stream};
use polybolos_consensus::{Replicas, ReplicasError};
use polybolos_model::{ExecutorId, ReplicaId};
use polybolos_proto::v1::{
    AddReplicaRequest, AddReplicaResponse, BackupPiece, BackupRequest, DrainExecutorRequest,
    DrainExecutorResponse, RemoveReplicaRequest, RemoveReplicaResponse, TransferLeadershipRequest,
    TransferLeadershipResponse, cluster_service_server::ClusterService,
};
use polybolos_state::{Command, limits::MAX_ADDRESS_BYTES};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use super::is_address;
use crate::{
    error::{ClusterError, RequestError},
    shared::Shared,
};

/// A new replica fetches the whole state. The caller may have less time; a server ends a call whose deadline is over.
const ADD_DEADLINE: Duration = Duration::from_secs(600);
const REMOVE_DEADLINE: Duration = Duration::from_secs(60);
const TRANSFER_DEADLINE: Duration = Duration::from_secs(30);
/// Until the first piece is there.
const BACKUP_DEADLINE: Duration = Duration::from_secs(120);
const BACKUP_PIECE_BYTES: usize = 1024 * 1024;

type Answer<T> = Result<Response<T>, Status>;

pub(crate) struct ClusterRpc {
    shared: Arc<Shared>,
}

impl ClusterRpc {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Does `work` with the replicas of the leader that this one is.
    async fn operate<'a, T, W>(
        &'a self,
        deadline: Duration,
        work: impl FnOnce(&'a dyn Replicas) -> W,
    ) -> Result<T, ClusterError>
    where
        W: Future<Output = Result<T, ReplicasError>>,
    {
        self.shared.require_leader()?;
        let replicas = self.shared.log.replicas().ok_or(ClusterError::OneForGood)?;
        let ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let done = timeout(deadline, work(replicas)).await.map_err(|_| ClusterError::Deadline { ms })?;
        done.map_err(|error| match error {
            ReplicasError::NotLeader { leader: Some((_, leader)) } => {
                RequestError::NotLeader { leader }.into()
            }
            ReplicasError::NotLeader { leader: None } => self.shared.not_serving().into(),
            error => ClusterError::Replicas(error),
        })
    }
}

#[tonic::async_trait]
impl ClusterService for ClusterRpc {
    type BackupStream = Pin<Box<dyn Stream<Item = Result<BackupPiece, Status>> + Send>>;

    async fn add_replica(&self, request: Request<AddReplicaRequest>) -> Answer<AddReplicaResponse> {
        let AddReplicaRequest { id, address } = request.into_inner();
        let id = replica_id(id)?;
        check_address(&address)?;
        tracing::info!(replica = %id, %address, "adding a replica");
        self.operate(ADD_DEADLINE, |replicas| replicas.add(id, address)).await?;
        Ok(Response::new(AddReplicaResponse {}))
    }

    async fn remove_replica(&self, request: Request<RemoveReplicaRequest>) -> Answer<RemoveReplicaResponse> {
        let id = replica_id(request.into_inner().id)?;
        tracing::info!(replica = %id, "removing a replica");
        self.operate(REMOVE_DEADLINE, |replicas| replicas.remove(id)).await?;
        Ok(Response::new(RemoveReplicaResponse {}))
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Answer<TransferLeadershipResponse> {
        let to = Some(request.into_inner().to).filter(|to| *to > 0).map(ReplicaId);
        tracing::info!(?to, "handing leadership over");
        let moved = self.operate(TRANSFER_DEADLINE, |replicas| replicas.transfer(to)).await?;
        let leader = moved.leader.map_or(0, |(id, _)| id.0);
        Ok(Response::new(TransferLeadershipResponse { leader, term: moved.term.0 }))
    }

    async fn backup(&self, _: Request<BackupRequest>) -> Answer<Self::BackupStream> {
        let backup = self.operate(BACKUP_DEADLINE, |replicas| replicas.backup()).await?;
        Ok(Response::new(Box::pin(stream::iter(pieces(Bytes::from(backup)).map(Ok)))))
    }

    async fn drain_executor(&self, request: Request<DrainExecutorRequest>) -> Answer<DrainExecutorResponse> {
        let DrainExecutorRequest { executor_id, deadline_ms } = request.into_inner();
        let executor = ExecutorId::new(executor_id.as_str());
        let executor = executor.map_err(|_| ClusterError::NoExecutor { executor: executor_id })?;
        self.shared.require_leader()?;
        tracing::info!(%executor, deadline_ms, "an executor is asked to leave");
        let (version, known) = self.shared.read(|state| {
            let known = state.executor(&executor).filter(|known| known.is_present());
            (state.version(), known.map(|known| known.incarnation))
        });
        let incarnation = known.ok_or_else(|| ClusterError::NoExecutor { executor: executor.to_string() })?;
        let command = Command::BeginDrain { executor, incarnation, deadline_ms };
        if version < command.needs_version() {
            return Err(ClusterError::TooOld { version, needs: command.needs_version() }.into());
        }
        // One that has begun another life meanwhile is found by asking again.
        self.shared.request(command).await?;
        Ok(Response::new(DrainExecutorResponse { incarnation: incarnation.0 }))
    }
}

/// Each shares the memory of the whole.
fn pieces(backup: Bytes) -> impl Iterator<Item = BackupPiece> {
    let starts = (0..backup.len()).step_by(BACKUP_PIECE_BYTES);
    starts.map(move |start| BackupPiece {
        data: backup.slice(start..(start + BACKUP_PIECE_BYTES).min(backup.len())),
    })
}

fn replica_id(id: u64) -> Result<ReplicaId, ClusterError> {
    if id == 0 { Err(ClusterError::NoId) } else { Ok(ReplicaId(id)) }
}

fn check_address(address: &str) -> Result<(), ClusterError> {
    if is_address(address) {
        return Ok(());
    }
    Err(ClusterError::Address { address: address.chars().take(MAX_ADDRESS_BYTES).collect() })
}
