//! `bench`.

mod fleet;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
pub(crate) use fleet::{FleetArgs, JoinsArgs, MemoryBenchArgs};

use super::{
    super::values::{NamedTable, Size, scale},
    ClusterArgs, ListFormat,
};

/// Measure a running cluster, what losses, commits, tasks and exchanges cost here, or other engines beside it
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
    Joins(JoinsArgs),
    Log(LogArgs),
    Memory(MemoryBenchArgs),
    Recovery(RecoveryArgs),
    Scheduler(SchedulerBenchArgs),
    Shuffle(ShuffleBenchArgs),
    Tpch(BenchTpchArgs),
    #[command(hide = true)]
    Engine(EngineArgs),
}

/// Time queries that read next to nothing, from submit to answer: `SELECT 1`, 100 empty tasks, a row by its key
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos bench latency --schedulers 127.0.0.1:7600 --count 1000")]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Folder that `tpch generate` made, which all nodes can read, for the query by key; its tables replace those of the same name
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Timed queries of each kind, one after the other
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    #[arg(env = "POLYBOLOS_COUNT")]
    pub(crate) count: u32,
    /// How the times are printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: ListFormat,
}

/// Run queries at once and check each answer: small ones, or one of TPC-H beside DataFusion in this process
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
    /// A query of TPC-H, 1 to 22, instead; DataFusion runs it in turns with the cluster, as many at once on as many threads
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=22), env = "POLYBOLOS_QUERY")]
    pub(crate) query: Option<u32>,
    /// Folder that `tpch generate` made, which all nodes can read, for that query; its tables replace those of the same name
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Timed runs of all clients on each side, after an untimed one, for that query
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    #[arg(env = "POLYBOLOS_REPEAT")]
    pub(crate) repeat: u32,
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

/// Count the tasks that three scheduler processes commit a second, and what each costs them, as executors, tasks and stages grow
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos bench scheduler --executors 10,1000 --total 100000")]
pub(crate) struct SchedulerBenchArgs {
    /// Executors that run nothing and report at once
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [10, 100, 1_000])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000), env = "POLYBOLOS_EXECUTORS")]
    pub(crate) executors: Vec<u32>,
    /// Tasks that all executors together run at once
    #[arg(long, value_name = "N", default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    #[arg(env = "POLYBOLOS_SLOTS")]
    pub(crate) slots: u32,
    /// Tasks of a stage
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000), env = "POLYBOLOS_TASKS")]
    pub(crate) tasks: Vec<u32>,
    /// Stages of a job
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [2, 10])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=16), env = "POLYBOLOS_STAGES")]
    pub(crate) stages: Vec<u32>,
    /// Tasks of all jobs of a measurement together
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    #[arg(env = "POLYBOLOS_TOTAL")]
    pub(crate) total: u32,
    /// Where the replicas' logs are kept meanwhile [default: the system's temporary folder]
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How the numbers are printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: ListFormat,
}

/// Move rows between tasks in memory, through files and over Flight, and compare with DataFusion's exchange in one process
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos bench shuffle --size 1GB --partitions 8")]
pub(crate) struct ShuffleBenchArgs {
    /// Rows that are moved
    #[arg(long, value_name = "SIZE", default_value = "256MB", env = "POLYBOLOS_SIZE")]
    pub(crate) size: Size,
    /// Into how many parts they are divided
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    #[arg(env = "POLYBOLOS_PARTITIONS")]
    pub(crate) partitions: u32,
    /// Timed rounds of each way, after an untimed one
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    #[arg(env = "POLYBOLOS_REPEAT")]
    pub(crate) repeat: u32,
    /// How the numbers are printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: ListFormat,
}

/// What `bench recovery` does to an executor in the middle of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecoveryFault {
    /// SIGKILL; it is started again after the query
    Kill,
    /// SIGKILL of all executors, which are started again at once
    KillAll,
    /// SIGSTOP for 10 s
    Stop,
    /// All its files are deleted, among them nearly all of its shuffle outputs
    DeleteFiles,
    /// Its disk, a small one that root must be able to mount, is full until the end of the query
    FullDisk,
}

