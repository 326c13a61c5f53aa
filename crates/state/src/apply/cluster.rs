//! The cluster itself: its name, its scheduler replicas, the version in use, and restarts by hand.

use polybolos_model::{ExecutorId, ReplicaId};

use super::Outcome;
use crate::{
    Change, ClusterState, Effects, Rejection, ReplicaRecord,
    limits::{MAX_CLUSTER_ID_BYTES, MAX_HISTORY, MAX_NOTE_BYTES, MAX_REPLICAS},
    replicas::Replicas,
};

impl ClusterState {
    pub(crate) fn found(&mut self, cluster_id: &str) -> Outcome {
        check_name(cluster_id)?;
        if self.cluster_id == cluster_id {
            return Ok(Change::Unchanged);
        }
        if !self.cluster_id.is_empty() {
            return Err(Rejection::ClusterNamed { present: self.cluster_id.clone() });
        }
        cluster_id.clone_into(&mut self.cluster_id);
        Ok(Change::ClusterFounded)
    }

    /// A known id stays with its folder; only the version that the replica can apply may change, and never to less
    /// than what is in use.
    pub(crate) fn register_replica(&mut self, replica: ReplicaId, new: ReplicaRecord) -> Outcome {
        match self.replicas.known.get(&replica) {
            Some(known) if *known == new => return Ok(Change::Unchanged),
            Some(known) if known.folder != new.folder => {
                return Err(Rejection::ReplicaFolder { replica, known: known.folder });
            }
            Some(_) => {}
            None if self.replicas.is_retired(replica) => return Err(Rejection::ReplicaRetired { replica }),
            None if self.replicas.known.len() >= MAX_REPLICAS => return Err(Rejection::TooManyReplicas),
            None => {}
        }
        if new.version < self.version {
            let (version, in_use) = (new.version, self.version);
            return Err(Rejection::ReplicaTooOld { replica, version, in_use });
        }
        self.replicas.known.insert(replica, new);
        Ok(Change::ReplicaRegistered { replica })
    }

    /// Also an id that never registered, so that it never will.
    pub(crate) fn retire_replica(&mut self, replica: ReplicaId) -> Change {
        if self.replicas.is_retired(replica) {
            return Change::Unchanged;
        }
        self.replicas.retire(replica);
        Change::ReplicaRetired { replica }
    }

    /// What this program itself can apply is no reason here, since replicas of different programs must come to the
    /// same answer: the records say what each can. A program that finds a higher version in use than its own stops.
    pub(crate) fn raise_version(&mut self, to: u16) -> Outcome {
        if to <= self.version {
            return Ok(Change::Unchanged);
        }
        let (replica, version) = self.replicas.lowest().ok_or(Rejection::NoReplicas { to })?;
        if version < to {
            return Err(Rejection::VersionTooNew { to, replica, version });
        }
        self.version = to;
        Ok(Change::VersionRaised { to })
    }

    /// Under a new name the old cluster's replicas mean nothing, and its executors may still work for it. Under the
    /// old one the other replicas may hold entries that are given up, so none of their ids may come back.
    pub(crate) fn restart(&mut self, cluster_id: Option<&str>, replica: ReplicaId, note: &str) -> Outcome {
        cluster_id.map_or(Ok(()), check_name)?;
        let renamed = cluster_id.filter(|id| *id != self.cluster_id);
        let effects = match renamed {
            Some(cluster_id) => {
                cluster_id.clone_into(&mut self.cluster_id);
                self.replicas = Replicas::default();
                // Durable outputs are kept under the old name, and may be in use there.
                self.extension.v3.durable.clear();
                self.let_go_of_writes();
                self.lose_all("the cluster was restored from a backup")
            }
            None => {
                let others: Vec<ReplicaId> =
                    self.replicas.known.keys().copied().filter(|id| *id != replica).collect();
                others.into_iter().for_each(|id| self.replicas.retire(id));
                Effects::default()
            }
        };
        if self.history.len() >= MAX_HISTORY {
            self.history.remove(0);
        }
        self.history.push((self.now_ms, cut(note).to_owned()));
        Ok(Change::ClusterRestarted { effects })
    }

    /// Every present executor at once, so that each job is repaired once.
    fn lose_all(&mut self, why: &str) -> Effects {
        let present: Vec<ExecutorId> =
            self.executors().filter(|e| e.is_present()).map(|e| e.id.clone()).collect();
        for id in &present {
            self.mark_lost(id, why);
        }
        self.lose_outputs(why)
    }
}

fn check_name(cluster_id: &str) -> Result<(), Rejection> {
    match cluster_id.len() {
        1..=MAX_CLUSTER_ID_BYTES => Ok(()),
        bytes => Err(Rejection::BadClusterId { bytes }),
    }
}

fn cut(note: &str) -> &str {
    note.get(..note.floor_char_boundary(MAX_NOTE_BYTES)).unwrap_or(note)
}
