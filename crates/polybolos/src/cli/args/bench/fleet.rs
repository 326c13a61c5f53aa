//! Of the benches that start a cluster of real processes.

use std::path::PathBuf;

use clap::Args;

use super::super::{super::values::Size, ListFormat};

/// What the cluster is made of.
#[derive(Debug, Clone, Args)]
pub(crate) struct FleetArgs {
    /// Scheduler processes
    // No variable: POLYBOLOS_SCHEDULERS holds addresses.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub(crate) schedulers: u64,
    /// Executor processes of one slot; other engines get as many cores
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    #[arg(env = "POLYBOLOS_EXECUTORS")]
    pub(crate) executors: u32,
    /// Memory of each executor
    #[arg(long, value_name = "SIZE", default_value = "1GiB", env = "POLYBOLOS_MEMORY")]
    pub(crate) memory: Size,
    /// Where data, logs and shuffle files are kept meanwhile [default: the system's temporary folder]
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Join a large table with a small one by broadcast and by hash exchange, and with a large one by even and skewed keys
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos bench joins --rows 20000000 --repeat 5")]
pub(crate) struct JoinsArgs {
    /// Rows of the largest table; the small one has a hundredth of them, the one for keys that are skewed a quarter
    // With fewer the cluster would plan a single task, without an exchange.
    #[arg(long, value_name = "N", default_value_t = 20_000_000, env = "POLYBOLOS_ROWS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1_000_000..=1_000_000_000))]
    pub(crate) rows: u64,
    /// Timed runs of each query on each side, after an untimed one
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    #[arg(env = "POLYBOLOS_REPEAT")]
    pub(crate) repeat: u32,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// How the numbers are printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: ListFormat,
}

/// Sort more rows than fit into the memory of the executors, and look at what their processes take
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos bench memory --rows 60000000 --memory 1GB --data tpch-10")]
pub(crate) struct MemoryBenchArgs {
    /// Rows that are sorted, of 56 bytes each; all of them are read by this process
    #[arg(long, value_name = "N", default_value_t = 60_000_000, env = "POLYBOLOS_ROWS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    pub(crate) rows: u64,
    /// Folder that `tpch generate` made: all queries of TPC-H run with that memory too, on a cluster of their own
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Runs of the sort on each side, in turns, all of them timed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    #[arg(env = "POLYBOLOS_REPEAT")]
    pub(crate) repeat: u32,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// How the numbers are printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: ListFormat,
}
