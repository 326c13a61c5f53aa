//! Breaks clusters of real processes while clients work, and judges what the clients saw.
//!
//! ```text
//!   scenario + seed ──▶ Schedule ──▶ Nemesis ──▶ Fleet: processes, network, disks
//!                                                  ▲
//!   hostile (bytes, frames, calls, statements) ────┤
//!            workload (clients, over polybolos-client) ──▶ history.jsonl ──▶ jepsen-lite ─┐
//!                                        observer, watchdog ──▶ events.jsonl ─────────────┴──▶ verdict, report
//! ```
//!
//! A schedule is the simulator's, so that what fails here is tried there. Whatever could not act is told, and is no pass.
//! Deliberately absent: any knowledge of how the engine works inside, and DataFusion; what an answer should be is known by
//! arithmetic, or by what the program says that DataFusion gives in one process.

#![allow(
    clippy::disallowed_methods,
    reason = "this crate is about the real machine: processes, files, clocks, sockets"
)]

pub mod cli;
pub mod cluster;
mod draw;
pub mod fault;
pub mod figures;
pub mod history;
pub mod hostile;
pub mod journal;
pub mod judge;
mod memory;
pub mod nemesis;
pub mod net;
pub mod observer;
pub mod os;
pub mod pressure;
pub mod probe;
pub mod report;
mod rest;
mod rootless;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod shim;
pub mod theirs;
pub mod workload;
