//! `demo`.

use clap::Args;

use super::super::values::scale;

/// Start a cluster of processes, run a query, kill the leader in the middle and show what happened, in under a minute
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos demo")]
pub(crate) struct DemoArgs {
    /// Scale factor of the data
    #[arg(long, value_name = "S", default_value = "0.1", env = "POLYBOLOS_SCALE", value_parser = scale)]
    pub(crate) scale: f64,
}
