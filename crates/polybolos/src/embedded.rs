//! A whole cluster in one process: real services on loopback, folders of its own.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use futures::future::join_all;
use polybolos_client::{Client, ClientError};
use polybolos_env::Env;
use polybolos_executor::{Executor, ExecutorConfig, ExecutorFailure, ExecutorHandle, ShuffleDurable};
use polybolos_model::{ExecutorId, IdParseError, ReplicaId};
use polybolos_planner::Extensions;
use polybolos_scheduler::{
    FairShare, LogKind, Scheduler, SchedulerConfig, SchedulerHandle, SchedulingPolicy,
};
use tempfile::TempDir;
use tokio::time::timeout;
use url::Url;

use crate::{addresses::free_addresses, distribute::with_table_codec};

/// From the start of the executors until all are registered.
pub const REGISTRATION_DEADLINE: Duration = Duration::from_secs(30);
/// How long a shutdown waits for releases under way.
pub const SETTLE_DEADLINE: Duration = Duration::from_secs(5);

/// How long a shutdown waits for each of several schedulers. Their logs go with the temporary folder.
const STOP_PATIENCE: Duration = Duration::from_millis(500);

const ANY_PORT: &str = "127.0.0.1:0";

/// What an embedded cluster is made of.
///
/// The order of queries is an example of what a program may bring itself:
///
/// ```
/// use std::sync::Arc;
///
/// use polybolos::{EmbeddedConfig, FairShare, Job, Rank, SchedulingPolicy};
///
/// /// Within each priority, queries of sessions come before those without.
/// #[derive(Debug)]
/// struct SessionsFirst;
///
/// impl SchedulingPolicy for SessionsFirst {
///     fn rank(&self, job: &Job, running: u32) -> Rank {
///         let fair = FairShare.rank(job, running);
///         Rank { class: 2 * fair.class + u32::from(job.session.is_none()), ..fair }
///     }
/// }
///
/// let config = EmbeddedConfig { scheduling: Arc::new(SessionsFirst), ..EmbeddedConfig::default() };
/// assert_eq!(config.max_queued_jobs, 0);
/// ```
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// Scheduler replicas, 1 or more. Several are durable, and elect their leader.
    pub schedulers: u32,
    pub executors: u32,
    /// Tasks that each executor runs at once.
    pub slots: u32,
    /// Of each executor.
    pub memory_bytes: u64,
    /// Whether a single scheduler keeps its log on disk, in the temporary folder, as a real one does.
    pub durable: bool,
    /// Which query gets the next free slot.
    pub scheduling: Arc<dyn SchedulingPolicy>,
    /// Queries that may wait before the first of their tasks runs; a submit beyond it is refused. 0 for no limit below the
    /// cluster's own.
    pub max_queued_jobs: u32,
    /// Where executors copy shuffle outputs to, so that they outlive them; `None` for nowhere.
    pub shuffle_durable: Option<ShuffleDurable>,
    /// Where `CREATE TABLE AS` makes the folders of its tables; in the temporary folder if `None`.
    pub warehouse: Option<Url>,
    /// Where the temporary folder is made; the system's place for such if `None`.
    pub parent_dir: Option<PathBuf>,
}

impl Default for EmbeddedConfig {
    /// One scheduler with its log in memory, two executors of one slot and 1 GiB, the default order of queries.
    fn default() -> Self {
        Self {
            schedulers: 1,
            executors: 2,
            slots: 1,
            memory_bytes: 1024 * 1024 * 1024,
            durable: false,
            scheduling: Arc::new(FairShare),
            max_queued_jobs: 0,
            shuffle_durable: None,
            warehouse: None,
            parent_dir: None,
        }
    }
}