/// Kill an executor process in the middle of TPC-H queries, check the answers, and time what that costs
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  polybolos bench recovery --scale 0.1 --query 9 --kill-at 50 --format json"
)]
pub(crate) struct RecoveryArgs {
    /// Scale factor of the data, which is made first
    #[arg(long, value_name = "S", default_value = "0.1", env = "POLYBOLOS_SCALE", value_parser = scale)]
    pub(crate) scale: f64,
    /// A query to run, 1 to 22; may be repeated [default: all]
    #[arg(long = "query", value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=22))]
    pub(crate) queries: Vec<u32>,
    /// Scheduler processes
    // No variable: POLYBOLOS_SCHEDULERS holds addresses.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub(crate) schedulers: u64,
    /// Executor processes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=64))]
    #[arg(env = "POLYBOLOS_EXECUTORS")]
    pub(crate) executors: u32,
    /// Tasks that each executor runs at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    #[arg(env = "POLYBOLOS_SLOTS")]
    pub(crate) slots: u32,
    /// What happens to the executor
    #[arg(long, value_enum, default_value = "kill", env = "POLYBOLOS_FAULT")]
    pub(crate) fault: RecoveryFault,
    /// Copy shuffle outputs to a durable folder before they count: what had ended does not run again then
    #[arg(long, env = "POLYBOLOS_DURABLE")]
    pub(crate) durable: bool,
    /// When the executor is killed, in per cent of the query's time without a kill; may be repeated
    #[arg(long, value_name = "PERCENT", default_values_t = [10, 50, 90], value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100), env = "POLYBOLOS_KILL_AT")]
    pub(crate) kill_at: Vec<u32>,
    /// Timed runs of each query without a kill, after an untimed one; the middle one counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    #[arg(env = "POLYBOLOS_REPEAT")]
    pub(crate) repeat: u32,
    /// Where data, logs and shuffle files are kept meanwhile [default: the system's temporary folder]
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How the numbers are printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: ListFormat,
}

/// What `bench tpch` compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineKind {
    /// Schedulers and executors as processes
    Polybolos,
    /// DataFusion in one process
    Datafusion,
    Duckdb,
    /// A standalone cluster, with a worker for each core
    Spark,
    /// A scheduler, and an executor of one slot for each core; tuned: partitions, hash joins, adaptive plans, /dev/shm
    Ballista,
    /// The same with the settings that it comes with
    BallistaDefault,
}

/// Run TPC-H on several engines in turn, with the same files and as many cores, and compare times, memory and answers
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos bench tpch --scale 1 --repeat 3 --chart tpch.svg")]
pub(crate) struct BenchTpchArgs {
    /// Engines; the others are compared with the first one, and those that are not installed are left out
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',', env = "POLYBOLOS_ENGINES")]
    #[arg(default_values = ["polybolos", "datafusion"])]
    pub(crate) engines: Vec<EngineKind>,
    /// Python that has DuckDB, Spark or Ballista; crates/polybolos/engines/install.sh makes one
    #[arg(long, value_name = "PATH", default_value = "python3", env = "POLYBOLOS_PYTHON")]
    pub(crate) python: PathBuf,
    /// Scale factor of the data, which is made first
    #[arg(long, value_name = "S", default_value = "0.1", env = "POLYBOLOS_SCALE", value_parser = scale)]
    pub(crate) scale: f64,
    /// Folder that `tpch generate` made, instead
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DATA", conflicts_with = "scale")]
    pub(crate) data: Option<PathBuf>,
    /// A query to run, 1 to 22; may be repeated [default: all]
    #[arg(long = "query", value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=22))]
    pub(crate) queries: Vec<u32>,
    /// Timed runs of each query on each engine, after an untimed one
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    #[arg(env = "POLYBOLOS_REPEAT")]
    pub(crate) repeat: u32,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// Where the ratios are drawn, as SVG
    #[arg(long, value_name = "FILE", env = "POLYBOLOS_CHART")]
    pub(crate) chart: Option<PathBuf>,
    /// How the numbers are printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: ListFormat,
}

/// DataFusion in a process of its own, for `bench tpch` and `bench memory`: it answers lines of standard input
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos bench engine --data data --cores 2")]
pub(crate) struct EngineArgs {
    /// Folder with the tables of TPC-H
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Another table; may be repeated
    #[arg(long = "table", value_name = "NAME=PATH")]
    pub(crate) tables: Vec<NamedTable>,
    #[arg(long, value_name = "N")]
    pub(crate) cores: u32,
    /// What operators may take [default: without a limit]
    #[arg(long, value_name = "SIZE", requires = "spill")]
    pub(crate) memory: Option<Size>,
    /// Folder for what does not fit
    #[arg(long, value_name = "DIR")]
    pub(crate) spill: Option<PathBuf>,
}
