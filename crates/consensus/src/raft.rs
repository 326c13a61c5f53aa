//! openraft's types, chosen once.

use std::io::Cursor;

use polybolos_state::Applied;
use serde::{Deserialize, Serialize};

use crate::runtime::EnvRuntime;

/// An encoded [`polybolos_state::Entry`]. Encoded once, by the leader; decoded where it is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proposal(pub(crate) Vec<u8>);

/// What applying an entry gave; `None` for openraft's own entries, which carry no commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply(pub(crate) Option<Applied>);

openraft::declare_raft_types!(
    pub(crate) TypeConfig:
        D = Proposal,
        R = Reply,
        NodeId = u64,
        Node = openraft::BasicNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        Responder = openraft::impls::OneshotResponder<TypeConfig>,
        AsyncRuntime = EnvRuntime,
);

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type Metrics = openraft::RaftMetrics<u64, openraft::BasicNode>;
