//! The ways on which rows move, each through the code that executors run.

use std::{path::Path, sync::Arc, time::Duration};

use datafusion::{
    common::internal_datafusion_err,
    error::{DataFusionError, Result},
    execution::TaskContext,
    physical_expr::EquivalenceProperties,
    physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning},
};
use futures::{TryStreamExt, future::try_join_all};
use polybolos_env::{Env, grpc};
use polybolos_model::{AttemptId, Exchange, ExecutorId, JobId, ReadMode, StageId, TaskId, Term};
use polybolos_planner::{StageInputExec, TaskOutput, TaskPlan};
use polybolos_shuffle::{
    Compression, FlightPool, MapOutput, OutputKey, ShuffleConfig, ShuffleStore, StageInputs, bind_inputs,
    flight_service, write_output,
};
use tokio::sync::oneshot;

use super::{super::super::error::CliError, data::Rows, peer};

const JOB: JobId = JobId(1);
const STAGE: StageId = StageId(0);
const WRITER: &str = "writer";
/// Readers in the process of the writer do not call.
const NOWHERE: &str = "127.0.0.1:1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Peer,
    Memory,
    Files,
    Lz4Files,
    Flight,
    FlightFromLz4Files,
    HostFiles,
    HostLz4Files,
}

impl Way {
    pub(super) const ALL: [Self; 8] = [
        Self::Peer,
        Self::Memory,
        Self::Files,
        Self::Lz4Files,
        Self::Flight,
        Self::FlightFromLz4Files,
        Self::HostFiles,
        Self::HostLz4Files,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Peer => "DataFusion",
            Self::Memory => "memory",
            Self::Files => "files",
            Self::Lz4Files => "files, LZ4",
            Self::Flight => "Flight from memory",
            Self::FlightFromLz4Files => "Flight from files, LZ4",
            Self::HostFiles => "same host's files",
            Self::HostLz4Files => "same host's files, LZ4",
        }
    }

    /// Whether writer and reader are two executors.
    fn of_two(self) -> bool {
        matches!(self, Self::Flight | Self::FlightFromLz4Files | Self::HostFiles | Self::HostLz4Files)
    }

    fn store(self, folder: &Path) -> ShuffleConfig {
        let in_memory = matches!(self, Self::Peer | Self::Memory | Self::Flight);
        let lz4 = matches!(self, Self::Lz4Files | Self::FlightFromLz4Files | Self::HostLz4Files);
        ShuffleConfig {
            dir: folder.to_owned(),
            memory_budget_bytes: if in_memory { u64::MAX } else { 0 },
            compression: if lz4 { Compression::Lz4 } else { Compression::None },
            durable: None,
            host_files: matches!(self, Self::HostFiles | Self::HostLz4Files),
        }
    }
}

pub(super) struct Bench<'a> {
    pub(super) env: &'a Env,
    pub(super) rows: &'a Rows,
    pub(super) folder: &'a Path,
}

