//! TPC-H: the data, the queries on a cluster, and the comparison with DataFusion in one process.

mod answers;
mod baseline;
mod generate;
mod report;
mod run;
mod verify;

pub(crate) use answers::answers;
pub(crate) use baseline::{Answer, Baseline, Limit};
pub(crate) use generate::{Writing, generate, write_tables};
pub(crate) use report::Times;
pub(crate) use run::{difference, register_statements, run};
pub(crate) use verify::difference_within;

/// The eight tables, largest first.
pub(crate) const TABLES: [&str; 8] =
    ["lineitem", "orders", "partsupp", "part", "customer", "supplier", "nation", "region"];
