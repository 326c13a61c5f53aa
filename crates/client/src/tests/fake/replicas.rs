//! The fake scheduler's service for operators.

use futures::{StreamExt, stream};
use polybolos_proto::v1::{self, cluster_service_server::ClusterService};
use tonic::{Request, Response, Status, async_trait};

use super::{Boxed, Scheduler};

/// What its backup holds.
pub(in crate::tests) const BACKUP: &[u8] = b"the whole state";

impl Scheduler {
    fn operate(&self, what: String) -> Result<(), Status> {
        self.note(what);
        let operations = &mut self.script.lock().unwrap().operations;
        let next = if operations.len() > 1 { operations.pop_front() } else { operations.front().cloned() };
        next.unwrap_or(Ok(()))
    }
}

#[async_trait]
impl ClusterService for Scheduler {
    async fn add_replica(
        &self,
        request: Request<v1::AddReplicaRequest>,
    ) -> Result<Response<v1::AddReplicaResponse>, Status> {
        let request = request.into_inner();
        self.operate(format!("add {} at {}", request.id, request.address))?;
        Ok(Response::new(v1::AddReplicaResponse {}))
    }

    async fn remove_replica(
        &self,
        request: Request<v1::RemoveReplicaRequest>,
    ) -> Result<Response<v1::RemoveReplicaResponse>, Status> {
        self.operate(format!("remove {}", request.into_inner().id))?;
        Ok(Response::new(v1::RemoveReplicaResponse {}))
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        let to = request.into_inner().to;
        self.operate(format!("transfer to {to}"))?;
        let leader = self.script.lock().unwrap().elected.pop_front().unwrap_or(to);
        Ok(Response::new(v1::TransferLeadershipResponse { leader, term: 9 }))
    }

    async fn drain_executor(
        &self,
        request: Request<v1::DrainExecutorRequest>,
    ) -> Result<Response<v1::DrainExecutorResponse>, Status> {
        let v1::DrainExecutorRequest { executor_id, deadline_ms } = request.into_inner();
        self.operate(format!("drain {executor_id} within {deadline_ms} ms"))?;
        Ok(Response::new(v1::DrainExecutorResponse { incarnation: 3 }))
    }

    type BackupStream = Boxed<v1::BackupPiece>;

    async fn backup(&self, _: Request<v1::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        // Each script of an operation but `Ok` breaks the stream after its first piece.
        let end = self.operate("backup".to_owned()).err();
        let pieces = BACKUP.chunks(4).map(|data| Ok(v1::BackupPiece { data: data.into() }));
        let kept = if end.is_some() { 1 } else { usize::MAX };
        let pieces: Vec<Result<v1::BackupPiece, Status>> = pieces.take(kept).chain(end.map(Err)).collect();
        Ok(Response::new(stream::iter(pieces).boxed()))
    }
}
