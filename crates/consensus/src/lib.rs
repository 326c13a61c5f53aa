//! The replicated log: openraft over sled, behind one trait.
//!
//! ```text
//!   scheduler ──▶ Log ──┬─▶ Replica ──▶ openraft ──┬─▶ LogStore ─┐
//!                       │                          └─▶ Machine ──┼─▶ store (records) ─▶ Kv ─▶ sled + fsync
//!                       └─▶ in_memory                  (state,   ┘
//!                                                      snapshots)
//! ```
//!
//! No other room knows openraft or sled. Deliberately absent: decisions (`state` has them), the run loop
//! (`scheduler`), and, until replication, other replicas: `open` refuses a cluster of more than one.
//!
//! A commit costs one fsync. A replica whose store fails a check refuses to start, and one whose log fails while it
//! runs says so by [`Log::fatal`], upon which its process must exit.

mod api;
mod codec;
mod kv;
mod leadership;
mod log_store;
mod machine;
mod memory;
mod network;
mod open;
mod open_error;
mod raft;
mod replica;
mod runtime;
mod store;
#[cfg(test)]
mod tests;

pub use api::{
    Committed, Fatal, Leadership, Log, MAX_ENTRY_BYTES, PROPOSE_TIMEOUT, ProposeError, ReplicaConfig,
    read_with,
};
pub use memory::in_memory;
pub use open::open;
pub use open_error::OpenError;
