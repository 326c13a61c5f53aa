//! The binary as its users meet it: processes, flags, output, exit codes.

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
