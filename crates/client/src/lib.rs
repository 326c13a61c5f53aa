//! The Rust client: finds the leader, submits safely, streams results.
//!
//! ```text
//!   Client ──▶ submit (same key over all replicas) ──▶ JobHandle ──▶ watch ──▶ progress
//!     │                                                    └───────▶ stream ──▶ record batches
//!     └── channels, kept open: scheduler replicas (QueryService), executors (Arrow Flight)
//! ```
//!
//! A lost reply is never taken for a failure: a submit is repeated with its idempotency key, a watch is opened
//! anew, and only when its deadline has passed is the outcome reported as unknown. Rows are never handed out twice:
//! a partition whose stream breaks is read again only while none of its rows was handed out, or goes on at the same
//! attempt's copy. A leader that is paused
//! breaks nothing, so whoever waits for it asks the other replicas who leads. Rows of a small partition may come with its
//! place, and are then not fetched.
//!
//! Any replica plans, and the leader commits: submits go to the leader, and through another replica when the leader says that
//! it has too much to plan.
//!
//! Deliberately absent: DataFusion, SQL parsing, and any state beyond open channels and the last known leader.

mod background;
mod call;
mod channels;
mod client;
mod driver;
mod early;
mod error;
mod fetch;
mod generation;
mod inline;
mod ipc;
mod job;
mod leader;
pub mod limits;
mod reads;
mod replicas;
mod search;
mod stream;
mod submit;
mod watch;

#[cfg(test)]
mod tests;

pub use client::{Answer, Client, QueryResult, Statement, SubmitOptions};
pub use error::{ClientError, JobFailure};
pub use ipc::conform;
pub use job::JobHandle;
pub use polybolos_proto::v1::{
    ClusterStatusResponse, ExecutorStatus, Freshness, JobDetail, JobState, JobSummary, JobUpdate,
    ListJobsResponse, LiveAttempt, LossCost, ReplicaStatus, StageDetail, StageLoss, StageProgress, StoryLine,
    StoryToll, TaskDetail,
};
pub use reads::Consistency;
pub use stream::ResultStream;
