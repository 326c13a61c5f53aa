//! The rows of one reader partition: local sources first, without a copy, while remote ones are fetched meanwhile.
//!
//! A source that breaks is read on where its executor has handed it over to, or from the durable store if its output is
//! there: a copy gives the same rows in the same order, so that those already handed on are skipped.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
    sync::{Arc, Mutex},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    error::{DataFusionError, Result},
    execution::SendableRecordBatchStream,
    physical_plan::{
        coop::cooperative,
        metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, Time},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, stream};
use polybolos_model::{FetchFailure, PartitionStats};
use polybolos_proto::v1::HostFile;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    DurableShuffle, FetchError, FetchFailed, FlightPool, OutputKey, ShuffleError, ShuffleStore,
    fetch::Fetched,
    host_file::{HostFileReader, HostFiles},
    locked,
    output_rows::OutputRows,
    router::conform,
    size::batch_bytes,
    ticket::encode_range_ticket,
};

/// Remote sources that one reader reads at the same time.
pub(crate) const CONCURRENT_SOURCES: usize = 4;
/// Fetched batches that wait for a reader, beside one in the hands of each fetch. A batch is about
/// [`crate::wire::TARGET_MESSAGE_BYTES`] at most, unless a row is larger.
pub(crate) const MAX_WAITING_BATCHES: usize = 4;

/// Where a source is read first.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// In this executor's store.
    Here,
    /// At this address.
    Executor(String),
    /// In the durable store: its executor is gone.
    Durable,
}

/// Neighbouring output partitions of one upstream task, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) key: OutputKey,
    pub(crate) partitions: Range<u32>,
    pub(crate) origin: Origin,
    pub(crate) lost: FetchFailure,
    pub(crate) stats: Option<PartitionStats>,
}

impl Source {
    fn failed(&self, cause: impl Into<FetchError>) -> DataFusionError {
        FetchFailed { lost: self.lost.clone(), partition: self.partitions.start, cause: cause.into() }.into()
    }

    /// The rows that came must be the rows that were reported: nothing is lost or repeated unnoticed.
    fn check(&self, rows: u64) -> Result<()> {
        if polybolos_model::mutant!("fetch-repeated") || polybolos_model::mutant!("fetch-cut-short") {
            return Ok(());
        }
        match self.stats {
            Some(PartitionStats { rows: expected, .. }) if expected != rows => {
                Err(self.failed(FetchError::Rows { rows, expected }))
            }
            _ => Ok(()),
        }
    }
}

/// What a reader reports of itself.
#[derive(Clone)]
struct Meters {
    baseline: BaselineMetrics,
    local_bytes: Count,
    fetched_bytes: Count,
    /// How long the reader waited for other executors.
    fetch_time: Time,
    host_files: HostFiles,
}

struct Reading {
    local: VecDeque<Source>,
    current: Option<(Source, OutputRows, u64)>,
    remote: VecDeque<Source>,
    fetched: Option<mpsc::Receiver<Result<RecordBatch>>>,
    /// Stopped when the reader is dropped.
    fetches: JoinSet<()>,
    store: Arc<ShuffleStore>,
    pool: Arc<FlightPool>,
    schema: SchemaRef,
    meters: Meters,
}

/// Streams all rows of `sources`: in the order of the only source, or in any order of several. Nothing is fetched
/// before the first poll, so that readers of one plan don't wait for one another.
pub(crate) fn stream(
    sources: Vec<Source>,
    store: Arc<ShuffleStore>,
    pool: Arc<FlightPool>,
    schema: SchemaRef,
    metrics: &ExecutionPlanMetricsSet,
    partition: usize,
) -> SendableRecordBatchStream {
    let meters = Meters {
        baseline: BaselineMetrics::new(metrics, partition),
        local_bytes: MetricBuilder::new(metrics).counter("local_bytes", partition),
        fetched_bytes: MetricBuilder::new(metrics).counter("fetched_bytes", partition),
        fetch_time: MetricBuilder::new(metrics).subset_time("fetch_time", partition),
        host_files: HostFiles::new(metrics, partition),
    };
    let (local, remote) = sources.into_iter().partition(|source| matches!(source.origin, Origin::Here));
    let reading = Reading {
        local,
        current: None,
        remote,
        fetched: None,
        fetches: JoinSet::new(),
        store,
        pool,
        schema: Arc::clone(&schema),
        meters,
    };
    let batches = stream::try_unfold(reading, |mut reading| async move {
        let batch = reading.next().await?;
        Ok(batch.map(|batch| (batch, reading)))
    });
    Box::pin(cooperative(RecordBatchStreamAdapter::new(schema, batches.boxed())))
}