impl Bench<'_> {
    /// How long the rows took to get to their readers, and how many came.
    pub(super) async fn run(&self, way: Way) -> Result<(Duration, u64), CliError> {
        let context = Arc::new(TaskContext::default());
        let clock = &self.env.clock;
        let failed = |source: DataFusionError| CliError::Shuffle(Box::new(source));
        if way == Way::Peer {
            let started = clock.now();
            let exchange = peer::exchange(self.rows).map_err(failed)?;
            let count = self.drain(exchange, context).await.map_err(failed)?;
            return Ok((clock.now() - started, count));
        }
        let opened = ShuffleStore::open(self.env, way.store(self.folder)).await;
        let store = opened.map_err(|error| failed(DataFusionError::External(Box::new(error))))?;
        let server = if way.of_two() { Some(self.serve(&store).await?) } else { None };
        let pool = FlightPool::new(self.env, Default::default());
        let started = clock.now();
        let address = server.as_ref().map_or(NOWHERE, |server| server.address.as_str());
        let maps = self.write(&store, &context, address).await.map_err(failed)?;
        let me = if way.of_two() { "reader" } else { WRITER };
        let reader = self.reader(maps, &store, &pool, me).map_err(failed)?;
        let count = self.drain(reader, context).await.map_err(failed)?;
        Ok((clock.now() - started, count))
    }

    /// Runs a task for each part of the rows.
    async fn write(
        &self,
        store: &Arc<ShuffleStore>,
        context: &Arc<TaskContext>,
        address: &str,
    ) -> Result<Vec<MapOutput>> {
        let tasks = (0..self.rows.tasks.len()).map(|number| {
            let partition = u32::try_from(number).unwrap_or(u32::MAX);
            self.on_a_thread(self.write_one(store, context, partition, address))
        });
        try_join_all(tasks).await
    }

    fn write_one(
        &self,
        store: &Arc<ShuffleStore>,
        context: &Arc<TaskContext>,
        partition: u32,
        address: &str,
    ) -> impl Future<Output = Result<MapOutput>> + Send + 'static {
        let plan = peer::scan(self.rows, partition as usize..partition as usize + 1);
        let (store, context, address) = (Arc::clone(store), Arc::clone(context), address.to_owned());
        let partitions = self.rows.partitions;
        async move {
            let plan = plan?;
            let output = TaskOutput { exchange: Exchange::Hash, hash: peer::key(), partitions };
            let attempt = AttemptId { term: Term(1), counter: u64::from(partition) };
            let key = OutputKey { task: TaskId { job: JOB, stage: STAGE, partition }, attempt };
            let task = TaskPlan { plan: Arc::clone(&plan), output };
            let written = write_output(&task, plan, context, &store, key).await;
            let outputs = written.map_err(|error| DataFusionError::External(Box::new(error)))?;
            let executor = writer()?;
            Ok(MapOutput { map_partition: partition, executor, address, attempt, outputs })
        }
    }

    fn reader(
        &self,
        maps: Vec<MapOutput>,
        store: &Arc<ShuffleStore>,
        pool: &Arc<FlightPool>,
        me: &str,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = StageInputExec::new(
            STAGE,
            ReadMode::Partition,
            Partitioning::UnknownPartitioning(self.rows.partitions as usize),
            EquivalenceProperties::new(Arc::clone(&self.rows.schema)),
        );
        let inputs = StageInputs { job: JOB, stages: [(STAGE, maps)].into() };
        let me = ExecutorId::new(me).map_err(|error| internal_datafusion_err!("{error}"))?;
        bind_inputs(Arc::new(input), Arc::new(inputs), Arc::clone(store), Arc::clone(pool), &me)
    }

    /// Reads all partitions side by side, and counts their rows.
    async fn drain(&self, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<u64> {
        let readers = (0..plan.output_partitioning().partition_count()).map(|partition| {
            let (plan, context) = (Arc::clone(&plan), Arc::clone(&context));
            self.on_a_thread(async move {
                let batches = plan.execute(partition, context)?;
                batches.try_fold(0, async |sum, batch| Ok(sum + batch.num_rows() as u64)).await
            })
        });
        Ok(try_join_all(readers).await?.into_iter().sum())
    }

    /// Runs `work` where executors run their tasks.
    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let task = self.env.cpu.spawn(Box::pin(async move {
            // The receiver lives as long as this task.
            let _heard = sender.send(work.await);
        }));
        let done = receiver.await.map_err(|_| internal_datafusion_err!("a thread has ended"))?;
        drop(task);
        done
    }

    async fn serve(&self, store: &Arc<ShuffleStore>) -> Result<Server, CliError> {
        let failed = |source| CliError::Shuffle(Box::new(DataFusionError::IoError(source)));
        let listener = self.env.net.listen("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?.to_string();
        let service = flight_service(Arc::clone(store));
        let serving = grpc::server().add_service(service).serve_with_incoming(grpc::incoming(listener));
        let task = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the Flight server of the measurement ended");
            }
        });
        Ok(Server { address, task })
    }
}

fn writer() -> Result<ExecutorId> {
    ExecutorId::new(WRITER).map_err(|error| internal_datafusion_err!("{error}"))
}

/// Stopped when dropped.
struct Server {
    address: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
