//! The rows of one reader partition: local sources first, without a copy, while remote ones are fetched meanwhile.

use std::{
    collections::VecDeque,
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
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    FetchError, FetchFailed, FlightPool, OutputKey, OutputReader, ShuffleStore, encode_ticket, locked,
    router::conform, size::batch_bytes,
};

/// Remote sources that one reader reads at the same time.
pub(crate) const CONCURRENT_SOURCES: usize = 4;
/// Fetched batches that wait for a reader, beside one in the hands of each fetch. A batch is about
/// [`crate::wire::TARGET_MESSAGE_BYTES`] at most, unless a row is larger.
pub(crate) const MAX_WAITING_BATCHES: usize = 4;

/// One output partition of one upstream task.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) key: OutputKey,
    pub(crate) partition: u32,
    /// The address of its executor, or `None` when it is this one.
    pub(crate) address: Option<String>,
    pub(crate) lost: FetchFailure,
    pub(crate) stats: Option<PartitionStats>,
}

impl Source {
    fn failed(&self, cause: impl Into<FetchError>) -> DataFusionError {
        FetchFailed { lost: self.lost.clone(), partition: self.partition, cause: cause.into() }.into()
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
}

struct Reading {
    local: VecDeque<Source>,
    current: Option<(Source, OutputReader, u64)>,
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
    };
    let (local, remote) = sources.into_iter().partition(|source| source.address.is_none());
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
                let reader =
                    self.store.read(source.key, source.partition).map_err(|error| source.failed(error))?;
                self.current = Some((source, reader, 0));
                continue;
            };
            if let Some(batch) = reader.next().await.map_err(|error| source.failed(error))? {
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
            self.fetches.spawn(fetch_all(Arc::clone(&self.pool), Arc::clone(&queue), sender.clone()));
        }
        self.fetched = Some(receiver);
    }
}

/// Takes sources from `queue` until it is empty, one fails or the reader is gone.
async fn fetch_all(
    pool: Arc<FlightPool>,
    queue: Arc<Mutex<VecDeque<Source>>>,
    sender: mpsc::Sender<Result<RecordBatch>>,
) {
    loop {
        let next = locked(&queue).pop_front();
        let Some(source) = next else { return };
        if let Err(stop) = fetch_one(&pool, &source, &sender).await {
            // An error that can't be sent has no reader left.
            if let Some(error) = stop {
                let _ = sender.send(Err(error)).await;
            }
            return;
        }
    }
}

/// `Err(None)` when the reader is gone.
async fn fetch_one(
    pool: &Arc<FlightPool>,
    source: &Source,
    sender: &mpsc::Sender<Result<RecordBatch>>,
) -> Result<(), Option<DataFusionError>> {
    let address = source.address.as_deref().unwrap_or_default();
    let mut batches = std::pin::pin!(pool.fetch(address, encode_ticket(source.key, source.partition)));
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| Some(source.failed(error)))?;
        rows += batch.num_rows() as u64;
        sender.send(Ok(batch)).await.map_err(|_| None)?;
        polybolos_model::failpoint!("shuffle.mid_fetch");
    }
    source.check(rows).map_err(Some)
}
