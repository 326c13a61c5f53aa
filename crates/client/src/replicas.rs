//! Operating the set of scheduler replicas, and letting executors go.

use std::{future::Future, time::Duration};

use polybolos_model::{ExecutorId, Incarnation, ReplicaId, Term, limits::MAX_MESSAGE_BYTES};
use polybolos_proto::v1::{self, cluster_service_client::ClusterServiceClient};
use tonic::{Response, Status, Streaming, transport::Channel};

use crate::{
    Client, ClientError,
    call::{Call, Shared},
    limits::MAX_BACKUP_BYTES,
};

/// How often leadership is handed over until the replica that was named has it.
const TRANSFER_ROUNDS: u32 = 3;

type Cluster = ClusterServiceClient<Channel>;

impl Client {
    /// Enters a replica, which should run already, waits until it has caught up, and makes it a voter. Repeating it is
    /// safe.
    ///
    /// # Errors
    /// [`ClientError::Refused`] says why not, [`ClientError::Unreachable`], [`ClientError::NoQuorum`],
    /// [`ClientError::Deadline`].
    pub async fn add_replica(&self, id: ReplicaId, address: impl Into<String>) -> Result<(), ClientError> {
        let request = v1::AddReplicaRequest { id: id.0, address: address.into() };
        let call = Call::transfer("adding the replica", true);
        let answer = self.shared.operate(call, |mut cluster| {
            let request = request.clone();
            async move { cluster.add_replica(request).await }
        });
        answer.await.map(|_| ())
    }

    /// Takes a replica out for good: its id is never used again. A leader hands over first. Repeating it is safe.
    ///
    /// # Errors
    /// As [`Client::add_replica`].
    pub async fn remove_replica(&self, id: ReplicaId) -> Result<(), ClientError> {
        let request = v1::RemoveReplicaRequest { id: id.0 };
        let answer = self.shared.operate(Call::replicas("removing the replica"), |mut cluster| async move {
            cluster.remove_replica(request).await
        });
        answer.await.map(|_| ())
    }

    /// Hands leadership to `to`, or to the voter that is furthest, and tells who leads then and in which term. Another replica
    /// may be elected before `to`: that one is asked to hand over in its turn, up to twice, and named if it leads in the end.
    ///
    /// # Errors
    /// As [`Client::add_replica`].
    pub async fn transfer_leadership(&self, to: Option<ReplicaId>) -> Result<(ReplicaId, Term), ClientError> {
        let request = v1::TransferLeadershipRequest { to: to.map_or(0, |id| id.0) };
        let mut rounds_left = TRANSFER_ROUNDS;
        loop {
            let call = Call::replicas("the transfer of leadership");
            let answer = self
                .shared
                .operate(call, |mut cluster| async move { cluster.transfer_leadership(request).await })
                .await?;
            let leader = ReplicaId(answer.leader);
            rounds_left -= 1;
            if rounds_left == 0 || to.is_none_or(|to| to == leader) {
                return Ok((leader, Term(answer.term)));
            }
        }
    }

    /// Asks an executor to leave: its tasks may run for `deadline`, and its outputs go to other executors. Returns once that
    /// is committed, with the life of the executor that leaves; `status` tells how far it is. Repeating it is safe.
    ///
    /// # Errors
    /// As [`Client::add_replica`].
    pub async fn drain_executor(
        &self,
        executor: &ExecutorId,
        deadline: Duration,
    ) -> Result<Incarnation, ClientError> {
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let request = v1::DrainExecutorRequest { executor_id: executor.to_string(), deadline_ms };
        let answer = self.shared.operate(Call::replicas("the drain"), |mut cluster| {
            let request = request.clone();
            async move { cluster.drain_executor(request).await }
        });
        Ok(Incarnation(answer.await?.incarnation))
    }

    /// The whole state as of now, as the content of a backup file.
    ///
    /// # Errors
    /// As [`Client::add_replica`]; [`ClientError::TooLarge`] beyond [`MAX_BACKUP_BYTES`].
    pub async fn backup(&self) -> Result<Vec<u8>, ClientError> {
        let answer = self.shared.operate(Call::transfer("the backup", false), |mut cluster| async move {
            let pieces = cluster.backup(v1::BackupRequest {}).await?.into_inner();
            collect(pieces).await.map(Response::new)
        });
        answer.await
    }
}

async fn collect(mut pieces: Streaming<v1::BackupPiece>) -> Result<Vec<u8>, Status> {
    let mut backup = Vec::new();
    while let Some(piece) = pieces.message().await? {
        if backup.len() + piece.data.len() > MAX_BACKUP_BYTES {
            return Err(Status::out_of_range(format!("the backup is larger than {MAX_BACKUP_BYTES} bytes")));
        }
        backup.extend_from_slice(&piece.data);
    }
    Ok(backup)
}

impl Shared {
    async fn operate<R, F, S>(&self, call: Call, send: S) -> Result<R, ClientError>
    where
        S: Fn(Cluster) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let answer = self.call_at(call, |channel| {
            let cluster = ClusterServiceClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES);
            send(cluster)
        });
        answer.await.map(|(answer, _)| answer)
    }
}