/// The cluster can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the threads for query execution can't be started: {0}")]
    Threads(#[source] std::io::Error),
    #[error("no port of the loopback interface is free: {0}")]
    Network(#[source] std::io::Error),
    #[error("the temporary folder can't be made: {0}")]
    Folder(#[source] std::io::Error),
    #[error(transparent)]
    Scheduler(#[from] polybolos_scheduler::StartError),
    #[error(transparent)]
    Executor(#[from] polybolos_executor::StartError),
    #[error(transparent)]
    Name(#[from] IdParseError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Refused(#[from] ExecutorFailure),
    #[error("executor {executor} was not registered within {} s", REGISTRATION_DEADLINE.as_secs())]
    NotRegistered { executor: ExecutorId },
}

/// Some schedulers and some executors. Dropping it stops them in the background; [`EmbeddedCluster::shutdown`] waits.
pub struct EmbeddedCluster {
    // In the order in which a drop must stop them.
    client: Client,
    executors: Vec<ExecutorHandle>,
    schedulers: Vec<SchedulerHandle>,
    env: Env,
    folder: TempDir,
}

impl fmt::Debug for EmbeddedCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let executors: Vec<_> = self.executors.iter().map(ExecutorHandle::id).collect();
        f.debug_struct("EmbeddedCluster").field("executors", &executors).finish_non_exhaustive()
    }
}

impl EmbeddedCluster {
    /// Starts everything and waits until a scheduler leads and the executors are registered. `extensions` are given to each node.
    ///
    /// # Errors
    /// [`StartError`] says which part could not start; the others are stopped again.
    pub async fn start(config: EmbeddedConfig, extensions: Extensions) -> Result<Self, StartError> {
        let slots = config.executors.saturating_mul(config.slots).clamp(1, MAX_CPU_THREADS);
        let env = Env::production(slots as usize).map_err(StartError::Threads)?;
        Self::start_in(config, extensions, env).await
    }

    /// Like [`EmbeddedCluster::start`], in a given environment.
    ///
    /// # Errors
    /// As [`EmbeddedCluster::start`].
    pub async fn start_in(
        config: EmbeddedConfig,
        extensions: Extensions,
        env: Env,
    ) -> Result<Self, StartError> {
        let extensions = with_table_codec(extensions);
        let folder = temporary_folder(&config).map_err(StartError::Folder)?;
        let schedulers = start_schedulers(&config, &folder, &env, &extensions).await?;
        let addresses: Vec<String> = schedulers.iter().map(SchedulerHandle::address).collect();
        let client = Client::connect(addresses.clone(), env.clone())?;
        let mut executors = Vec::new();
        for number in 1..=config.executors {
            let id = ExecutorId::new(format!("executor-{number}"))?;
            let work_dir = folder.path().join(id.as_str());
            let config = ExecutorConfig {
                slots: config.slots,
                memory_bytes: config.memory_bytes,
                shuffle_durable: config.shuffle_durable.clone(),
                ..ExecutorConfig::new(id, addresses.clone(), work_dir)
            };
            executors.push(Executor::start(config, env.clone(), extensions.clone()).await?);
        }
        // Only a leader answers.
        client.status().await?;
        let registered = join_all(executors.iter().map(registered)).await;
        registered.into_iter().collect::<Result<(), _>>()?;
        Ok(Self { client, executors, schedulers, env, folder })
    }

    /// A client of this cluster; its clones share one set of connections.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// `HOST:PORT` of the first scheduler, for other processes of this machine.
    pub fn address(&self) -> String {
        self.schedulers.first().map(SchedulerHandle::address).unwrap_or_default()
    }

    /// Those of all schedulers.
    pub fn addresses(&self) -> Vec<String> {
        self.schedulers.iter().map(SchedulerHandle::address).collect()
    }

    pub fn executors(&self) -> &[ExecutorHandle] {
        &self.executors
    }

    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Stops the executors, then the schedulers, and removes the temporary folder.
    pub async fn shutdown(self) {
        if timeout(SETTLE_DEADLINE, self.client.settle()).await.is_err() {
            tracing::warn!("some queries were not released before the shutdown");
        }
        join_all(self.executors.into_iter().map(ExecutorHandle::shutdown)).await;
        // One of several would first hand over to another that stops as well.
        let patience = if self.schedulers.len() > 1 { STOP_PATIENCE } else { Duration::MAX };
        let stopping = self.schedulers.into_iter().map(|one| timeout(patience, one.shutdown()));
        join_all(stopping).await;
        if let Err(error) = self.folder.close() {
            tracing::warn!(%error, "the cluster's temporary folder was not removed");
        }
    }
}

/// More threads than this don't help any machine that we know of.
const MAX_CPU_THREADS: u32 = 1_024;

fn temporary_folder(config: &EmbeddedConfig) -> std::io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("polybolos-");
    match &config.parent_dir {
        Some(parent) => builder.tempdir_in(parent),
        None => builder.tempdir(),
    }
}

async fn start_schedulers(
    config: &EmbeddedConfig,
    folder: &TempDir,
    env: &Env,
    extensions: &Extensions,
) -> Result<Vec<SchedulerHandle>, StartError> {
    let count = u64::from(config.schedulers.max(1));
    let own_warehouse = || Url::from_directory_path(folder.path().join("warehouse")).ok();
    let warehouse = config.warehouse.clone().or_else(own_warehouse);
    let start = async |id, listen: String, log| {
        let of_scheduler = SchedulerConfig {
            warehouse: warehouse.clone(),
            scheduling: Arc::clone(&config.scheduling),
            max_queued_jobs: config.max_queued_jobs,
            ..SchedulerConfig::new(id, listen, log)
        };
        Scheduler::start(of_scheduler, env.clone(), extensions.clone()).await
    };
    if count == 1 && !config.durable {
        return Ok(vec![start(ReplicaId(1), ANY_PORT.to_owned(), LogKind::InMemory).await?]);
    }
    // The log names the replicas' addresses for good, so that they must be known before.
    let addresses = free_addresses(env, count).await.map_err(StartError::Network)?;
    let cluster: BTreeMap<ReplicaId, String> = (1..=count).map(ReplicaId).zip(addresses).collect();
    let mut schedulers = Vec::new();
    for (id, address) in &cluster {
        let data_dir = folder.path().join(format!("scheduler-{id}"));
        let log = LogKind::durable(cluster.clone(), data_dir);
        schedulers.push(start(*id, address.clone(), log).await?);
    }
    Ok(schedulers)
}

async fn registered(executor: &ExecutorHandle) -> Result<(), StartError> {
    let mut status = executor.watch();
    let settled = status.wait_for(|status| status.incarnation.is_some() || status.failure.is_some());
    let not_registered = || StartError::NotRegistered { executor: executor.id().clone() };
    match timeout(REGISTRATION_DEADLINE, settled).await {
        Ok(Ok(status)) => match &status.failure {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        },
        Ok(Err(_)) | Err(_) => Err(not_registered()),
    }
}

#[cfg(test)]
mod tests {
    use polybolos_client::Consistency;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn three_schedulers_elect_one_and_each_has_what_it_committed() {
        let config = EmbeddedConfig { schedulers: 3, executors: 1, ..EmbeddedConfig::default() };
        let cluster = EmbeddedCluster::start(config, Extensions::default()).await.unwrap();
        let client = cluster.client();
        client.query("CREATE VIEW v AS SELECT 42 AS a").await.unwrap();
        assert_eq!(client.query("SELECT a FROM v").await.unwrap().num_rows(), 1);
        let replicas = client.status().await.unwrap().replicas;
        assert_eq!(replicas.iter().filter(|replica| replica.leader).count(), 1, "{replicas:#?}");
        let addresses = cluster.addresses();
        assert_eq!((addresses.len(), &addresses[0]), (3, &cluster.address()));
        for address in addresses {
            let one = Client::connect(vec![address.clone()], cluster.env().clone()).unwrap();
            let mut relations = Vec::new();
            for _ in 0..500 {
                relations = one.relations_with(Consistency::Stale).await.unwrap();
                if relations.contains(&"v".to_owned()) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(relations, ["v"], "{address}");
        }
        cluster.shutdown().await;
    }
}
