//! Every command and flag. A flag's value comes from the command line, else its `POLYBOLOS_…` variable, else the
//! `--config` file (see [`super::config`]), else its default.

mod bench;
mod demo;
mod replicas;
mod servers;
mod sql;
mod status;
mod tpch;

use std::path::PathBuf;

pub(crate) use bench::{
    BenchArgs, BenchCommand, BenchTpchArgs, ConcurrentArgs, EngineArgs, EngineKind, FailoverArgs, FleetArgs,
    JoinsArgs, LatencyArgs, LogArgs, MemoryBenchArgs, RecoveryArgs, RecoveryFault, SchedulerBenchArgs,
    ShuffleBenchArgs,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use demo::DemoArgs;
pub(crate) use replicas::{
    AddArgs, RecoverArgs, RemoveArgs, ReplicasArgs, ReplicasCommand, RestoreArgs, SnapshotArgs, TransferArgs,
};
pub(crate) use servers::{
    ChildArgs, CompressionArg, DrainArgs, DurableModeArg, ExecutorArgs, ExecutorCommand, PatienceArgs,
    SameHostArg, SchedulerArgs, TimingArgs,
};
pub(crate) use sql::{LocalArgs, SqlArgs};
pub(crate) use status::{ExportArgs, JobArgs, JobsArgs, JobsCommand, ListArgs, ReadArgs, ShowArgs};
pub(crate) use tpch::{AnswersArgs, GenerateArgs, ParquetCompression, RunArgs, TpchArgs, TpchCommand};

use super::values::address;

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
    Status(ReadArgs),
    Jobs(JobsArgs),
    Cluster(ReplicasArgs),
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
