//! Rows that a join would drop are dropped before they move: once the keys of its build side are known, they filter the
//! scans of its probe side, in the stages below the exchange.
//!
//! ```text
//!   hash join                              hash join
//!   ├─ exchange ── build side              ├─ stage B ── build side
//!   └─ exchange ── … ── scan     becomes   └─ stage P ── … ── RuntimeFilterExec ─┬─ scan
//!                                                                               └─ stage K ── KeySummaryExec ── stage B
//! ```
//!
//! Stage K reads B as any reader does, and P reads K: so P waits for both, and what is lost of them is made again as always.
//! A filter may let any row through, for the join drops it; it never holds back a row that has a match.
//!
//! The idea is that of Trino's dynamic filters and of Spark's runtime Bloom filters (SPARK-32268). DataFusion's own dynamic
//! filters do the same between the operators of one task.

mod bloom;
mod columns;
mod filter_exec;
mod keys_exec;
mod landing;
mod plan;

pub(crate) use filter_exec::RuntimeFilterExec;
pub(crate) use keys_exec::KeySummaryExec;
pub use plan::RuntimeFilters;
pub(crate) use plan::{PlannedFilter, keys_of};
