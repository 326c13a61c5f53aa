//! What a node of a chaos run may be started with (`LD_PRELOAD`): functions of the C library that lie, when they are told to.
//!
//! ```text
//!   node ──write, fsync, clock_gettime …──▶ shim ──▶ kernel
//!                                            │ ▲
//!                undo journals, counts ◀─────┘ └── control file, which the chaos process writes
//! ```
//!
//! - The wall clock is off by what the control file says. Monotonic clocks are not.
//! - Calls that write or sync below the data folder take longer.
//! - Before a file below the data folder is changed, what was there is noted in a journal outside of it; a sync voids the notes.
//!   Both are the kernel's when the process is killed, so that the chaos process can then take back what was not synced.
//!
//! Without its variables it passes everything on. Deliberately absent: what the engine does not use, `io_uring` and files that
//! are changed through a mapping; names, which stay as they are after a power cut, as if the disk had been quick with them.
#![allow(
    unsafe_code,
    reason = "functions of the C library can only be replaced by functions of the C library's kind, which call the kernel"
)]

mod control;
mod files;
mod hooks;
mod inode;
mod kernel;
pub mod shared;
