//! A real executor, driven by a scheduler that the test plays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod attach;
mod broadcast;
mod failover;
mod fake;
mod inline;
mod queries;
mod rig;
mod writes;