impl Reading {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if !self.remote.is_empty() {
            self.start_fetching();
        }
        if let Some(batch) = self.next_local().await? {
            self.meters.local_bytes.add(batch_bytes(&batch));
            return self.hand_on(batch).map(Some);
        }
        let Some(fetched) = &mut self.fetched else { return Ok(None) };
        let waiting = self.meters.fetch_time.timer();
        let batch = fetched.recv().await;
        waiting.done();
        if let Some(batch) = batch {
            let batch = batch?;
            self.meters.fetched_bytes.add(batch_bytes(&batch));
            return self.hand_on(batch).map(Some);
        }
        // All fetches have ended; one that panicked sent no error.
        while let Some(ended) = self.fetches.join_next().await {
            ended.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
        }
        Ok(None)
    }

    fn hand_on(&self, batch: RecordBatch) -> Result<RecordBatch> {
        self.meters.baseline.record_output(batch.num_rows());
        self.meters.baseline.output_batches().add(1);
        Ok(conform(batch, &self.schema)?)
    }

    async fn next_local(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let Some((source, reader, rows)) = &mut self.current else {
                let Some(source) = self.local.pop_front() else { return Ok(None) };
                let rows = match self.store.read_range(source.key, &source.partitions) {
                    Ok(reader) => OutputRows::Held(reader),
                    Err(error) => copy_after(&self.store, &source, error, 0).await?,
                };
                self.current = Some((source, rows, 0));
                continue;
            };
            let batch = match reader.next().await {
                Err(error) if matches!(reader, OutputRows::Held(_)) => {
                    *reader = copy_after(&self.store, source, error, *rows).await?;
                    continue;
                }
                batch => batch.map_err(|error| source.failed(error))?,
            };
            if let Some(batch) = batch {
                *rows += batch.num_rows() as u64;
                return Ok(Some(batch));
            }
            source.check(*rows)?;
            self.current = None;
        }
    }

    fn start_fetching(&mut self) {
        let remote = std::mem::take(&mut self.remote);
        let fetches = remote.len().min(CONCURRENT_SOURCES);
        let queue = Arc::new(Mutex::new(remote));
        let (sender, receiver) = mpsc::channel(MAX_WAITING_BATCHES);
        for _ in 0..fetches {
            let (store, pool) = (Arc::clone(&self.store), Arc::clone(&self.pool));
            let files = self.meters.host_files.clone();
            self.fetches.spawn(fetch_all(store, pool, Arc::clone(&queue), sender.clone(), files));
        }
        self.fetched = Some(receiver);
    }
}

/// Takes sources from `queue` until it is empty, one fails or the reader is gone.
async fn fetch_all(
    store: Arc<ShuffleStore>,
    pool: Arc<FlightPool>,
    queue: Arc<Mutex<VecDeque<Source>>>,
    sender: mpsc::Sender<Result<RecordBatch>>,
    files: HostFiles,
) {
    loop {
        let next = locked(&queue).pop_front();
        let Some(source) = next else { return };
        if let Err(stop) = fetch_one(&store, &pool, &source, &sender, &files).await {
            // An error that can't be sent has no reader left.
            if let Some(error) = stop {
                let _ = sender.send(Err(error)).await;
            }
            return;
        }
    }
}

/// Why the fetching of a source ended early.
enum Stop {
    /// The reader is gone.
    Left,
    Failed(FetchError),
}

/// `Err(None)` when the reader is gone.
async fn fetch_one(
    store: &ShuffleStore,
    pool: &Arc<FlightPool>,
    source: &Source,
    sender: &mpsc::Sender<Result<RecordBatch>>,
    files: &HostFiles,
) -> Result<(), Option<DataFusionError>> {
    let mut rows = 0;
    let fetched = match &source.origin {
        Origin::Executor(address) => {
            fetch_moved(store, pool, source, address, sender, &mut rows, files).await
        }
        Origin::Here | Origin::Durable => {
            let missing = ShuffleError::NoDurableStore { key: source.key };
            Err(Stop::Failed(missing.into()))
        }
    };
    let fetched = match (fetched, store.durable()) {
        (Err(Stop::Failed(cause)), Some(durable)) => {
            fetch_copy(durable, source, cause, sender, &mut rows).await
        }
        (fetched, _) => fetched,
    };
    match fetched {
        Ok(()) => source.check(rows).map_err(Some),
        Err(Stop::Left) => Err(None),
        Err(Stop::Failed(cause)) => Err(Some(source.failed(cause))),
    }
}

/// From the executor that holds it or, if that is gone, from where it has handed the output over to.
async fn fetch_moved(
    store: &ShuffleStore,
    pool: &Arc<FlightPool>,
    source: &Source,
    address: &str,
    sender: &mpsc::Sender<Result<RecordBatch>>,
    rows: &mut u64,
    files: &HostFiles,
) -> Result<(), Stop> {
    let mut tried = BTreeSet::from([address.to_owned()]);
    let mut fetched = fetch(store, pool, source, address, sender, rows, files).await;
    while let Err(Stop::Failed(cause)) = &fetched
        && let Some(next) = store.moved_to(source.key.attempt)
        && tried.insert(next.clone())
    {
        tracing::debug!(key = %source.key, %cause, %next, rows = *rows, "an output is read on where it has moved to");
        polybolos_model::sometimes!("a broken fetch went on where the output had moved to", *rows > 0);
        fetched = fetch(store, pool, source, &next, sender, rows, files).await;
    }
    fetched
}

