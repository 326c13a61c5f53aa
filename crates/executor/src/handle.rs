//! Starting an executor, and what its owner holds.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use datafusion::execution::disk_manager::DiskManagerMode;
use polybolos_env::{Env, Listener, grpc};
use polybolos_model::{ExecutorId, Incarnation};
use polybolos_planner::Extensions;
use polybolos_proto::v1::Register;
use polybolos_shuffle::{FlightPool, ShuffleConfig, ShuffleStore, flight_service};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    config::{ExecutorConfig, ExecutorFailure, Spill, StartError},
    dirs::Dirs,
    durable,
    link::Link,
    node::Node,
    runtime::Runtime,
    staged::Staged,
    task::Tools,
};

/// How long a shutdown waits for readers of its outputs.
const SERVER_DEADLINE: Duration = Duration::from_secs(1);

/// Where an executor stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecutorStatus {
    /// `None` while no scheduler has it registered.
    pub incarnation: Option<Incarnation>,
    pub busy_slots: usize,
    /// Commands of deposed leaders that it ignored.
    pub refused_commands: u64,
    /// It was drained and let go, or nobody has let it go in time: it stops by itself.
    pub left: bool,
    pub failure: Option<ExecutorFailure>,
}

/// Namespace for [`Executor::start`].
#[derive(Debug)]
pub struct Executor;

/// A running executor. Dropping it stops it in the background; [`ExecutorHandle::shutdown`] waits.
#[derive(Debug)]
pub struct ExecutorHandle {
    id: ExecutorId,
    address: String,
    status: watch::Receiver<ExecutorStatus>,
    drain: watch::Sender<Option<Duration>>,
    stop: oneshot::Sender<()>,
    main: JoinHandle<()>,
}

impl Executor {
    /// Listens, then registers with a scheduler in the background, for ever.
    ///
    /// # Errors
    /// [`StartError`] says which setting can't be used. A scheduler that can't be reached is no error.
    pub async fn start(
        config: ExecutorConfig,
        env: Env,
        extensions: Extensions,
    ) -> Result<ExecutorHandle, StartError> {
        config.validate()?;
        let listener = listen(&env, &config).await?;
        let address = advertised(&config, listener.as_ref())?;
        let process_id = env.random.next_u64();
        let dirs = Arc::new(Dirs::new(&config.work_dir, &config.id, process_id));
        let made = dirs.create(&env).await;
        made.map_err(|(path, source)| StartError::WorkDir { path, source })?;
        let (shuffle_bytes, operator_bytes) = config.budgets();
        let store_config = ShuffleConfig {
            dir: dirs.shuffle(),
            memory_budget_bytes: shuffle_bytes,
            compression: config.compression,
            host_files: config.host_files,
            durable: match &config.shuffle_durable {
                Some(durable) => Some(durable::open(&env, durable, &extensions, config.compression).await?),
                None => None,
            },
        };
        let store = ShuffleStore::open(&env, store_config).await?;
        let spill = match config.spill {
            Spill::WorkDir => DiskManagerMode::Directories(vec![dirs.spill()]),
            Spill::Custom(factory) => DiskManagerMode::Custom(factory),
        };
        let runtime = Runtime::new(operator_bytes, config.memory_pool, spill, config.slots, extensions)?;
        let pool = FlightPool::new(&env, Default::default());
        let (stop_server, server_stopped) = oneshot::channel::<()>();
        let server = grpc::server()
            .add_service(flight_service(Arc::clone(&store)))
            .serve_with_incoming_shutdown(grpc::incoming(listener), async move {
                let _ = server_stopped.await;
            });
        let server = tokio::spawn(server);
        let tools = Tools {
            env: env.clone(),
            runtime,
            store,
            pool,
            dirs: Arc::clone(&dirs),
            me: config.id.clone(),
            staged: Staged::default(),
            durable: config.shuffle_durable.as_ref().map(|durable| durable.mode),
        };
        let register = Register {
            executor_id: config.id.to_string(),
            address: address.clone(),
            slots: config.slots,
            memory_bytes: config.memory_bytes,
            labels: durable::label(config.labels, config.shuffle_durable.as_ref()).into_iter().collect(),
            process_id,
            running: Vec::new(),
        };
        let (publish, status) = watch::channel(ExecutorStatus::default());
        let link = Link::new(&env, config.id.clone(), config.schedulers);
        let node = Node::new(register, Arc::new(tools), link, publish);
        let (stop, stopped) = oneshot::channel();
        let (drain, drained) = watch::channel(None);
        tracing::info!(executor = %config.id, %address, "the executor listens");
        let main = tokio::spawn(async move {
            node.run(stopped, drained).await;
            drop(stop_server);
            let _ = timeout(SERVER_DEADLINE, server).await;
            dirs.remove(&env).await;
        });
        Ok(ExecutorHandle { id: config.id, address, status, drain, stop, main })
    }
}

