//! Every command and flag. A flag's value comes from the command line, else its `POLYBOLOS_…` variable, else the
//! `--config` file (see [`super::config`]), else its default.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::values::{NamedTable, Size, address, label, listen_address, member, scale};

/// A distributed SQL engine: schedulers, executors, and the tools to use them.
#[derive(Debug, Parser)]
#[command(name = "polybolos", version, subcommand_required = true, arg_required_else_help = true)]
#[command(
    after_help = "Example:\n  polybolos local --table trips=trips.parquet -c 'SELECT count(*) FROM trips'"
)]
pub(crate) struct Cli {
    /// TOML file with one table for each command, such as `[scheduler]` or `[tpch.run]`, and its flags as keys
    #[arg(long, global = true, value_name = "FILE", env = "POLYBOLOS_CONFIG", display_order = 900)]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Local(LocalArgs),
    Scheduler(SchedulerArgs),
    Executor(ExecutorArgs),
    Sql(SqlArgs),
    Status(StatusArgs),
    Jobs(JobsArgs),
    Tpch(TpchArgs),
    Demo(DemoArgs),
    Bench(BenchArgs),
}

/// How a query's rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Csv,
    Json,
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    Table,
    Json,
}

/// Where the statements come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScriptArgs {
    /// Run these statements, separated by `;`, and quit
    #[arg(
        short = 'c',
        long = "command",
        value_name = "SQL",
        allow_hyphen_values = true,
        conflicts_with = "file"
    )]
    pub(crate) sql: Option<String>,
    /// Run the statements of this file (`-` for standard input) and quit
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How rows are printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: Format,
}

/// Which cluster to talk to.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterArgs {
    /// Addresses of scheduler replicas; one that answers is enough
    #[arg(long, required = true, value_name = "HOST:PORT", value_delimiter = ',', value_parser = address)]
    #[arg(env = "POLYBOLOS_SCHEDULERS")]
    pub(crate) schedulers: Vec<String>,
}

/// Run SQL on a cluster inside this process; a prompt without -c and -f
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  polybolos local --table trips=trips.parquet -c 'SELECT count(*) FROM trips'"
)]
pub(crate) struct LocalArgs {
    #[command(flatten)]
    pub(crate) script: ScriptArgs,
    /// Make a table of a Parquet, CSV or JSON file or a folder of them; may be repeated
    #[arg(long = "table", value_name = "NAME=PATH")]
    pub(crate) tables: Vec<NamedTable>,
    /// Executors to start
    #[arg(long, default_value_t = 2, value_name = "N", env = "POLYBOLOS_EXECUTORS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) executors: u32,
    /// Tasks that each executor runs at once [default: the machine's cores shared out]
    #[arg(long, value_name = "N", env = "POLYBOLOS_SLOTS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) slots: Option<u32>,
    /// Scheduler replicas to start; only 1 works so far
    // No variable: POLYBOLOS_SCHEDULERS holds addresses.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=9))]
    pub(crate) schedulers: u32,
}

/// Run one scheduler replica until SIGTERM or SIGINT
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos scheduler --id 1 --listen 127.0.0.1:7600 \
    --cluster 1=127.0.0.1:7600 --data-dir /var/lib/polybolos/1")]
pub(crate) struct SchedulerArgs {
    /// This replica's id, one of --cluster
    #[arg(long, value_name = "N", env = "POLYBOLOS_ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) id: u64,
    /// Address to serve at
    #[arg(long, value_name = "HOST:PORT", env = "POLYBOLOS_LISTEN", value_parser = listen_address)]
    pub(crate) listen: String,
    /// All replicas of the cluster, with the addresses at which others reach them
    #[arg(long, required = true, value_name = "ID=HOST:PORT", value_delimiter = ',', value_parser = member)]
    #[arg(env = "POLYBOLOS_CLUSTER")]
    pub(crate) cluster: Vec<(u64, String)>,
    /// Folder of this replica's log; made if it isn't there
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
}

/// How shuffle data is written to files and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompressionArg {
    None,
    Lz4,
}

/// Run one executor until SIGTERM or SIGINT
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos executor --schedulers 127.0.0.1:7600 --listen 127.0.0.1:7701 \
    --slots 4 --memory 8GiB --work-dir /var/tmp/polybolos/1")]
