//! Linearizable reads: a majority confirms the leader, in rounds that calls at the same time share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use openraft::{
    ServerState,
    error::{CheckIsLeaderError, RaftError},
};
use polybolos_model::ReplicaId;
use tokio::{sync::Mutex, time::timeout};

use crate::{ConfirmError, node::Node, replicas::leader_elsewhere, runtime};

/// How long a majority may take to confirm.
const TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Confirmer {
    node: Arc<Node>,
    /// Number of the last round that began.
    begun: AtomicU64,
    /// Number of the last round that succeeded. Held while a round is under way.
    succeeded: Mutex<u64>,
}

impl Confirmer {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node, begun: AtomicU64::new(0), succeeded: Mutex::new(0) }
    }

    /// See [`crate::Log::confirm`].
    pub(crate) async fn confirm(&self) -> Result<(), ConfirmError> {
        let waited_ms = u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        timeout(TIMEOUT, self.round()).await.unwrap_or(Err(ConfirmError::NoQuorum { waited_ms }))
    }

    async fn round(&self) -> Result<(), ConfirmError> {
        // Only a round that begins from now on tells of everything committed until now.
        let needed = self.begun.load(Ordering::Acquire) + 1;
        // While leadership is handed over, asking would hold the others to this leader.
        let mut silent = self.node.silent.subscribe();
        if silent.wait_for(|silent| !silent).await.is_err() {
            return Err(ConfirmError::Stopped { reason: "the replica is gone".to_owned() });
        }
        let mut succeeded = self.succeeded.lock().await;
        if *succeeded >= needed {
            return Ok(());
        }
        let round = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        runtime::within(&self.node.env, self.node.raft.ensure_linearizable())
            .await
            .map_err(|error| self.failed(error))?;
        *succeeded = round;
        Ok(())
    }

    fn failed(&self, error: RaftError<u64, CheckIsLeaderError<u64, openraft::BasicNode>>) -> ConfirmError {
        match error {
            RaftError::Fatal(fatal) => ConfirmError::Stopped { reason: fatal.to_string() },
            RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward)) => {
                let address = forward.leader_node.map(|node| node.addr).unwrap_or_default();
                let leader = forward.leader_id.filter(|id| *id != self.node.id().0);
                ConfirmError::NotLeader { leader: leader.map(|id| (ReplicaId(id), address)) }
            }
            // Somebody answered with a higher vote, and this replica has stepped down meanwhile.
            RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))
                if self.node.raft.metrics().borrow().state != ServerState::Leader =>
            {
                ConfirmError::NotLeader { leader: leader_elsewhere(&self.node) }
            }
            RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)) => {
                let waited_ms = u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX);
                ConfirmError::NoQuorum { waited_ms }
            }
        }
    }
}
