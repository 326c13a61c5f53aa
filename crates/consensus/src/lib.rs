//! The replicated log: openraft over sled, behind one trait.
//!
//! ```text
//!   scheduler ──▶ Log ──┬─▶ Replica ──▶ openraft ──┬─▶ LogStore ─┐
//!                       │      ▲                   ├─▶ Machine ──┼─▶ store (records) ─▶ Kv ─▶ sled + fsync, or a journal
//!                       │      │                   │  (state,    ┘
//!                       │      │                   │   snapshots)
//!                       │      │                   └─▶ Network ─▶ Peers ─▶ other replicas' ReplicaServer
//!                       │   joining · driver (heartbeats, election) · steward (register, version) · replicas
//!                       └─▶ in_memory
//! ```
//!
//! No other room knows openraft or sled. Deliberately absent: decisions about jobs (`state` has them) and the run loop
//! (`scheduler`).
//!
//! - **Elections** are our own: a timer drawn anew for each campaign, and consent of a majority before it (`heard`).
//! - **Joining**: a replica with a new folder takes part only when it forms the cluster with others that are all as new,
//!   or when the leader has entered its folder under its id.
//! - **Durability**: a commit is on the disks of a majority. A replica whose store fails a check refuses to start, and
//!   one whose log fails while it runs says so by [`Log::fatal`], upon which its process must exit. A full disk is no
//!   failure: writes wait.

mod api;
mod backup;
mod codec;
mod completions;
mod confirm;
mod driver;
mod election;
mod heard;
mod joining;
mod kv;
mod leadership;
mod log_store;
mod machine;
mod member;
mod memory;
mod network;
mod node;
mod offline;
mod open;
mod open_error;
mod peers;
mod raft;
mod replica;
mod replicas;
mod runtime;
mod service;
mod steward;
mod store;
#[cfg(test)]
mod tests;
mod wire;

pub use api::{
    Committed, ConfirmError, DESCRIBE_TIMEOUT, DiskState, Fatal, Leadership, Log, MAX_ENTRY_BYTES,
    PROPOSE_TIMEOUT, ProposeError, ReplicaConfig, ReplicaInfo, Replicas, ReplicasError, Role, Snapshots,
    Store, Timing, read_with,
};
pub use backup::BackupError;
pub use memory::in_memory;
pub use offline::{OfflineError, Recovered, RestoreTarget, Restored, recover, restore};
pub use open::{Opened, open};
pub use open_error::OpenError;
pub use service::{ReplicaRpc, ReplicaServer};
