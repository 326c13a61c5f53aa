//! What the crate promises, end to end. Helpers are in `testing`.

mod bound;
mod cancel;
mod durable;
mod faults;
mod files;
mod follow;
mod handover;
mod host_file;
mod inline;
mod placement;
mod round_trip;
mod rows;
