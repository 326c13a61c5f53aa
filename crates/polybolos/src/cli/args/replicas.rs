//! `cluster`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{super::values::address, ClusterArgs, ReadArgs};

/// Operate the set of scheduler replicas: look, add, remove, hand over, back up, restore, recover
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos cluster status --schedulers 127.0.0.1:7600")]
pub(crate) struct ReplicasArgs {
    #[command(subcommand)]
    pub(crate) command: ReplicasCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReplicasCommand {
    /// Show replicas and executors, like `polybolos status`
    #[command(after_help = "Example:\n  polybolos cluster status --schedulers 127.0.0.1:7600")]
    Status(ReadArgs),
    Add(AddArgs),
    Remove(RemoveArgs),
    Transfer(TransferArgs),
    Snapshot(SnapshotArgs),
    Restore(RestoreArgs),
    Recover(RecoverArgs),
}

/// Enter a new replica, which should run already, and wait until it votes
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos cluster add --id 4 --address 127.0.0.1:7603 \
    --schedulers 127.0.0.1:7600")]
pub(crate) struct AddArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Its id, which the cluster has never seen
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) id: u64,
    /// Address at which the other replicas reach it
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub(crate) address: String,
}

/// Take a replica out for good: its id is never used again, and it may be stopped then
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos cluster remove --id 3 --schedulers 127.0.0.1:7600")]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Its id
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) id: u64,
}

/// Hand leadership to another replica
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos cluster transfer --to 2 --schedulers 127.0.0.1:7600")]
pub(crate) struct TransferArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// To which [default: the voter that is furthest]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) to: Option<u64>,
}

/// Write the whole state to a backup file
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  polybolos cluster snapshot --out polybolos.backup --schedulers 127.0.0.1:7600"
)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// File to write; one that is there is replaced in one step
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// Make the data folder of the first replica of a new cluster from a backup file
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  polybolos cluster restore --from polybolos.backup --data-dir /var/lib/polybolos/1 \
    --id 1 --address 127.0.0.1:7600"
)]
pub(crate) struct RestoreArgs {
    /// The backup file
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// Folder to make; it must not hold anything yet
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
    /// Id of the replica that will be started on it
    #[arg(long, value_name = "N", env = "POLYBOLOS_ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) id: u64,
    /// Address at which others will reach it
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub(crate) address: String,
}

/// Go on with one replica whose peers are lost for good; what it had not received is lost too
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos cluster recover --force-from /var/lib/polybolos/1 --yes")]
pub(crate) struct RecoverArgs {
    /// Data folder of the surviving replica, which must not run; take the one that applied the most
    #[arg(long, value_name = "DIR")]
    pub(crate) force_from: PathBuf,
    /// Do it without asking on the terminal
    #[arg(long)]
    pub(crate) yes: bool,
}