pub(crate) struct ExecutorArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Address to serve shuffle data and results at
    #[arg(long, value_name = "HOST:PORT", env = "POLYBOLOS_LISTEN", value_parser = listen_address)]
    pub(crate) listen: String,
    /// Address at which others reach it [default: the one it listens on]
    #[arg(long, value_name = "HOST:PORT", env = "POLYBOLOS_ADVERTISE", value_parser = address)]
    pub(crate) advertise: Option<String>,
    /// Name in the cluster, kept across restarts [default: drawn once and kept in the work folder]
    #[arg(long, value_name = "NAME", env = "POLYBOLOS_EXECUTOR_ID")]
    pub(crate) id: Option<polybolos_model::ExecutorId>,
    /// Tasks that it runs at once [default: the machine's cores]
    #[arg(long, value_name = "N", env = "POLYBOLOS_SLOTS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) slots: Option<u32>,
    /// Memory for queries and shuffle data
    #[arg(long, value_name = "SIZE", default_value = "2GiB", env = "POLYBOLOS_MEMORY")]
    pub(crate) memory: Size,
    /// Folder for shuffle and spill files; made if it isn't there
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_WORK_DIR")]
    pub(crate) work_dir: PathBuf,
    /// Compression of shuffle files
    #[arg(long, value_enum, default_value = "lz4", env = "POLYBOLOS_COMPRESSION")]
    pub(crate) compression: CompressionArg,
    /// A label, such as its zone; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
}

/// Run SQL on a running cluster; a prompt without -c and -f
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  polybolos sql --schedulers 127.0.0.1:7600 --format csv -c 'SELECT 1 AS one'"
)]
pub(crate) struct SqlArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    #[command(flatten)]
    pub(crate) script: ScriptArgs,
}

/// Show replicas and executors
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos status --schedulers 127.0.0.1:7600 --format json")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// How the lists are printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: ListFormat,
}

/// List, show and cancel queries
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos jobs list --schedulers 127.0.0.1:7600")]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    pub(crate) command: JobsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// List queries, newest first
    #[command(after_help = "Example:\n  polybolos jobs list --schedulers 127.0.0.1:7600 --format json")]
    List(StatusArgs),
    /// Show a query's stages, and for each task where it ran, its rows, bytes and time
    #[command(after_help = "Example:\n  polybolos jobs show 00000000000000a1 --schedulers 127.0.0.1:7600")]
    Show(JobArgs),
    /// Cancel a query
    #[command(after_help = "Example:\n  polybolos jobs cancel 00000000000000a1 --schedulers 127.0.0.1:7600")]
    Cancel(JobArgs),
}

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// The query's id, as printed by `jobs list`
    #[arg(value_name = "ID")]
    pub(crate) id: polybolos_model::JobId,
    #[command(flatten)]
    pub(crate) status: StatusArgs,
}

/// Make TPC-H data, and run and check its queries
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos tpch generate --scale 1 --out tpch-1")]
pub(crate) struct TpchArgs {
    #[command(subcommand)]
    pub(crate) command: TpchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TpchCommand {
    Generate(GenerateArgs),
    Run(RunArgs),
}

/// Compression of Parquet files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ParquetCompression {
    Snappy,
    Zstd,
}

/// Write the eight tables as Parquet files
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos tpch generate --scale 0.1 --out tpch-0.1")]
pub(crate) struct GenerateArgs {
    /// Scale factor; 1 is about 1 GB of raw text
    #[arg(long, value_name = "S", env = "POLYBOLOS_SCALE", value_parser = scale)]
    pub(crate) scale: f64,
    /// Folder to make; it must not hold anything yet
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_OUT")]
    pub(crate) out: PathBuf,
    /// Files for each large table [default: by scale, at least 2]
    #[arg(long, value_name = "N", env = "POLYBOLOS_FILES", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) files: Option<u16>,
    /// Compression of the files
    #[arg(long, value_enum, default_value = "snappy", env = "POLYBOLOS_PARQUET_COMPRESSION")]
    pub(crate) parquet_compression: ParquetCompression,
}

/// Run TPC-H queries and time them
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos tpch run --data tpch-1 --schedulers 127.0.0.1:7600 \
    --query 1 --query 5 --repeat 3 --verify")]
pub(crate) struct RunArgs {
    /// Folder that `tpch generate` made; executors must see it at the same path
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DATA")]
    pub(crate) data: PathBuf,
    /// The cluster to use [default: one in this process, 2 executors of 1 slot]
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', value_parser = address)]
    #[arg(env = "POLYBOLOS_SCHEDULERS")]
    pub(crate) schedulers: Vec<String>,
    /// A query to run, 1 to 22; may be repeated [default: all]
    #[arg(long = "query", value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=22))]
    pub(crate) queries: Vec<u32>,
    /// Timed runs of each query; with more than one, an untimed one goes before
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    #[arg(env = "POLYBOLOS_REPEAT")]
    pub(crate) repeat: u32,
    /// Run each query with DataFusion in this process too, compare every value and the times
    #[arg(long, env = "POLYBOLOS_VERIFY")]
    pub(crate) verify: bool,
    /// How the results are printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: ListFormat,
}

/// Start a cluster, make data, run a query and show what happened, in under a minute
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos demo")]
pub(crate) struct DemoArgs {
    /// Scale factor of the data
    #[arg(long, value_name = "S", default_value = "0.1", env = "POLYBOLOS_SCALE", value_parser = scale)]
    pub(crate) scale: f64,
}

/// Measure a running cluster
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
