//! What clients ask of a cluster: generated tables, random SQL with one right answer, and the clients themselves.
//!
//! ```text
//!   generate ─▶ Schedule { tables, ops } ─┬─▶ tables ──▶ parquet files, CREATE EXTERNAL TABLE
//!              (before a run)  sql, writes┘├─▶ expected ▶ the rows that DataFusion gives in one process
//!                                          └─▶ client ──▶ ClientEvents on the tape
//! ```

mod client;
mod expected;
mod generate;
mod limits;
mod mix;
mod progress;
mod sql;
mod tables;
#[cfg(test)]
mod testing;
mod writes;

pub use client::run_client;
pub use expected::Answers;
pub(crate) use expected::rows_of;
pub use generate::{Size, random_ops, random_tables};
pub use mix::Mix;
pub(crate) use progress::mentions;
pub use sql::{Generated, random_query};
pub(crate) use tables::own_type;
pub use tables::{create_statements, write_tables};
pub use writes::{WRITTEN, copied};
