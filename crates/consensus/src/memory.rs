//! A log in one process's memory, for the embedded cluster and for tests. It ends with its process.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use polybolos_model::{ReplicaId, Term};
use polybolos_state::{ClusterState, Command, ENTRY_VERSION, Entry};
use tokio::sync::watch;

use crate::{Committed, ConfirmError, Fatal, Leadership, Log, ProposeError, ReplicaInfo, Replicas, Role};

/// The only term of a log that has one leader in all its life.
const TERM: Term = Term(1);

struct MemoryLog {
    id: ReplicaId,
    address: String,
    state: RwLock<ClusterState>,
    applied: watch::Sender<u64>,
    leadership: watch::Sender<Leadership>,
    fatal: watch::Sender<Option<Fatal>>,
}

/// A log that leads from the start, in term 1, and speaks the newest version: nobody else has to know it.
pub fn in_memory(id: ReplicaId, address: String, cluster_id: String) -> Arc<dyn Log> {
    let mut state = ClusterState::new(cluster_id);
    let register = Command::RegisterReplica { replica: id, folder: 0, version: ENTRY_VERSION };
    let raise = Command::RaiseVersion { to: ENTRY_VERSION };
    state.apply(&Entry::new(state.version(), Term(0), 0, vec![register, raise]));
    let leader = Some((id, address.clone()));
    let leadership = Leadership { term: TERM, leader, is_self: true, has_quorum: true };
    Arc::new(MemoryLog {
        id,
        address,
        state: RwLock::new(state),
        applied: watch::Sender::new(0),
        leadership: watch::Sender::new(leadership),
        fatal: watch::Sender::new(None),
    })
}

#[async_trait]
impl Log for MemoryLog {
    async fn propose(&self, entry: Entry) -> Result<Committed, ProposeError> {
        // Both change under this lock, so that the index and the state agree.
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if !self.leadership.borrow().is_self {
            return Err(ProposeError::NotLeader { leader: None });
        }
        let applied = state.apply(&entry);
        let mut index = 0;
        self.applied.send_modify(|last| {
            *last += 1;
            index = *last;
        });
        Ok(Committed { index, applied })
    }

    fn read(&self, f: &mut dyn FnMut(&ClusterState)) {
        f(&self.state.read().unwrap_or_else(PoisonError::into_inner));
    }

    async fn confirm(&self) -> Result<(), ConfirmError> {
        if self.leadership.borrow().is_self { Ok(()) } else { Err(ConfirmError::NotLeader { leader: None }) }
    }

    fn age(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    async fn describe(&self) -> Vec<ReplicaInfo> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let index = *self.applied.borrow();
        vec![ReplicaInfo {
            id: self.id,
            address: self.address.clone(),
            role: Role::Leader,
            is_voter: true,
            term: TERM,
            last_log_index: index,
            committed_index: index,
            applied_index: index,
            state_hash: state.hash(),
            version: ENTRY_VERSION,
            ..ReplicaInfo::default()
        }]
    }

    fn outline(&self) -> String {
        format!("replica {} at {}: it has no others", self.id, self.address)
    }

    fn replicas(&self) -> Option<&dyn Replicas> {
        None
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn fatal(&self) -> watch::Receiver<Option<Fatal>> {
        self.fatal.subscribe()
    }

    async fn shutdown(&self) {
        let _state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.leadership.send_replace(Leadership { term: TERM, ..Leadership::default() });
    }
}
