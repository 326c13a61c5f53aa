//! A real executor, driven by a scheduler that the test plays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attach;
mod failover;
mod fake;
mod queries;
mod rig;
