//! Scheduler replicas as the cluster knows them: which folder an id is bound to, and what each can apply.
//!
//! Deliberately absent: who votes and where each is. That is Raft's membership.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::ReplicaId;
use serde::{Deserialize, Serialize};

use crate::limits::MAX_RETIRED_REPLICAS;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRecord {
    /// The draw of its data folder. The same id with another one has lost what it promised.
    pub folder: u64,
    /// Highest version of entries that it can apply.
    pub version: u16,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replicas {
    pub(crate) known: BTreeMap<ReplicaId, ReplicaRecord>,
    pub(crate) retired: BTreeSet<ReplicaId>,
    /// The highest id that `retired` had no room for: up to it every id that is not known is retired.
    pub(crate) forgotten: Option<ReplicaId>,
}

impl Replicas {
    pub(crate) fn is_retired(&self, id: ReplicaId) -> bool {
        let is_forgotten = self.forgotten.is_some_and(|last| id <= last);
        self.retired.contains(&id) || (is_forgotten && !self.known.contains_key(&id))
    }

    pub(crate) fn retire(&mut self, id: ReplicaId) {
        self.known.remove(&id);
        self.retired.insert(id);
        if self.retired.len() > MAX_RETIRED_REPLICAS {
            self.forgotten = self.forgotten.max(self.retired.pop_first());
        }
    }

    /// The lowest version that any of them can apply, and by whom; `None` without any.
    pub(crate) fn lowest(&self) -> Option<(ReplicaId, u16)> {
        let versions = self.known.iter().map(|(id, record)| (*id, record.version));
        versions.min_by_key(|(_, version)| *version)
    }
}
