//! What a replica is told when it starts.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use polybolos_model::ReplicaId;

/// Where the log is kept.
#[derive(Debug, Clone)]
pub enum LogKind {
    /// On disk, replicated to `cluster`, which names this replica too.
    Durable { cluster: BTreeMap<ReplicaId, String>, data_dir: PathBuf },
    /// In this process, lost with it.
    InMemory,
}

#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    pub id: ReplicaId,
    /// `HOST:PORT`; port 0 picks a free one.
    pub listen: String,
    pub log: LogKind,
    /// How often executors are asked to beat. Well below [`polybolos_state::limits::EXECUTOR_TIMEOUT_MS`].
    pub heartbeat_interval: Duration,
    /// How often the leader looks for silent executors, unwatched jobs and results that nobody fetched.
    pub tick_interval: Duration,
    /// How long the planning of one statement may take, with the wait for its turn.
    pub planning_deadline: Duration,
    /// How long a request may wait for the log.
    pub request_deadline: Duration,
}

impl SchedulerConfig {
    /// The default times.
    pub fn new(id: ReplicaId, listen: impl Into<String>, log: LogKind) -> Self {
        Self {
            id,
            listen: listen.into(),
            log,
            heartbeat_interval: Duration::from_millis(500),
            tick_interval: Duration::from_millis(250),
            planning_deadline: Duration::from_secs(60),
            request_deadline: Duration::from_secs(10),
        }
    }
}
