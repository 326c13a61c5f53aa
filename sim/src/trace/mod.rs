//! A run on paper: one JSON line for each moment, the same bytes for the same schedule and the same program.
//!
//! ```text
//!   Moment ─▶ Line ─▶ Writer ─▶ one JSON line each ─▶ report, replay
//!                        └────▶ Digest of the lines ─▶ verify-determinism
//!   the real code's log ─▶ log::Layer ─▶ tape
//! ```
//!
//! Two traces compare only if the same program wrote them: each begins with the program's build id.

mod commands;
mod digest;
mod line;
mod log;
mod read;
mod seen;
mod write;

pub use self::{
    digest::Digest,
    line::{End, Header, Line, Seen, TRACE_FORMAT},
    log::listen,
    read::{ReadError, Trace, read, read_header},
    write::{Scribe, is_detail},
};
