//! A whole cluster in one process: real services on loopback, folders of its own.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use futures::future::join_all;
use polybolos_client::{Client, ClientError};
use polybolos_env::Env;
use polybolos_executor::{Executor, ExecutorConfig, ExecutorFailure, ExecutorHandle};
use polybolos_model::{ExecutorId, IdParseError, ReplicaId};
use polybolos_planner::Extensions;
use polybolos_scheduler::{LogKind, Scheduler, SchedulerConfig, SchedulerHandle};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::distribute::with_table_codec;

/// From the start of the executors until all are registered.
pub const REGISTRATION_DEADLINE: Duration = Duration::from_secs(30);
/// How long a shutdown waits for releases under way.
pub const SETTLE_DEADLINE: Duration = Duration::from_secs(5);

const ANY_PORT: &str = "127.0.0.1:0";

/// What an embedded cluster is made of.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    pub executors: u32,
    /// Tasks that each executor runs at once.
    pub slots: u32,
    /// Of each executor.
    pub memory_bytes: u64,
    /// Whether the scheduler keeps its log on disk, in the temporary folder, as a real one does.
    pub durable: bool,
    /// Where the temporary folder is made; the system's place for such if `None`.
    pub parent_dir: Option<PathBuf>,
}

impl Default for EmbeddedConfig {
    /// Two executors of one slot and 1 GiB, the scheduler's log in memory.
    fn default() -> Self {
        Self { executors: 2, slots: 1, memory_bytes: 1024 * 1024 * 1024, durable: false, parent_dir: None }
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

/// One scheduler and some executors. Dropping it stops them in the background; [`EmbeddedCluster::shutdown`] waits.
pub struct EmbeddedCluster {
    // In the order in which a drop must stop them.
    client: Client,
    executors: Vec<ExecutorHandle>,
    scheduler: SchedulerHandle,
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
    /// Starts everything and waits until the executors are registered. `extensions` are given to each node.
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
        let scheduler = start_scheduler(&config, &folder, &env, &extensions).await?;
        let schedulers = vec![scheduler.address()];
        let client = Client::connect(schedulers.clone(), env.clone())?;
        let mut executors = Vec::new();
        for number in 1..=config.executors {
            let id = ExecutorId::new(format!("executor-{number}"))?;
            let work_dir = folder.path().join(id.as_str());
            let config = ExecutorConfig {
                slots: config.slots,
                memory_bytes: config.memory_bytes,
                ..ExecutorConfig::new(id, schedulers.clone(), work_dir)
            };
            executors.push(Executor::start(config, env.clone(), extensions.clone()).await?);
        }
        let registered = join_all(executors.iter().map(registered)).await;
        registered.into_iter().collect::<Result<(), _>>()?;
        Ok(Self { client, executors, scheduler, env, folder })
    }

    /// A client of this cluster; its clones share one set of connections.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// `HOST:PORT` of the scheduler, for other processes of this machine.
    pub fn address(&self) -> String {
        self.scheduler.address()
    }

    pub fn executors(&self) -> &[ExecutorHandle] {
        &self.executors
    }

    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Stops the executors, then the scheduler, and removes the temporary folder.
    pub async fn shutdown(self) {
        if timeout(SETTLE_DEADLINE, self.client.settle()).await.is_err() {
            tracing::warn!("some queries were not released before the shutdown");
        }
        join_all(self.executors.into_iter().map(ExecutorHandle::shutdown)).await;
        self.scheduler.shutdown().await;
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

async fn start_scheduler(
    config: &EmbeddedConfig,
    folder: &TempDir,
    env: &Env,
    extensions: &Extensions,
) -> Result<SchedulerHandle, StartError> {
    let id = ReplicaId(1);
    let (listen, log) = if config.durable {
        // The log names the replica's address for good, so that it must be known before.
        let address = free_address(env).await.map_err(StartError::Network)?;
        let (cluster, data_dir) = (BTreeMap::from([(id, address.clone())]), folder.path().join("scheduler"));
        (address, LogKind::Durable { cluster, data_dir })
    } else {
        (ANY_PORT.to_owned(), LogKind::InMemory)
    };
    Ok(Scheduler::start(SchedulerConfig::new(id, listen, log), env.clone(), extensions.clone()).await?)
}

/// Free now; that another process takes it before the scheduler does is unlikely, and reported if it happens.
async fn free_address(env: &Env) -> std::io::Result<String> {
    Ok(env.net.listen(ANY_PORT).await?.local_addr()?.to_string())
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
