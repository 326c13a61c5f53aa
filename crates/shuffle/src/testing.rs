//! Helpers of this crate's tests.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::memory::{DataSourceExec, MemorySourceConfig},
    execution::TaskContext,
    physical_expr::PhysicalExpr,
    physical_plan::ExecutionPlan,
    prelude::{SessionConfig, SessionContext},
};
use polybolos_env::{BoxIo, Env, Listener, Net, grpc};
use polybolos_model::{AttemptId, Exchange, JobId, PartitionStats, StageId, TaskId, Term};
use polybolos_planner::{TaskOutput, TaskPlan};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    Compression, FetchLimits, FlightPool, OutputKey, ShuffleConfig, ShuffleError, ShuffleStore, WriteError,
    flight_service, write_output,
};

pub(crate) const JOB: JobId = JobId(0xbeef);
pub(crate) const PLENTY: u64 = 1 << 40;

pub(crate) fn env() -> Env {
    // One pool of threads for all tests of a process.
    static ENV: OnceLock<Env> = OnceLock::new();
    ENV.get_or_init(|| Env::production(2).unwrap()).clone()
}

pub(crate) fn key(partition: u32, counter: u64) -> OutputKey {
    OutputKey {
        task: TaskId { job: JOB, stage: StageId(1), partition },
        attempt: AttemptId { term: Term(3), counter },
    }
}

/// One that reads no files of others, and lets none read its own.
pub(crate) async fn store(
    dir: &Path,
    memory_budget_bytes: u64,
    compression: Compression,
) -> Arc<ShuffleStore> {
    let config = ShuffleConfig {
        dir: dir.to_owned(),
        memory_budget_bytes,
        compression,
        durable: None,
        host_files: false,
    };
    ShuffleStore::open(&env(), config).await.unwrap()
}

pub(crate) fn context(batch_size: usize) -> Arc<TaskContext> {
    SessionContext::new_with_config(SessionConfig::new().with_batch_size(batch_size)).task_ctx()
}

pub(crate) fn memory(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Arc<dyn ExecutionPlan> {
    let source = MemorySourceConfig::try_new(&[batches], Arc::clone(schema), None).unwrap();
    DataSourceExec::from_data_source(source)
}

pub(crate) fn task(
    plan: Arc<dyn ExecutionPlan>,
    exchange: Exchange,
    hash: Vec<Arc<dyn PhysicalExpr>>,
    partitions: u32,
) -> TaskPlan {
    TaskPlan { plan, output: TaskOutput { exchange, hash, partitions } }
}

/// Runs `task` and stores its output.
pub(crate) async fn write(
    store: &ShuffleStore,
    key: OutputKey,
    task: &TaskPlan,
    batch_size: usize,
) -> Result<Vec<PartitionStats>, WriteError> {
    write_output(task, Arc::clone(&task.plan), context(batch_size), store, key).await
}

pub(crate) async fn read(
    store: &ShuffleStore,
    key: OutputKey,
    partition: u32,
) -> Result<Vec<RecordBatch>, ShuffleError> {
    let mut reader = store.read(key, partition)?;
    let mut batches = Vec::new();
    while let Some(batch) = reader.next().await? {
        batches.push(batch);
    }
    Ok(batches)
}

/// A Flight server on loopback, stopped when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(store: Arc<ShuffleStore>) -> Self {
        let listener = env().net.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving =
            grpc::server().add_service(flight_service(store)).serve_with_incoming(grpc::incoming(listener));
        Self { address, task: tokio::spawn(async move { serving.await.unwrap() }) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The machine's network, with what tests want to know and to spoil.
#[derive(Default)]
pub(crate) struct TestNet {
    /// Bytes that came in over connections made here.
    pub(crate) received: Arc<AtomicU64>,
    pub(crate) connects: AtomicU64,
    /// Connects that are refused first.
    pub(crate) refuse: AtomicU64,
    /// A connection breaks after this many bytes came in over all; 0 for never.
    pub(crate) break_after: u64,
}

#[async_trait]
impl Net for TestNet {
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        env().net.listen(address).await
    }

    async fn connect(&self, address: &str) -> io::Result<BoxIo> {
        self.connects.fetch_add(1, Ordering::Relaxed);
        let refused = |left: u64| left.checked_sub(1);
        if self.refuse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, refused).is_ok() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let io = env().net.connect(address).await?;
        Ok(Box::new(Counted { io, received: Arc::clone(&self.received), break_after: self.break_after }))
    }
}

struct Counted {
    io: BoxIo,
    received: Arc<AtomicU64>,
    break_after: u64,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.break_after > 0 && self.received.load(Ordering::Relaxed) > self.break_after {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.received.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

pub(crate) fn pool_over(net: Arc<TestNet>, limits: FetchLimits) -> Arc<FlightPool> {
    FlightPool::new(&Env { net, ..env() }, limits)
}

pub(crate) fn pool() -> Arc<FlightPool> {
    FlightPool::new(&env(), FetchLimits::default())
}
