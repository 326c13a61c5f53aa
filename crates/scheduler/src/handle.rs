//! Starting and stopping a replica.
//!
//! ```text
//!   start:     listen ─▶ open the log ─▶ serve (elections, admission and requests need the server)
//!   shutdown:  refuse requests ─▶ end the entry under way ─▶ log.shutdown() hands over ─▶ stop the server
//! ```
//!
//! A handover needs the server to the end: the other replicas ask this one, and executors are told to look elsewhere
//! by the end of their streams, which comes when another replica leads.

use std::{sync::Arc, time::Duration};

use polybolos_consensus::{Fatal, Log, Opened, ReplicaConfig, ReplicaServer, in_memory, open};
use polybolos_env::{Env, Listener, grpc};
use polybolos_model::limits::MAX_MESSAGE_BYTES;
use polybolos_planner::Extensions;
use polybolos_proto::v1::{
    cluster_service_server::ClusterServiceServer, executor_service_server::ExecutorServiceServer,
    planning_service_server::PlanningServiceServer, query_service_server::QueryServiceServer,
};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    config::{LogKind, SchedulerConfig},
    error::StartError,
    front::Front,
    rpc::{ClusterRpc, ExecutorRpc, PlanningRpc, QueryRpc},
    run_loop::RunLoop,
    shared::{Life, Shared},
    to_leader::MAX_PLANNED_BYTES,
};

/// How long the entry under way may take to be committed at a shutdown. After it, its outcome is unknown to whoever
/// waits for it.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);
/// How long open connections may take to end at a shutdown, before they are cut.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// How long a shutdown waits until what ended statements have staged is deleted. Another leader would do it, too.
const SWEEP_DEADLINE: Duration = Duration::from_secs(1);

/// A replica; see [`Scheduler::start`].
pub struct Scheduler;

impl Scheduler {
    /// Listens, opens the log and serves; returns then, whether or not anybody leads. The replica runs until
    /// [`SchedulerHandle::shutdown`].
    ///
    /// # Errors
    /// The address is taken, or the log does not open. What a replica learns of its cluster only later comes by
    /// [`SchedulerHandle::failed`].
    pub async fn start(
        config: SchedulerConfig,
        env: Env,
        extensions: Extensions,
    ) -> Result<SchedulerHandle, StartError> {
        let heartbeat_ms = u64::try_from(config.heartbeat_interval.as_millis()).unwrap_or(u64::MAX);
        config.patience.check(heartbeat_ms)?;
        let listen = |source| StartError::Listen { address: config.listen.clone(), source };
        let listener = env.net.listen(&config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?.to_string();
        let warehouse = config.warehouse.clone();
        let front = Front::new(extensions, env.clone(), config.planning_deadline, warehouse)?;
        let (log, replica) = open_log(&config, &env, &address).await?;
        let (shared, inputs) = Shared::new(config, env, Arc::clone(&log), front);
        let server = tokio::spawn(serve(Arc::clone(&shared), replica, listener));
        let run_loop = tokio::spawn(RunLoop::new(Arc::clone(&shared), inputs).run());
        Ok(SchedulerHandle { address, log, stop: Stop(shared), run_loop, server })
    }
}

/// `address` is where the replica listens. Others reach it there or, if it has a cluster, where that names it.
async fn open_log(
    config: &SchedulerConfig,
    env: &Env,
    address: &str,
) -> Result<(Arc<dyn Log>, Option<ReplicaServer>), StartError> {
    match &config.log {
        LogKind::Durable { cluster, data_dir, store, timing, snapshots, version } => {
            let replica = ReplicaConfig {
                store: *store,
                timing: *timing,
                snapshots: *snapshots,
                version: *version,
                ..ReplicaConfig::new(config.id, cluster.clone(), data_dir.clone())
            };
            let Opened { log, service } = open(replica, env).await?;
            Ok((log, Some(service)))
        }
        LogKind::InMemory => {
            let cluster_id = format!("memory-{:016x}", env.random.next_u64());
            Ok((in_memory(config.id, address.to_owned(), cluster_id), None))
        }
        LogKind::Given(log) => Ok((Arc::clone(log), None)),
    }
}

async fn serve(shared: Arc<Shared>, replica: Option<ReplicaServer>, listener: Box<dyn Listener>) {
    let mut life = shared.life();
    let executors = ExecutorServiceServer::new(ExecutorRpc::new(Arc::clone(&shared)))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let cluster = ClusterServiceServer::new(ClusterRpc::new(Arc::clone(&shared)));
    let planning = PlanningServiceServer::new(PlanningRpc::new(Arc::clone(&shared)))
        .max_decoding_message_size(MAX_PLANNED_BYTES)
        .max_encoding_message_size(MAX_PLANNED_BYTES);
    let queries = QueryServiceServer::new(QueryRpc::new(shared))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let stop = async move {
        // An error means that nobody is left to stop it, which ends it as well.
        let _ = life.wait_for(|life| *life == Life::Stopped).await;
    };
    let server = grpc::server()
        .add_service(executors)
        .add_service(queries)
        .add_service(cluster)
        .add_service(planning)
        .add_optional_service(replica);
    if let Err(error) = server.serve_with_incoming_shutdown(grpc::incoming(listener), stop).await {
        tracing::error!(%error, "the server ended");
    }
}

/// Stops the replica when it is dropped.
struct Stop(Arc<Shared>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.set_life(Life::Stopped);
    }
}

/// A running replica. Dropping it stops the replica without handing over and without waiting for that.
pub struct SchedulerHandle {
    address: String,
    log: Arc<dyn Log>,
    stop: Stop,
    run_loop: JoinHandle<()>,
    server: JoinHandle<()>,
}

impl SchedulerHandle {
    /// `HOST:PORT` where it listens. Others may reach it by another one, which its cluster knows.
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
        .unwrap_or_else(|| Fatal { reason: "the replicated log was dropped".into(), refused: false })
    }

    /// Refuses new requests, hands leadership over while the other replicas still get answers, then ends the streams
    /// and the server.
    pub async fn shutdown(self) {
        let Self { log, stop, run_loop, mut server, .. } = self;
        // In time or not, as far as it goes.
        let _ = timeout(SWEEP_DEADLINE, stop.0.first_sweeps()).await;
        let mut life = stop.0.life();
        stop.0.set_life(Life::Draining);
        // The run loop answers for itself, unless it is gone.
        let drained = life.wait_for(|life| *life >= Life::Drained);
        if timeout(DRAIN_DEADLINE, drained).await.is_err() {
            tracing::warn!("the last entry was not committed within {DRAIN_DEADLINE:?}");
        }
        log.shutdown().await;
        drop(stop);
        if run_loop.await.is_err() {
            tracing::error!("the run loop had panicked");
        }
        if timeout(SHUTDOWN_GRACE, &mut server).await.is_err() {
            server.abort();
        }
    }
}
