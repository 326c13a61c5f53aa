//! One scheduler replica: it plans statements, and while it leads it commits what happens and runs the cluster by it.
//!
//! ```text
//!   client ──▶ rpc ──▶ front (plans) ──┐
//!                                      ▼
//!   executor ─▶ rpc::attach ─▶ inputs ─▶ run_loop ─▶ policy::decide ─▶ log
//!       ▲                                 │
//!       └──── executors (streams) ◀─ launch, effects ◀─ what was applied
//! ```
//!
//! Every replica answers; all but the leader answer with who leads, unless a request allows a stale read, or allows any
//! replica to plan: then it is served through the leader (`rpc::anywhere`). What a new leader needs it derives from the state and from what the executors tell it when they attach.
//!
//! Deliberately absent: decisions (`polybolos-state` makes them, purely), durable state outside the log, and data: a
//! result goes from an executor to the client without passing here, but for a small one, which comes with the word that it
//! is there (`rows`).

mod config;
mod drains;
mod effects;
mod error;
mod executors;
mod front;
mod handle;
mod input;
mod launch;
mod leader;
mod probe;
mod publish;
mod rows;
mod rpc;
mod run_loop;
mod settle;
mod shared;
mod standing;
mod to_leader;

pub use config::{LogKind, SchedulerConfig};
pub use error::StartError;
pub use handle::{Scheduler, SchedulerHandle};
pub use polybolos_consensus::{Snapshots, Store, Timing};
pub use polybolos_state::{
    Job,
    policy::{FairShare, Patience, PatienceError, Rank, SchedulingPolicy},
};
