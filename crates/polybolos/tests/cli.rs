//! The binary as its users meet it: processes, flags, output, exit codes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "cli/bad_input.rs"]
mod bad_input;
#[path = "cli/cluster.rs"]
mod cluster;
#[path = "cli/local.rs"]
mod local;
#[path = "cli/servers.rs"]
mod servers;
#[path = "cli/support.rs"]
mod support;
#[path = "cli/tpch.rs"]
mod tpch;
