//! The rows of a job, several partitions at once.
//!
//! ```text
//!   Watch ──▶ Driver ──▶ Fetch (one a partition, bounded) ──▶ bounded channel ──▶ ResultStream
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use futures::{Stream, StreamExt, stream::BoxStream};
use polybolos_model::JobId;
use polybolos_proto::v1::{JobState, JobUpdate};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinError, JoinSet},
    time::timeout,
};

use crate::{
    ClientError, JobFailure, JobHandle,
    call::Shared,
    fetch::{Fetch, Places},
    generation::{Advance, Generation},
    limits::{BUFFERED_BATCHES, FETCH_CONCURRENCY, ORDERED_FETCH_CONCURRENCY},
    watch::has_ended,
};

/// After a partition could not be read, how long to wait for the job's own failure, which explains it better.
const FAILURE_GRACE: Duration = Duration::from_secs(1);

/// What travels to the reader. The end is said, so that a lost sender is never taken for it.
pub(crate) enum Item {
    Batch(RecordBatch),
    Failed(ClientError),
    End,
}

/// Record batches of a job. An error is its last item. Dropped before its end, it cancels the job and gives its
/// outputs back.
#[derive(Debug)]
pub struct ResultStream {
    job: JobId,
    schema: SchemaRef,
    progress: watch::Receiver<Option<JobUpdate>>,
    /// `None` after the end.
    items: Option<mpsc::Receiver<Item>>,
}

impl ResultStream {
    /// As announced; the rows of `EXPLAIN ANALYZE` have a schema of their own.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The latest update, for a progress line. `None` until the first has come.
    pub fn progress(&self) -> watch::Receiver<Option<JobUpdate>> {
        self.progress.clone()
    }
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Item")
    }
}

impl Stream for ResultStream {
    type Item = Result<RecordBatch, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(items) = &mut self.items else { return Poll::Ready(None) };
        let item = ready!(items.poll_recv(cx));
        if let Some(Item::Batch(batch)) = item {
            return Poll::Ready(Some(Ok(batch)));
        }
        self.items = None;
        Poll::Ready(match item {
            Some(Item::End) => None,
            Some(Item::Failed(error)) => Some(Err(error)),
            Some(Item::Batch(_)) | None => {
                let what = format!("the task that reads the result of query {} is gone", self.job);
                Some(Err(ClientError::Protocol { what }))
            }
        })
    }
}

pub(crate) fn start(shared: Arc<Shared>, job: JobHandle) -> ResultStream {
    let (out, items) = mpsc::channel(BUFFERED_BATCHES);
    let progress = watch::Sender::new(None);
    let stream = ResultStream {
        job: job.id(),
        schema: job.schema(),
        progress: progress.subscribe(),
        items: Some(items),
    };
    let driver = Driver {
        shared,
        job,
        out,
        progress,
        places: watch::Sender::default(),
        generation: Arc::default(),
        started: BTreeSet::new(),
        next: 0,
        fetches: JoinSet::new(),
        order: VecDeque::new(),
        turns: BTreeMap::new(),
        ended: false,
    };
    tokio::spawn(driver.run());
    stream
}

/// Starts a fetch for each partition that becomes ready, and ends with the job and the last of them.
struct Driver {
    shared: Arc<Shared>,
    job: JobHandle,
    out: mpsc::Sender<Item>,
    progress: watch::Sender<Option<JobUpdate>>,
    places: watch::Sender<Places>,
    /// Of the result's rows.
    generation: Arc<Generation>,
    /// None is started twice.
    started: BTreeSet<u32>,
    /// Ordered only: the partition to start next.
    next: u32,
    fetches: JoinSet<(u32, Result<(), ClientError>)>,
    /// Ordered only: started partitions, ascending. The first has its turn.
    order: VecDeque<u32>,
    turns: BTreeMap<u32, oneshot::Sender<()>>,
    ended: bool,
}

type Updates = BoxStream<'static, Result<JobUpdate, ClientError>>;

/// How the reading of a result ended.
enum Outcome {
    Complete,
    /// The reader has dropped the stream.
    Left,
}

impl Driver {
    async fn run(mut self) {
        let mut updates = self.job.watch();
        let outcome = self.drive(&mut updates).await;
        // Closes the watch and the fetches before the job is released.
        self.fetches.shutdown().await;
        drop(updates);
        match outcome {
            Ok(Outcome::Complete) => {
                // Fails if the reader has left after the last batch, which is as well.
                let _ = self.out.send(Item::End).await;
                self.give_back(None);
            }
            Ok(Outcome::Left) => self.give_back(Some("its client has left the result")),
            Err(error) => {
                match &error {
                    // There is nothing to give back, or nobody to give it back to.
                    ClientError::JobFailed { .. }
                    | ClientError::Cancelled { .. }
                    | ClientError::NotFound { .. }
                    | ClientError::Unreachable { .. } => {}
                    _ => self.give_back(Some("its client could not read the result")),
                }
                let _ = self.out.send(Item::Failed(error)).await;
            }
        }
    }

    async fn drive(&mut self, updates: &mut Updates) -> Result<Outcome, ClientError> {
        loop {
            self.start_fetches();
            if self.ended && self.fetches.is_empty() {
                return self.finish().await;
            }
            tokio::select! {
                biased;
                () = self.out.closed() => return Ok(Outcome::Left),
                Some(fetched) = self.fetches.join_next(), if !self.fetches.is_empty() => {
                    if let Err(error) = self.fetched(fetched) {
                        return Err(self.explain(error, updates).await);
                    }
                }
                update = updates.next(), if !self.ended => match update {
                    Some(update) => self.take(update?)?,
                    None => return Err(ClientError::Protocol { what: "the progress ended before the query".to_owned() }),
                },
            }
        }
    }

