//! What a replica is told when it starts.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use polybolos_consensus::{Log, Snapshots, Store, Timing};
use polybolos_model::ReplicaId;
use polybolos_state::{
    ENTRY_VERSION,
    policy::{FairShare, Patience, SchedulingPolicy},
};
use url::Url;

/// Where the log is kept.
#[derive(Clone)]
pub enum LogKind {
    /// On disk, replicated to `cluster`, which names this replica too: others reach it there.
    Durable {
        cluster: BTreeMap<ReplicaId, String>,
        data_dir: PathBuf,
        store: Store,
        timing: Timing,
        snapshots: Snapshots,
        /// Highest version of entries that it says it can apply; lower than the program's only to keep a downgrade
        /// possible.
        version: u16,
    },
    /// In this process, lost with it.
    InMemory,
    /// One that the caller made. Tests script it.
    Given(Arc<dyn Log>),
}

impl LogKind {
    /// On disk, with the default times and this program's version.
    pub fn durable(cluster: BTreeMap<ReplicaId, String>, data_dir: impl Into<PathBuf>) -> Self {
        Self::Durable {
            cluster,
            data_dir: data_dir.into(),
            store: Store::default(),
            timing: Timing::default(),
            snapshots: Snapshots::default(),
            version: ENTRY_VERSION,
        }
    }
}

impl fmt::Debug for LogKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Durable { cluster, data_dir, store, timing, snapshots, version } => f
                .debug_struct("Durable")
                .field("cluster", cluster)
                .field("data_dir", data_dir)
                .field("store", store)
                .field("timing", timing)
                .field("snapshots", snapshots)
                .field("version", version)
                .finish(),
            Self::InMemory => f.write_str("InMemory"),
            Self::Given(_) => f.write_str("Given"),
        }
    }
}

#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    pub id: ReplicaId,
    /// `HOST:PORT`; port 0 picks a free one.
    pub listen: String,
    pub log: LogKind,
    /// How often executors are asked to beat, and how often their beats go into the log.
    pub heartbeat_interval: Duration,
    /// When executors are lost, and jobs that none takes up given up.
    pub patience: Patience,
    /// Which job gets the next free slot while this replica leads. Starts of tasks are off the log, so replicas may have
    /// different ones.
    pub scheduling: Arc<dyn SchedulingPolicy>,
    /// Jobs that may wait before the first of their tasks runs, while this replica leads; a submit beyond it is refused. 0:
    /// only the cluster's own limit counts, [`MAX_ACTIVE_JOBS`](polybolos_model::limits::MAX_ACTIVE_JOBS).
    pub max_queued_jobs: u32,
    /// How often the leader looks for silent executors, unwatched jobs, jobs whose time is over and results that nobody
    /// fetched.
    pub tick_interval: Duration,
    /// How long the planning of one statement may take, with the wait for its turn.
    pub planning_deadline: Duration,
    /// How long a request may wait for the log.
    pub request_deadline: Duration,
    /// URL of the folder in which `CREATE TABLE AS` makes a folder for each table. Without one there is no such statement.
    pub warehouse: Option<Url>,
    /// What a statement has staged is looked for once more so long after its end, for executors that were away meanwhile
    /// and wrote on.
    pub sweep_grace: Duration,
}

impl SchedulerConfig {
    /// The default times and order of jobs.
    pub fn new(id: ReplicaId, listen: impl Into<String>, log: LogKind) -> Self {
        Self {
            id,
            listen: listen.into(),
            log,
            heartbeat_interval: Duration::from_millis(500),
            patience: Patience::default(),
            scheduling: Arc::new(FairShare),
            max_queued_jobs: 0,
            tick_interval: Duration::from_millis(250),
            planning_deadline: Duration::from_secs(60),
            request_deadline: Duration::from_secs(10),
            warehouse: None,
            sweep_grace: Duration::from_secs(60),
        }
    }
}