impl ExecutorHandle {
    pub fn id(&self) -> &ExecutorId {
        &self.id
    }

    /// `HOST:PORT` of its Arrow Flight service, as others reach it.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    pub fn status(&self) -> ExecutorStatus {
        self.status.borrow().clone()
    }

    /// Changes of [`ExecutorHandle::status`].
    pub fn watch(&self) -> watch::Receiver<ExecutorStatus> {
        self.status.clone()
    }

    /// Asks the scheduler to drain the executor: it gets no new tasks, its own may run for `deadline`, its outputs go to
    /// other executors, and then it leaves, as [`ExecutorHandle::left`] and the status tell. It serves until then, and
    /// leaves by itself when no scheduler answers for a few seconds, or a little after the deadline. Asked again, the last
    /// deadline counts.
    pub fn drain(&self, deadline: Duration) {
        self.drain.send_replace(Some(deadline));
    }

    /// Waits until the executor has left the cluster, or has stopped for another reason.
    pub async fn left(&self) {
        let mut status = self.status.clone();
        // An error means that it has stopped.
        let _ = status.wait_for(|status| status.left).await;
    }

    /// Waits until the executor can't go on, and says why.
    pub async fn failed(&self) -> ExecutorFailure {
        let mut status = self.status.clone();
        let failure = match status.wait_for(|status| status.failure.is_some()).await {
            Ok(status) => status.failure.clone(),
            Err(_) => None,
        };
        failure.unwrap_or_else(|| ExecutorFailure::Stopped { executor: self.id.clone() })
    }

    /// Stops all tasks, closes all connections and deletes what is in the work folder.
    pub async fn shutdown(self) {
        drop(self.stop);
        if let Err(error) = self.main.await {
            tracing::error!(%error, "the executor's run loop ended badly");
        }
    }
}

async fn listen(env: &Env, config: &ExecutorConfig) -> Result<Box<dyn Listener>, StartError> {
    let listening = env.net.listen(&config.listen).await;
    listening.map_err(|source| StartError::Listen { address: config.listen.clone(), source })
}

/// What others connect to.
fn advertised(config: &ExecutorConfig, listener: &dyn Listener) -> Result<String, StartError> {
    let local = listener.local_addr();
    let local: SocketAddr =
        local.map_err(|source| StartError::Listen { address: config.listen.clone(), source })?;
    match &config.advertise {
        Some(advertise) => Ok(match advertise.strip_suffix(":0") {
            Some(host) => format!("{host}:{}", local.port()),
            None => advertise.clone(),
        }),
        None if local.ip().is_unspecified() => Err(StartError::Advertise { address: local.to_string() }),
        // A name is kept: others may resolve it to another interface.
        None => Ok(match config.listen.strip_suffix(":0") {
            Some(host) => format!("{host}:{}", local.port()),
            None => config.listen.clone(),
        }),
    }
}
