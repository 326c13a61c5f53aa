//! `bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ClusterArgs, ListFormat};

/// Measure a running cluster, or what the loss of a leader and a commit cost on this machine
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos bench latency --schedulers 127.0.0.1:7600")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    Latency(LatencyArgs),
    Concurrent(ConcurrentArgs),
    Failover(FailoverArgs),
    Log(LogArgs),
}

/// Time `SELECT 1` from submit to answer
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos bench latency --schedulers 127.0.0.1:7600 --count 1000")]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Timed queries, one after the other
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    #[arg(env = "POLYBOLOS_COUNT")]
    pub(crate) count: u32,
    /// How the times are printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: ListFormat,
}

/// Run small queries at once and check each answer
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos bench concurrent --schedulers 127.0.0.1:7600 --clients 100")]
pub(crate) struct ConcurrentArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Queries under way at once
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    #[arg(env = "POLYBOLOS_CLIENTS")]
    pub(crate) clients: u32,
    /// Queries that each client runs, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    #[arg(env = "POLYBOLOS_ROUNDS")]
    pub(crate) rounds: u32,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: ListFormat,
}

/// Kill the leader of three scheduler processes, again and again, and time the pause that a client sees
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos bench failover --rounds 10 --format json")]
pub(crate) struct FailoverArgs {
    /// How often the leader is killed
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    #[arg(env = "POLYBOLOS_ROUNDS")]
    pub(crate) rounds: u32,
    /// Where the replicas' logs are kept meanwhile [default: the system's temporary folder]
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How the times are printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: ListFormat,
}

/// Time commits and count task completions on three scheduler processes, beside the fsync of the same disk
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos bench log --seconds 5 --clients 64")]
pub(crate) struct LogArgs {
    /// How long each part is measured
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    #[arg(env = "POLYBOLOS_SECONDS")]
    pub(crate) seconds: u32,
    /// Clients of the part that measures many at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    #[arg(env = "POLYBOLOS_CLIENTS")]
    pub(crate) clients: u32,
    /// Tasks of each job of the part that counts completions
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    #[arg(env = "POLYBOLOS_TASKS")]
    pub(crate) tasks: u32,
    /// Where the replicas' logs are kept meanwhile [default: the system's temporary folder]
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How the numbers are printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: ListFormat,
}
