//! `local` and `sql`.

use std::time::Duration;

use clap::Args;

use super::{
    super::values::{NamedTable, duration},
    ClusterArgs, ScriptArgs,
};

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
    /// Scheduler replicas to start; several keep their logs on disk, in a temporary folder
    // No variable: POLYBOLOS_SCHEDULERS holds addresses.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=9))]
    pub(crate) schedulers: u32,
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
    /// How long a statement may wait to be accepted, such as 500ms, 30s or 2m: by a cluster without a leader or quorum, or
    /// a busy one. How long a query then runs is not limited
    #[arg(long, value_name = "TIME", default_value = "2m", env = "POLYBOLOS_TIMEOUT", value_parser = duration)]
    pub(crate) timeout: Duration,
}
