//! openraft's types as we store them, so that its own layout may change without ours.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{BasicNode, CommittedLeaderId, LogId, Membership, StoredMembership};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredLogId {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

impl From<LogId<u64>> for StoredLogId {
    fn from(id: LogId<u64>) -> Self {
        Self { term: id.leader_id.term, index: id.index }
    }
}

impl From<StoredLogId> for LogId<u64> {
    fn from(id: StoredLogId) -> Self {
        // One leader a term, so openraft keeps no node id here.
        Self::new(CommittedLeaderId::new(id.term, 0), id.index)
    }
}

/// A membership: voters (two sets of them while it changes) and the address of every member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredMembers {
    pub(crate) voters: Vec<BTreeSet<u64>>,
    pub(crate) addresses: BTreeMap<u64, String>,
}

impl From<&Membership<u64, BasicNode>> for StoredMembers {
    fn from(membership: &Membership<u64, BasicNode>) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            addresses: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        }
    }
}

impl From<StoredMembers> for Membership<u64, BasicNode> {
    fn from(members: StoredMembers) -> Self {
        let nodes = members.addresses.into_iter().map(|(id, addr)| (id, BasicNode { addr }));
        Self::new(members.voters, nodes.collect::<BTreeMap<_, _>>())
    }
}

/// A membership and the entry that brought it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredMembersAt {
    pub(crate) log_id: Option<StoredLogId>,
    pub(crate) members: StoredMembers,
}

impl From<&StoredMembership<u64, BasicNode>> for StoredMembersAt {
    fn from(stored: &StoredMembership<u64, BasicNode>) -> Self {
        Self { log_id: stored.log_id().map(Into::into), members: stored.membership().into() }
    }
}

impl From<StoredMembersAt> for StoredMembership<u64, BasicNode> {
    fn from(stored: StoredMembersAt) -> Self {
        Self::new(stored.log_id.map(Into::into), stored.members.into())
    }
}