/// From one executor or its file, but for the first `rows`, which were handed on before. Counts those that are.
async fn fetch(
    store: &ShuffleStore,
    pool: &Arc<FlightPool>,
    source: &Source,
    address: &str,
    sender: &mpsc::Sender<Result<RecordBatch>>,
    rows: &mut u64,
    files: &HostFiles,
) -> Result<(), Stop> {
    // A file is told of for one partition at a time; several, which are small, come over the network.
    let mut host = store.host().filter(|_| source.partitions.len() == 1);
    loop {
        let ticket = encode_range_ticket(source.key, &source.partitions);
        let mut fetched = std::pin::pin!(pool.fetch_or_file(address, ticket, host.take()));
        let mut skip = *rows;
        let mut file = None;
        while let Some(next) = fetched.next().await {
            match next.map_err(Stop::Failed)? {
                Fetched::Batch(batch) => pass_on(batch, sender, &mut skip, rows).await?,
                Fetched::File(place) => {
                    file = Some(place);
                    break;
                }
            }
        }
        let Some(place) = file else { return Ok(()) };
        match read_file(store, pool, source, place, sender, rows, files).await {
            Ok(read) => return read,
            // Deleted meanwhile, out of reach for this process, or damaged: its owner gives the rows, or says so.
            Err(error) => {
                tracing::debug!(key = %source.key, %error, rows = *rows, "an output is read over the network after all");
                files.failures.add(1);
            }
        }
    }
}

/// From a file on this machine, in the same way. The outer error is about the file.
async fn read_file(
    store: &ShuffleStore,
    pool: &FlightPool,
    source: &Source,
    place: HostFile,
    sender: &mpsc::Sender<Result<RecordBatch>>,
    rows: &mut u64,
    files: &HostFiles,
) -> Result<Result<(), Stop>, ShuffleError> {
    let deadline = pool.limits.next_message;
    let mut reader =
        HostFileReader::open(store, source.key, source.partitions.start, place, deadline).await?;
    let mut skip = *rows;
    while let Some(batch) = reader.next(store).await? {
        files.bytes.add(batch_bytes(&batch));
        if let Err(stop) = pass_on(batch, sender, &mut skip, rows).await {
            return Ok(Err(stop));
        }
    }
    Ok(Ok(()))
}

/// Hands a batch on, but for its rows among the first `skip`.
async fn pass_on(
    batch: RecordBatch,
    sender: &mpsc::Sender<Result<RecordBatch>>,
    skip: &mut u64,
    rows: &mut u64,
) -> Result<(), Stop> {
    let left_out = usize::try_from(*skip).unwrap_or(usize::MAX).min(batch.num_rows());
    *skip -= left_out as u64;
    let batch = batch.slice(left_out, batch.num_rows() - left_out);
    if batch.num_rows() == 0 {
        return Ok(());
    }
    *rows += batch.num_rows() as u64;
    sender.send(Ok(batch)).await.map_err(|_| Stop::Left)?;
    polybolos_model::failpoint!("shuffle.mid_fetch");
    Ok(())
}

/// The rest from the durable copy. When there is none, `cause` is what went wrong, unless it is only there.
async fn fetch_copy(
    durable: &Arc<DurableShuffle>,
    source: &Source,
    cause: FetchError,
    sender: &mpsc::Sender<Result<RecordBatch>>,
    rows: &mut u64,
) -> Result<(), Stop> {
    let copy = durable.read(source.key, &source.partitions).await.map_err(|error| {
        tracing::debug!(key = %source.key, %cause, %error, "no durable copy helps");
        let is_only_there = matches!(source.origin, Origin::Durable);
        Stop::Failed(if is_only_there { error.into() } else { cause })
    })?;
    polybolos_model::sometimes!("a broken fetch went on from the durable copy", *rows > 0);
    let mut copy = copy.after(*rows);
    while let Some(batch) = copy.next().await.map_err(|error| Stop::Failed(error.into()))? {
        *rows += batch.num_rows() as u64;
        sender.send(Ok(batch)).await.map_err(|_| Stop::Left)?;
    }
    Ok(())
}

/// A local output can't be read (on): its durable copy, behind the `rows` already handed on.
async fn copy_after(
    store: &ShuffleStore,
    source: &Source,
    cause: ShuffleError,
    rows: u64,
) -> Result<OutputRows> {
    let Some(durable) = store.durable() else { return Err(source.failed(cause)) };
    let copy = durable.read(source.key, &source.partitions).await.map_err(|error| {
        tracing::debug!(key = %source.key, %cause, %error, "no durable copy helps");
        source.failed(cause)
    })?;
    Ok(OutputRows::Durable(copy.after(rows)))
}
