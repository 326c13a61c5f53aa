//! `bench`: how quickly a cluster answers, survives its leader, and commits; and how other engines do.

mod cluster;
mod concurrent;
mod data;
mod driver;
mod failover;
mod fake_executor;
mod fsync;
mod joins;
mod log;
mod memory;
mod peak;
mod queries;
mod recovery;
mod report;
mod scheduler;
mod shuffle;
mod tpch;

use polybolos_model::settings::ADAPTIVE;

pub(crate) use concurrent::concurrent;
pub(crate) use failover::failover;
pub(crate) use joins::joins;
pub(crate) use log::log;
pub(crate) use memory::memory;
pub(crate) use queries::latency;
pub(crate) use recovery::recovery;
pub(crate) use scheduler::scheduler;
pub(crate) use shuffle::shuffle;
pub(crate) use tpch::{engine, tpch};

/// The option by which each stage of a query keeps as many tasks as it was planned with, however little they have to do.
fn as_many() -> (String, String) {
    (ADAPTIVE.name.to_owned(), "false".to_owned())
}
