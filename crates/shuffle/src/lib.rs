//! How rows move between tasks: the store that holds outputs, the writer that fills it, the reader that drains it,
//! and the Arrow Flight service and connections between executors.
//!
//! ```text
//!   task plan ──▶ write_output ──▶ ShuffleStore (memory, then files) ──┬──▶ ShuffleReaderExec, same process: no copy
//!                                        │                             ├──▶ flight_service ──▶ FlightPool ──▶
//!                                        │                             │    ShuffleReaderExec elsewhere, clients
//!                                        │                             └──▶ its files ──▶ ShuffleReaderExec, same machine
//!                                        └─ by setting ─▶ DurableShuffle ──▶ the same readers, once it is lost
//! ```
//!
//! An output belongs to one attempt of one task, never changes, and is visible only when it is whole. Deliberately
//! absent: any decision about which attempt is the live one (the log's), a cache of what was fetched, and retries of
//! a source of which rows were already handed on (the scheduler runs the task again).

mod bind;
mod budget;
mod chunk;
mod classify;
mod connection;
mod durable;
mod error;
mod fetch;
mod files;
mod growing;
mod handover;
mod host_file;
mod index;
mod inline;
mod inputs;
mod output;
mod output_rows;
mod output_writer;
mod reader;
mod router;
mod service;
mod sharing;
mod size;
mod sources;
mod spill;
mod store;
mod ticket;
mod wire;
mod writer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use bind::bind_inputs;
pub use classify::task_error;
pub use connection::{FetchLimits, FlightPool};
pub use durable::DurableShuffle;
pub use error::{FetchError, FetchFailed, ShuffleError, WriteError};
pub use files::{FileError, encode_output_files, output_files};
pub use handover::Handover;
pub use inline::small_rows;
pub use inputs::{MapOutput, StageInputs};
pub use output::OutputReader;
pub use reader::ShuffleReaderExec;
pub use service::flight_service;
pub use store::{Compression, OutputKey, ShuffleConfig, ShuffleStore};
pub use ticket::{OutputTicket, TicketError, decode_ticket, encode_ticket};
pub use writer::write_output;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose holders never panic half-way: no lock of this crate is held over an await or foreign code.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
