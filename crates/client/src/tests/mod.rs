//! The client against a scripted scheduler and a scripted executor, both real gRPC servers on loopback.
//!
//! ```text
//!   test ──▶ Client ──▶ fake::Scheduler (answers from a script, notes each call in a log)
//!                   └─▶ fake::Executor (Flight: each ticket has a list of scripts, one for each time it is read)
//! ```

mod early;
mod failover;
mod fake;
mod finding;
mod inline;
mod operating;
mod reopened;
mod spreading;
mod stale;
mod streaming;
