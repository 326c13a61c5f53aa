//! The replicated state machine: jobs, stages, tasks, executors and the catalogue as one value.
//!
//! ```text
//!   events ─▶ policy::decide ─▶ Entry ─▶ (log) ─▶ ClusterState::apply ─▶ Applied ─▶ effects of the leader
//!                  ▲                                     │
//!                  └────────────── state ◀───────────────┤
//!                                                        ├─▶ Dispatcher::plan ─▶ launches (off the log)
//!                                                        └─▶ pending(), accessors
//! ```
//!
//! `apply` is total and pure: no IO, clock, randomness or hash-map order. A bad command is answered with a
//! [`Rejection`] and changes nothing. Replicas that applied the same entries have equal [`ClusterState::hash`].
//!
//! What may be in the log is versioned: [`ClusterState::version`] is in use, [`ENTRY_VERSION`] is the newest that this
//! program knows, and [`policy::upgrade`] raises the one to the other once every replica can follow.
//!
//! Deliberately absent: async code, the wire, DataFusion, the log itself, and running attempts. Those are the
//! leader's volatile memory, the [`Dispatcher`], which a new leader fills anew from what executors report.

mod ahead;
mod apply;
mod catalogue;
mod change;
mod codec;
mod command;
mod dispatch;
mod drain;
mod entry;
mod executor;
mod extension;
pub mod invariants;
mod job;
mod leader_clock;
pub mod limits;
mod pending;
pub mod policy;
mod recorded;
mod rejection;
mod replicas;
mod state;
mod story;
mod timeline;
mod write;

pub use ahead::{Ahead, is_foreseeable, submitted};
pub use apply::{LossCost, StageRisk, Supposed, loss_preview};
pub use catalogue::{Catalogue, Relation, RelationKind, RelationName, TableDef};
pub use change::{Applied, Change, Effects, LostWork};
pub use codec::{CodecError, ENTRY_FORMAT, SNAPSHOT_FORMAT};
pub use command::{Beat, Command, LoggedBeat};
pub use dispatch::{
    Adoption, CancelTarget, Dispatcher, DrainSteps, Launch, Pull, Reported, Running, Wait, Waits,
};
pub use drain::{Drain, MovedOutput};
pub use entry::{ENTRY_VERSION, Entry, FIRST_VERSION};
pub use executor::{Executor, ExecutorState, Loss, Usage};
pub use job::{Fate, Job, JobError, JobStatus, PastAttempt, StageRun, TaskDone, TaskRun};
pub use leader_clock::LeaderClock;
pub use pending::{Pending, Runnable};
pub use rejection::Rejection;
pub use replicas::ReplicaRecord;
pub use state::{ClusterState, MapLocation, ResultLocation};
pub use story::{FleetMember, StoryEvent, StoryLine, Toll};
pub use timeline::{Row, Timeline};
pub use write::{NewTable, Write, WritePhase};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod transcript;
