//! Who reads a result: follows its job, fetches each partition once, and asks for those that are lost.
//!
//! ```text
//!   Watch ──▶ Driver ──▶ Fetch, one a partition ──▶ the reader
//!     ▲          ▲          │ can't be read where it is, and nothing of it was handed out
//!     └─ a look ─┴──────────┘
//! ```
//!
//! A success is not the end: partitions that are lost before they are read are made again for whoever asks, and the job
//! is followed once more until they are there.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use polybolos_proto::v1::{JobState, JobUpdate};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinError, JoinSet},
    time::timeout,
};

use crate::{
    ClientError, JobFailure, JobHandle,
    call::Shared,
    early::Given,
    fetch::{Fetch, Places, Trouble},
    generation::{Advance, Generation},
    inline::with_rows,
    limits::{EARLY_FETCH_CONCURRENCY, FETCH_CONCURRENCY, ORDERED_FETCH_CONCURRENCY},
    stream::Item,
    watch::{Reading, has_ended},
};

/// After a partition could not be read, how long to wait for the job's own failure, which explains it better.
const FAILURE_GRACE: Duration = Duration::from_secs(1);

/// Starts a fetch for each partition that becomes ready, and ends with the job and the last of them.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    job: JobHandle,
    out: mpsc::Sender<Item>,
    progress: watch::Sender<Option<JobUpdate>>,
    places: watch::Sender<Places>,
    /// Of the result's rows.
    generation: Arc<Generation>,
    /// None is started twice.
    started: BTreeSet<u32>,
    /// Those of them that are not read to their end.
    under_way: BTreeSet<u32>,
    /// Ordered only: the partition to start next.
    next: u32,
    fetches: JoinSet<(u32, Result<(), ClientError>)>,
    /// Ordered only: started partitions, ascending. The first has its turn.
    order: VecDeque<u32>,
    turns: BTreeMap<u32, oneshot::Sender<()>>,
    /// `None` once they said that the job has ended and all of its result is there.
    updates: Option<Updates>,
    /// Opened for partitions that can't be read where they are.
    look: Option<Updates>,
    trouble: mpsc::Sender<Trouble>,
    troubles: mpsc::Receiver<Trouble>,
    /// A look is open, and nothing came of it yet.
    asking: Arc<AtomicBool>,
    /// Nothing more is to come, as far as the last update knew.
    ended: bool,
}

type Updates = BoxStream<'static, Result<JobUpdate, ClientError>>;

async fn next(updates: &mut Option<Updates>) -> Option<Result<JobUpdate, ClientError>> {
    updates.as_mut()?.next().await
}

