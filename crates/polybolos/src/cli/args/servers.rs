//! `scheduler` and `executor`.

use std::{ops::RangeInclusive, path::PathBuf};

use clap::{Args, ValueEnum};
use polybolos_state::ENTRY_VERSION;

use super::{
    super::values::{Size, address, label, listen_address, member},
    ClusterArgs,
};

/// Milliseconds of the timing flags.
const MS: RangeInclusive<u64> = 1..=600_000;

/// Run one scheduler replica until SIGTERM or SIGINT
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos scheduler --id 1 --listen 127.0.0.1:7600 \
    --cluster 1=127.0.0.1:7600,2=127.0.0.1:7601,3=127.0.0.1:7602 --data-dir /var/lib/polybolos/1")]
pub(crate) struct SchedulerArgs {
    /// This replica's id, one of --cluster
    #[arg(long, value_name = "N", env = "POLYBOLOS_ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) id: u64,
    /// Address to serve at
    #[arg(long, value_name = "HOST:PORT", env = "POLYBOLOS_LISTEN", value_parser = listen_address)]
    pub(crate) listen: String,
    /// All replicas of the cluster, with the addresses at which others reach them. They are the first voters of a new
    /// cluster; later the log knows better, and `cluster add` and `cluster remove` change them
    #[arg(long, required = true, value_name = "ID=HOST:PORT", value_delimiter = ',', value_parser = member)]
    #[arg(env = "POLYBOLOS_CLUSTER")]
    pub(crate) cluster: Vec<(u64, String)>,
    /// Folder of this replica's log; made if it isn't there
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) timing: TimingArgs,
    /// Apply and announce at most this version of entries, so that the cluster stays at it and this replica can go back
    /// to the program of that version
    #[arg(long, value_name = "V", env = "POLYBOLOS_HOLD_VERSION")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(ENTRY_VERSION)))]
    pub(crate) hold_version: Option<u16>,
    #[command(flatten)]
    pub(crate) child: ChildArgs,
}

/// How quickly a lost leader is replaced. The same on all replicas of a cluster.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct TimingArgs {
    /// How often the leader lets hear of itself; below the lease
    #[arg(long, value_name = "MS", default_value_t = 100, env = "POLYBOLOS_HEARTBEAT_MS")]
    #[arg(value_parser = clap::value_parser!(u64).range(MS))]
    pub(crate) heartbeat_ms: u64,
    /// For how long a replica that has heard its leader consents to no other
    #[arg(long, value_name = "MS", default_value_t = 300, env = "POLYBOLOS_LEASE_MS")]
    #[arg(value_parser = clap::value_parser!(u64).range(MS))]
    pub(crate) lease_ms: u64,
    /// A replica that hears no leader campaigns after a time drawn from here; at least the lease …
    #[arg(long, value_name = "MS", default_value_t = 300, env = "POLYBOLOS_ELECTION_MIN_MS")]
    #[arg(value_parser = clap::value_parser!(u64).range(MS))]
    pub(crate) election_min_ms: u64,
    /// … to here
    #[arg(long, value_name = "MS", default_value_t = 600, env = "POLYBOLOS_ELECTION_MAX_MS")]
    #[arg(value_parser = clap::value_parser!(u64).range(MS))]
    pub(crate) election_max_ms: u64,
}

/// For those who start nodes as children of theirs.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ChildArgs {
    /// Stop when standard input ends, as it does with the process that holds the other end
    #[arg(long, hide = true)]
    pub(crate) until_stdin_ends: bool,
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
    #[command(flatten)]
    pub(crate) child: ChildArgs,
}
