//! `status` and `jobs`.

use clap::{Args, Subcommand};

use super::{ClusterArgs, ListFormat};

/// Show replicas and executors
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos status --schedulers 127.0.0.1:7600 --format json")]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) list: ListArgs,
    /// Take the answer of whichever replica is first, though it may be out of date; works without a majority
    #[arg(long, env = "POLYBOLOS_STALE")]
    pub(crate) stale: bool,
}

/// Which cluster to ask, and how its answer is printed.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
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
    List(ReadArgs),
    /// Show a query's stages, and for each task where it ran, its rows, bytes and time
    #[command(after_help = "Example:\n  polybolos jobs show 00000000000000a1 --schedulers 127.0.0.1:7600")]
    Show(ShowArgs),
    /// Tell what went wrong while a query was under way: executors lost, tasks that ran again and why, leaders, refused
    /// reports, and how much work was lost
    #[command(
        after_help = "Example:\n  polybolos jobs timeline 00000000000000a1 --schedulers 127.0.0.1:7600"
    )]
    Timeline(ShowArgs),
    /// Tell for each executor what its loss would cost a query now: the finished tasks of each stage that would run again
    #[command(after_help = "Example:\n  polybolos jobs faults 00000000000000a1 --schedulers 127.0.0.1:7600")]
    Faults(ShowArgs),
    /// Write a query to a file as its recorded decisions and faults, which `polybolos-sim replay` runs in a simulation. The
    /// file holds the SQL text, error texts and the schemas of tables; no rows, no locations of files, no keys
    #[command(
        after_help = "Example:\n  polybolos jobs export 00000000000000a1 --out incident.json --schedulers 127.0.0.1:7600"
    )]
    Export(ExportArgs),
    /// Cancel a query
    #[command(after_help = "Example:\n  polybolos jobs cancel 00000000000000a1 --schedulers 127.0.0.1:7600")]
    Cancel(JobArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The query's id, as printed by `jobs list`
    #[arg(value_name = "ID")]
    pub(crate) id: polybolos_model::JobId,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The query's id, as printed by `jobs list`
    #[arg(value_name = "ID")]
    pub(crate) id: polybolos_model::JobId,
    /// Where it is written; a file that is there is replaced
    #[arg(long, value_name = "FILE")]
    pub(crate) out: std::path::PathBuf,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Take the answer of whichever replica is first, though it may be out of date; works without a majority
    #[arg(long, env = "POLYBOLOS_STALE")]
    pub(crate) stale: bool,
}

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// The query's id, as printed by `jobs list`
    #[arg(value_name = "ID")]
    pub(crate) id: polybolos_model::JobId,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}