/// How the reading of a result ended.
enum Outcome {
    Complete,
    /// The reader has dropped the stream.
    Left,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        job: JobHandle,
        out: mpsc::Sender<Item>,
        progress: watch::Sender<Option<JobUpdate>>,
    ) -> Self {
        let (trouble, troubles) = mpsc::channel(FETCH_CONCURRENCY);
        Self {
            shared,
            job,
            out,
            progress,
            places: watch::Sender::default(),
            generation: Arc::default(),
            started: BTreeSet::new(),
            under_way: BTreeSet::new(),
            next: 0,
            fetches: JoinSet::new(),
            order: VecDeque::new(),
            turns: BTreeMap::new(),
            updates: None,
            look: None,
            trouble,
            troubles,
            asking: Arc::default(),
            ended: false,
        }
    }

    pub(crate) async fn run(mut self) {
        self.updates = Some(self.job.read());
        let outcome = self.drive().await;
        // Closes the watches and the fetches before the job is released.
        self.fetches.shutdown().await;
        (self.updates, self.look) = (None, None);
        match outcome {
            Ok(Outcome::Complete) => {
                // Before the end: whoever has seen that may wait for what is under way in the background.
                self.give_back(None);
                // Fails if the reader has left after the last batch, which is as well.
                let _ = self.out.send(Item::End).await;
            }
            Ok(Outcome::Left) => self.give_back(Some("its client has left the result")),
            Err(error) => {
                match &error {
                    // There is nothing to give back, or nobody to give it back to.
                    ClientError::JobFailed { .. }
                    | ClientError::Cancelled { .. }
                    | ClientError::NotFound { .. }
                    | ClientError::Unreachable { .. }
                    | ClientError::Unfollowed { .. } => {}
                    _ => self.give_back(Some("its client could not read the result")),
                }
                let _ = self.out.send(Item::Failed(error)).await;
            }
        }
    }

    fn watch(&self, unreadable: Vec<Bytes>) -> Updates {
        self.job.watch_and_read(Reading { reads: true, unreadable })
    }

    async fn drive(&mut self) -> Result<Outcome, ClientError> {
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
                        return Err(self.explain(error).await);
                    }
                }
                Some(trouble) = self.troubles.recv() => self.look_again(trouble),
                update = next(&mut self.look), if self.look.is_some() => self.looked(update)?,
                update = next(&mut self.updates), if self.updates.is_some() => match update {
                    Some(update) => {
                        self.take(update?)?;
                        if self.ended {
                            self.updates = None;
                        }
                    }
                    None => return Err(ClientError::Protocol { what: "the progress ended before the query".to_owned() }),
                },
            }
        }
    }

    /// Asks the leader where the partition is. One that is not there any more is made anew for that.
    fn look_again(&mut self, first: Trouble) {
        let mut unreadable: Vec<Bytes> = first.unreadable.into_iter().collect();
        while let Ok(more) = self.troubles.try_recv() {
            unreadable.extend(more.unreadable);
        }
        // While the query runs, its updates tell of what was lost with an executor. A fetch that is still in trouble
        // after a look comes back to it.
        let is_known = self.updates.is_some() && unreadable.is_empty();
        if self.look.is_none() && !is_known {
            self.look = Some(self.watch(unreadable));
            self.asking.store(true, Ordering::Release);
        }
    }

    fn looked(&mut self, update: Option<Result<JobUpdate, ClientError>>) -> Result<(), ClientError> {
        let look = self.look.take();
        self.asking.store(false, Ordering::Release);
        match update {
            Some(Ok(update)) => {
                self.take(update)?;
                if self.updates.is_none() && !self.ended {
                    self.updates = look;
                }
            }
            // Whoever was in trouble tries again, and gives up when its time has come.
            Some(Err(error)) => {
                tracing::debug!(job = %self.job.id(), %error, "lost results were not asked for")
            }
            None => {}
        }
        Ok(())
    }

    /// Learns what `update` says; an error if it says that the job has failed.
    fn take(&mut self, update: JobUpdate) -> Result<(), ClientError> {
        let state = update.state();
        let failure = update.error.clone();
        match self.generation.advance(update.result_generation) {
            Advance::Same => {}
            // Of a job that has ended without rows to read the cluster forgets the generation.
            Advance::Old if self.ends_without_rows(&update) => {}
            // It was overtaken on its way.
            Advance::Old => return Ok(()),
            Advance::Anew => self.begin_anew(),
            Advance::TooLate => return Err(ClientError::RolledBack { job: self.job.id() }),
        }
        self.ended = has_ended(state) && !update.more_come;
        polybolos_model::sometimes!("a client followed a reopened query", update.more_come);
        if polybolos_model::mutant!("reopened-result-repeats") && update.more_come {
            self.started = self.under_way.clone();
        }
        if !self.job.explain_analyze() {
            let known = Arc::clone(&self.places.borrow());
            let places = update.results.iter().map(|place| (place.partition, with_rows(place, &known)));
            self.places.send_replace(Arc::new(places.collect()));
        }
        let is_whole = self.is_whole(&update);
        self.progress.send_replace(Some(update));
        let job = self.job.id();
        match state {
            JobState::Queued | JobState::Running => Ok(()),
            JobState::Succeeded if failure.is_none() && self.ended && !is_whole => {
                let what = format!("query {job} has ended, and nobody says where all of its result is");
                Err(ClientError::Protocol { what })
            }
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

    /// The job has failed or was cancelled, or its rows are not a result.
    fn ends_without_rows(&self, update: &JobUpdate) -> bool {
        let has_rows = update.state() == JobState::Succeeded && update.error.is_none();
        has_ended(update.state()) && (!has_rows || self.job.explain_analyze())
    }

    /// Whether all rows of the result stage are somewhere, and all that is being read.
    fn is_whole(&self, update: &JobUpdate) -> bool {
        let known = update.results.iter().fold(0u64, |sum, place| sum.saturating_add(place.rows));
        let rows = update.stages.last().map_or(0, |stage| stage.rows_out);
        let places = self.places.borrow();
        let is_read = self.under_way.iter().all(|partition| places.contains_key(partition));
        self.job.explain_analyze() || (known >= rows && is_read)
    }

    /// Forgets what it has read; nothing of it was handed out.
    fn begin_anew(&mut self) {
        polybolos_model::sometimes!("a result was read anew after a roll-back", !self.started.is_empty());
        // Stops them. One that runs on for a moment hands nothing out: its generation is over.
        self.fetches = JoinSet::new();
        self.started.clear();
        self.under_way.clear();
        self.next = 0;
        self.order.clear();
        self.turns.clear();
    }

    /// Afterwards nothing that is ready waits, unless [`FETCH_CONCURRENCY`] fetches are under way, or
    /// [`EARLY_FETCH_CONCURRENCY`] of those that are not complete.
    fn start_fetches(&mut self) {
        let places = Arc::clone(&self.places.borrow());
        let ordered = self.job.ordered();
        let limit = if ordered { ORDERED_FETCH_CONCURRENCY } else { FETCH_CONCURRENCY };
        let is_early = |partition: &u32| places.get(partition).is_some_and(|place| place.unfinished);
        let mut early = self.under_way.iter().filter(|partition| is_early(partition)).count();
        let mut complete = self.under_way.len() - early;
        for (&partition, place) in places.iter() {
            if self.started.contains(&partition) {
                continue;
            }
            let too_early = ordered && partition != self.next && !self.ended;
            // One that is complete never waits for one that is not.
            let (count, limit) = match place.unfinished {
                true => (&mut early, EARLY_FETCH_CONCURRENCY),
                false => (&mut complete, limit),
            };
            if too_early || (ordered && *count >= limit) {
                break;
            }
            if *count >= limit {
                continue;
            }
            self.started.insert(partition);
            self.next = partition.saturating_add(1);
            if place.rows > 0 || place.unfinished {
                *count += 1;
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
            given: Given::default(),
            of_generation: self.generation.present(),
            generation: Arc::clone(&self.generation),
            out: self.out.clone(),
            turn,
            trouble: self.trouble.clone(),
            asking: Arc::clone(&self.asking),
        };
        self.under_way.insert(partition);
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
        self.under_way.remove(&partition);
        self.order.retain(|started| *started != partition);
        Ok(())
    }

    /// The job's own failure, if it comes soon, instead of a fetch that broke because of it.
    async fn explain(&mut self, error: ClientError) -> ClientError {
        let mut updates = self.updates.take();
        let failure = async {
            while !self.ended
                && let Some(update) = next(&mut updates).await
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
