//! Who this replica is, and whose messages it takes.

use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use polybolos_model::ReplicaId;
use polybolos_proto::v1::Sender;
use tonic::Status;

/// What other replicas are told with each message, and what becomes known of the cluster.
pub(crate) struct Member {
    pub(crate) id: ReplicaId,
    pub(crate) address: String,
    /// Drawn when the data folder was made: the same id with another folder is another replica.
    pub(crate) folder: u64,
    /// Highest version of entries that it says it can apply.
    pub(crate) version: u16,
    /// Empty until it is known.
    cluster_id: RwLock<String>,
    /// It takes part: it votes, appends and campaigns.
    admitted: AtomicBool,
    refused: AtomicU64,
}

impl Member {
    pub(crate) fn new(id: ReplicaId, address: &str, folder: u64, version: u16, cluster_id: String) -> Self {
        Self {
            id,
            address: address.to_owned(),
            folder,
            version,
            cluster_id: RwLock::new(cluster_id),
            admitted: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        }
    }

    pub(crate) fn cluster_id(&self) -> String {
        self.cluster_id.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_cluster_id(&self, id: &str) {
        *self.cluster_id.write().unwrap_or_else(PoisonError::into_inner) = id.to_owned();
    }

    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    pub(crate) fn admit(&self) {
        self.admitted.store(true, Ordering::Release);
    }

    /// Messages that were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn count_refusal(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sender(&self) -> Sender {
        Sender { cluster_id: self.cluster_id(), replica: self.id.0, version: self.version.into() }
    }

    /// Who sends, if it is of this cluster. A replica of a cluster that is just being formed may not know its id yet.
    pub(crate) fn check(&self, sender: Option<&Sender>) -> Result<ReplicaId, Status> {
        let sender = sender.ok_or_else(|| Status::invalid_argument("the message lacks 'sender'"))?;
        let ours = self.cluster_id();
        if ours.is_empty() || sender.cluster_id.is_empty() || ours == sender.cluster_id {
            return Ok(ReplicaId(sender.replica));
        }
        self.count_refusal();
        let (theirs, replica, me) = (&sender.cluster_id, sender.replica, self.id);
        Err(Status::failed_precondition(format!(
            "replica {me} is of cluster {ours}, and replica {replica} of cluster {theirs}"
        )))
    }

    /// Who sends, if it is of this cluster and this replica takes part in it.
    pub(crate) fn check_admitted(&self, sender: Option<&Sender>) -> Result<ReplicaId, Status> {
        let replica = self.check(sender)?;
        if self.is_admitted() {
            return Ok(replica);
        }
        Err(Status::unavailable(format!("replica {} is not part of a cluster yet", self.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_another_cluster_are_refused_and_counted() {
        let member = Member::new(ReplicaId(1), "h:1", 7, 2, String::new());
        let from = |cluster: &str| Sender { cluster_id: cluster.to_owned(), replica: 2, version: 1 };
        assert_eq!(member.check(Some(&from("a"))).unwrap(), ReplicaId(2));
        assert!(member.check_admitted(Some(&from("a"))).is_err());
        member.admit();
        assert!(member.check_admitted(Some(&from("a"))).is_ok());
        member.set_cluster_id("b");
        let refusal = member.check(Some(&from("a"))).unwrap_err();
        assert!(refusal.message().contains("of cluster b"), "{refusal}");
        assert!(member.check(Some(&from(""))).is_ok() && member.check(Some(&from("b"))).is_ok());
        assert!(member.check(None).is_err());
        assert_eq!(member.refused(), 1);
        assert_eq!(member.sender().cluster_id, "b");
    }
}
