//! Judges what the clients of a distributed system saw.
//!
//! ```text
//!   lines ─▶ Event ─▶ History ─▶ check(model) ─▶ Report ─▶ text · HTML · JSON · exit code
//!                        │            │
//!                  operations,        ├─ linearizable: one search a key (Wing, Gong and Lowe), cut to a small window
//!                  key by key         └─ the others: one pass over the operations, a promise a file
//! ```
//!
//! A history is a file of JSON lines, one [`Event`] a line: a client invokes an operation, and hears that it took effect
//! (`ok`), that it certainly never will (`fail`), or nothing that settles it (`info`). A time-out is `info`: such an
//! operation stays open for ever. `docs/jepsen-lite.md` describes each field and how another program writes them.
//!
//! A verdict is [`Verdict::Valid`], [`Verdict::Invalid`] with the smallest window of operations that shows it, or
//! [`Verdict::Unknown`] with the reason: the search has a [`Budget`] and never runs for ever.
//!
//! Deliberately absent: anything of Polybolos, so that its bugs can't be shared; clients, clocks, threads and a network,
//! since this only reads what others wrote; models with transactions over several keys.

mod check;
mod checks;
mod error;
mod event;
mod files;
pub mod generate;
mod history;
mod models;
mod read;
mod report;
mod search;
mod show;
mod verdict;

pub use check::{Budget, Options, check};
pub use checks::Check;
pub use error::HistoryError;
pub use event::{Event, Kind};
pub use history::{History, Operation};
pub use models::Model;
pub use read::ReadLimits;
pub use report::{Outcome, Report, Violation};
pub use verdict::Verdict;
