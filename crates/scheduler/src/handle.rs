//! Starting and stopping a replica.

use std::{sync::Arc, time::Duration};

use polybolos_consensus::{Fatal, Log, ReplicaConfig, in_memory, open};
use polybolos_env::{Env, grpc};
use polybolos_model::limits::MAX_MESSAGE_BYTES;
use polybolos_planner::Extensions;
use polybolos_proto::v1::{
    executor_service_server::ExecutorServiceServer, query_service_server::QueryServiceServer,
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::{
    config::{LogKind, SchedulerConfig},
    error::StartError,
    front::Front,
    rpc::{ExecutorRpc, QueryRpc},
    run_loop::RunLoop,
    shared::Shared,
};

/// How long open connections may take to end at a shutdown, before they are cut.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// A replica; see [`Scheduler::start`].
pub struct Scheduler;

impl Scheduler {
    /// Listens, opens the log and serves. The replica runs until [`SchedulerHandle::shutdown`].
    ///
    /// # Errors
    /// The address is taken, or the log does not open.
    pub async fn start(
        config: SchedulerConfig,
        env: Env,
        extensions: Extensions,
    ) -> Result<SchedulerHandle, StartError> {
        let listen = |source| StartError::Listen { address: config.listen.clone(), source };
        let listener = env.net.listen(&config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?.to_string();
        let log = open_log(&config, &env, &address).await?;
        let front = Front::new(extensions, env.clone(), config.planning_deadline)?;
        let (shared, inputs) = Shared::new(config, env, Arc::clone(&log), front, address.clone());
        let (stop, stopped) = watch::channel(false);
        let run_loop = tokio::spawn(RunLoop::new(Arc::clone(&shared), inputs).run(stopped.clone()));
        let server = tokio::spawn(serve(shared, listener, stopped));
        Ok(SchedulerHandle { address, log, stop, run_loop, server })
    }
}

async fn open_log(config: &SchedulerConfig, env: &Env, address: &str) -> Result<Arc<dyn Log>, StartError> {
    match &config.log {
        LogKind::Durable { cluster, data_dir } => {
            let replica =
                ReplicaConfig { id: config.id, cluster: cluster.clone(), data_dir: data_dir.clone() };
            Ok(open(replica, env).await?)
        }
        LogKind::InMemory => {
            let cluster_id = format!("memory-{:016x}", env.random.next_u64());
            Ok(in_memory(config.id, address.to_owned(), cluster_id))
        }
    }
}

async fn serve(
    shared: Arc<Shared>,
    listener: Box<dyn polybolos_env::Listener>,
    mut stopped: watch::Receiver<bool>,
) {
    let executors = ExecutorServiceServer::new(ExecutorRpc::new(Arc::clone(&shared)))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let queries = QueryServiceServer::new(QueryRpc::new(shared))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let stop = async move {
        // An error means that the handle is gone, which ends the replica as well.
        let _ = stopped.changed().await;
    };
    let server = grpc::server().add_service(executors).add_service(queries);
    if let Err(error) = server.serve_with_incoming_shutdown(grpc::incoming(listener), stop).await {
        tracing::error!(%error, "the server ended");
    }
}

/// A running replica. Dropping it stops the replica without waiting for that.
pub struct SchedulerHandle {
    address: String,
    log: Arc<dyn Log>,
    stop: watch::Sender<bool>,
    run_loop: JoinHandle<()>,
    server: JoinHandle<()>,
}

impl SchedulerHandle {
    /// `HOST:PORT` where it serves.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Waits until the log has failed for good: then the process must exit.
    pub async fn failed(&self) -> Fatal {
        let mut fatal = self.log.fatal();
        match fatal.wait_for(Option::is_some).await {
            Ok(failure) => failure.clone(),
            Err(_) => None,
        }
        .unwrap_or_else(|| Fatal { reason: "it was dropped".into() })
    }

    /// Refuses new requests, ends the streams, then closes the log.
    pub async fn shutdown(self) {
        let Self { log, stop, run_loop, mut server, .. } = self;
        stop.send_replace(true);
        // It ends by itself, with the entry that it is committing.
        if run_loop.await.is_err() {
            tracing::error!("the run loop had panicked");
        }
        if timeout(SHUTDOWN_GRACE, &mut server).await.is_err() {
            server.abort();
        }
        log.shutdown().await;
    }
}
