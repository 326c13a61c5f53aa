//! `scheduler` and `executor`.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use polybolos_model::limits::MAX_ACTIVE_JOBS;
use polybolos_state::ENTRY_VERSION;
use url::Url;

use super::{
    super::values::{Size, address, duration, duration_or_zero, label, listen_address, member, url},
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
    /// Where CREATE TABLE AS makes a folder for each table; the same on all replicas. For example s3://bucket/prefix (with
    /// the usual AWS_… variables) or file:///shared/folder
    #[arg(long, value_name = "URL", env = "POLYBOLOS_WAREHOUSE", value_parser = url)]
    pub(crate) warehouse: Option<Url>,
    /// What a statement that writes has left behind is looked for once more so long after its end
    #[arg(long, value_name = "TIME", default_value = "1m", env = "POLYBOLOS_SWEEP_GRACE", value_parser = duration)]
    pub(crate) sweep_grace: Duration,
    /// Queries that may wait for the first of their tasks to run; a submit beyond it is refused, and clients try again for
    /// some seconds. The same on all replicas; 0 for no limit below the cluster's own of 10,000 queries
    #[arg(long, value_name = "N", default_value_t = 0, env = "POLYBOLOS_MAX_QUEUED_JOBS")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=MAX_ACTIVE_JOBS as i64))]
    pub(crate) max_queued_jobs: u32,
    #[command(flatten)]
    pub(crate) timing: TimingArgs,
    #[command(flatten)]
    pub(crate) patience: PatienceArgs,
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

/// When executors count as lost, and queries that none takes up are given up. The same on all replicas of a cluster.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct PatienceArgs {
    /// How often executors let hear of themselves
    #[arg(long, value_name = "TIME", default_value = "500ms", env = "POLYBOLOS_EXECUTOR_HEARTBEAT")]
    #[arg(value_parser = duration)]
    pub(crate) executor_heartbeat: Duration,
    /// An executor that is silent for this long is lost; at least three heartbeats, and above 1s
    #[arg(long, value_name = "TIME", default_value = "3s", env = "POLYBOLOS_EXECUTOR_TIMEOUT")]
    #[arg(value_parser = duration)]
    pub(crate) executor_timeout: Duration,
    /// So is one whose connection broke and that did not come back within this time; at once if nothing listens any more
    /// where it served
    #[arg(long, value_name = "TIME", default_value = "1s", env = "POLYBOLOS_STREAM_GRACE")]
    #[arg(value_parser = duration)]
    pub(crate) stream_grace: Duration,
    /// A query fails that has waited this long while no executor took tasks; 0 to wait for ever
    #[arg(long, value_name = "TIME", default_value = "5m", env = "POLYBOLOS_NO_EXECUTOR_WAIT")]
    #[arg(value_parser = duration_or_zero)]
    pub(crate) no_executor_wait: Duration,
}

/// For those who start nodes as children of theirs.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ChildArgs {
    /// Stop when standard input ends, as it does with the process that holds the other end
    #[arg(long, hide = true)]
    pub(crate) until_stdin_ends: bool,
}

/// How shuffle data is written to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompressionArg {
    None,
    Lz4,
}

/// How executors of one machine get each other's shuffle data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SameHostArg {
    /// They read each other's files, as far as the data is in files
    Files,
    /// Over the network, as from any other machine
    Network,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurableModeArg {
    /// It is copied in the background: no query waits, and what is not copied yet is lost with its executor
    Background,
    /// It is copied before the task counts as done: queries take longer, and finished work is never lost
    Before,
}

/// Run one executor until SIGTERM or SIGINT, or ask one to leave
///
/// On SIGTERM it takes no new tasks, finishes its own and hands its outputs over to other executors before it ends; a second
/// signal, and SIGINT at any time, ends it at once.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Example:\n  polybolos executor --schedulers 127.0.0.1:7600 --listen 127.0.0.1:7701 \
    --slots 4 --memory 8GiB --work-dir /var/tmp/polybolos/1")]
pub(crate) struct ExecutorArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Address to serve shuffle data and results at
    #[arg(long, required = true, value_name = "HOST:PORT", env = "POLYBOLOS_LISTEN", value_parser = listen_address)]
    pub(crate) listen: Option<String>,
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
    /// How much of the memory shuffle data may take before it goes to files [default: a fifth]
    #[arg(long, value_name = "SIZE", env = "POLYBOLOS_SHUFFLE_MEMORY")]
    pub(crate) shuffle_memory: Option<Size>,
    /// Folder for shuffle and spill files; made if it isn't there
    #[arg(long, required = true, value_name = "DIR", env = "POLYBOLOS_WORK_DIR")]
    pub(crate) work_dir: Option<PathBuf>,
    /// Compression of shuffle files
    #[arg(long, value_enum, default_value = "lz4", env = "POLYBOLOS_COMPRESSION")]
    pub(crate) compression: CompressionArg,
    /// How it and other executors on this machine get each other's shuffle data
    #[arg(long, value_enum, default_value = "files", env = "POLYBOLOS_SAME_HOST")]
    pub(crate) same_host: SameHostArg,
    /// Copy shuffle data to this object store or shared folder too, so that the loss of an executor costs no
    /// finished work; the same on all executors. For example s3://bucket/prefix (with the usual AWS_… variables) or file:///shared/folder
    #[arg(long, value_name = "URL", env = "POLYBOLOS_SHUFFLE_DURABLE", value_parser = url)]
    pub(crate) shuffle_durable: Option<Url>,
    /// Whether a task counts as done before its data is copied, or only after
    #[arg(long, value_enum, default_value = "background", env = "POLYBOLOS_SHUFFLE_DURABLE_MODE")]
    pub(crate) shuffle_durable_mode: DurableModeArg,
    /// A label, such as its zone; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// How long its tasks may run on after SIGTERM, before they move to other executors; 0 to end at once without handing
    /// anything over
    #[arg(long, value_name = "TIME", default_value = "60s", env = "POLYBOLOS_DRAIN_DEADLINE")]
    #[arg(value_parser = duration_or_zero)]
    pub(crate) drain_deadline: Duration,
    #[command(flatten)]
    pub(crate) child: ChildArgs,
    #[command(subcommand)]
    pub(crate) command: Option<ExecutorCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExecutorCommand {
    Drain(DrainArgs),
}

/// Ask an executor to leave without loss: it takes no new tasks, finishes its own, hands its outputs over, and ends
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos executor drain e1 --deadline 5m --schedulers 127.0.0.1:7600")]
pub(crate) struct DrainArgs {
    /// Its name, as `polybolos status` shows it
    #[arg(value_name = "ID")]
    pub(crate) executor: polybolos_model::ExecutorId,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// How long its tasks may run on before they move to other executors
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration_or_zero)]
    pub(crate) deadline: Duration,
    /// Return once it is asked, and don't wait until it has left
    #[arg(long)]
    pub(crate) no_wait: bool,
}