    /// Learns what `update` says; an error if it says that the job has failed.
    fn take(&mut self, update: JobUpdate) -> Result<(), ClientError> {
        let state = update.state();
        self.ended = has_ended(state);
        let failure = update.error.clone();
        let advance = self.generation.advance(update.result_generation);
        match advance {
            Advance::Same | Advance::Old => {}
            Advance::Anew => self.begin_anew(),
            Advance::TooLate => return Err(ClientError::RolledBack { job: self.job.id() }),
        }
        if advance != Advance::Old && !self.job.explain_analyze() {
            let places = update.results.iter().map(|place| (place.partition, place.clone()));
            self.places.send_replace(Arc::new(places.collect()));
        }
        self.progress.send_replace(Some(update));
        let job = self.job.id();
        match state {
            JobState::Queued | JobState::Running => Ok(()),
            JobState::Succeeded if failure.is_none() => Ok(()),
            // With an error a job that succeeded has no rows any more.
            JobState::Failed | JobState::Succeeded => {
                let error = Box::new(JobFailure::from(failure.unwrap_or_default()));
                Err(ClientError::JobFailed { job, error })
            }
            JobState::Cancelled => {
                let reason = failure.map_or_else(|| "no reason was given".to_owned(), |error| error.message);
                Err(ClientError::Cancelled { job, reason })
            }
            JobState::Unspecified => {
                Err(ClientError::Protocol { what: format!("query {job} has an unknown state") })
            }
        }
    }

    /// Forgets what it has read; nothing of it was handed out.
    fn begin_anew(&mut self) {
        polybolos_model::sometimes!("a result was read anew after a roll-back", !self.started.is_empty());
        // Stops them. One that runs on for a moment hands nothing out: its generation is over.
        self.fetches = JoinSet::new();
        self.started.clear();
        self.next = 0;
        self.order.clear();
        self.turns.clear();
    }

    /// Afterwards nothing that is ready waits, unless [`FETCH_CONCURRENCY`] fetches are under way.
    fn start_fetches(&mut self) {
        let places = Arc::clone(&self.places.borrow());
        let ordered = self.job.ordered();
        let limit = if ordered { ORDERED_FETCH_CONCURRENCY } else { FETCH_CONCURRENCY };
        for (&partition, place) in places.iter() {
            if self.started.contains(&partition) {
                continue;
            }
            let too_early = ordered && partition != self.next && !self.ended;
            if self.fetches.len() >= limit || too_early {
                break;
            }
            self.started.insert(partition);
            self.next = partition.saturating_add(1);
            if place.rows > 0 {
                self.start_fetch(partition);
            }
        }
        self.give_turn();
    }

    fn start_fetch(&mut self, partition: u32) {
        let turn = self.job.ordered().then(|| self.queue(partition));
        let fetch = Fetch {
            shared: Arc::clone(&self.shared),
            job: self.job.id(),
            schema: self.job.schema(),
            partition,
            places: self.places.subscribe(),
            of_generation: self.generation.present(),
            generation: Arc::clone(&self.generation),
            out: self.out.clone(),
            turn,
        };
        self.fetches.spawn(async move { (partition, fetch.run().await) });
    }

    fn queue(&mut self, partition: u32) -> oneshot::Receiver<()> {
        let (turn, wait) = oneshot::channel();
        self.order.push_back(partition);
        self.turns.insert(partition, turn);
        wait
    }

    fn give_turn(&mut self) {
        if let Some(turn) = self.order.front().and_then(|first| self.turns.remove(first)) {
            // A fetch that has failed meanwhile no longer waits; its failure is on its way.
            let _ = turn.send(());
        }
    }

    fn fetched(
        &mut self,
        fetched: Result<(u32, Result<(), ClientError>), JoinError>,
    ) -> Result<(), ClientError> {
        let (partition, result) =
            fetched.map_err(|error| ClientError::Protocol { what: error.to_string() })?;
        result?;
        self.order.retain(|started| *started != partition);
        Ok(())
    }

    /// The job's own failure, if it comes soon, instead of a fetch that broke because of it.
    async fn explain(&mut self, error: ClientError, updates: &mut Updates) -> ClientError {
        let failure = async {
            while !self.ended
                && let Some(update) = updates.next().await
            {
                if let Err(failure) = update.and_then(|update| self.take(update)) {
                    return Some(failure);
                }
            }
            None
        };
        timeout(FAILURE_GRACE, failure).await.ok().flatten().unwrap_or(error)
    }

    /// All is read; `EXPLAIN ANALYZE` has its rows only now.
    async fn finish(&mut self) -> Result<Outcome, ClientError> {
        if self.job.explain_analyze() {
            for batch in self.job.profile().await?.batches {
                if self.out.send(Item::Batch(batch)).await.is_err() {
                    return Ok(Outcome::Left);
                }
            }
        }
        Ok(Outcome::Complete)
    }

    /// In the background: cancels the job for `reason` unless it has ended, then releases its outputs.
    fn give_back(&self, reason: Option<&'static str>) {
        let (shared, id, ended) = (Arc::clone(&self.shared), self.job.id(), self.ended);
        self.shared.background.spawn(async move {
            if let Some(reason) = reason
                && !ended
                && let Err(error) = shared.cancel(id, reason.to_owned()).await
            {
                tracing::warn!(job = %id, %error, "a query that nobody reads could not be cancelled");
            }
            if let Err(error) = shared.release(id).await {
                tracing::debug!(job = %id, %error, "a query could not be released");
            }
        });
    }
}
