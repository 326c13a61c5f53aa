//! Reading one partition of a result from the executor that holds it, unless its rows have come with its place.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use arrow_flight::{
    Ticket, decode::FlightRecordBatchStream, error::FlightError, flight_service_client::FlightServiceClient,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use polybolos_model::{JobId, limits::MAX_MESSAGE_BYTES};
use polybolos_proto::v1::ResultPartition;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    ClientError,
    call::Shared,
    channels::describe,
    early::{Early, Given},
    generation::Generation,
    ipc,
    limits::{
        FETCH_ATTEMPTS, FETCH_LOOK_INTERVAL, FETCH_OPEN_TIMEOUT, FETCH_PATIENCE, FETCH_SILENCE,
        PLACE_TIMEOUT, READ_AHEAD_BATCHES,
    },
    stream::Item,
    watch::{Reading, watch as follow},
};

/// Where each complete partition of a result is, by the latest update.
pub(crate) type Places = Arc<BTreeMap<u32, ResultPartition>>;

/// One partition on its way to the reader.
pub(crate) struct Fetch {
    pub(crate) shared: Arc<Shared>,
    pub(crate) job: JobId,
    pub(crate) schema: SchemaRef,
    pub(crate) partition: u32,
    pub(crate) given: Given,
    pub(crate) places: watch::Receiver<Places>,
    /// In which it was begun.
    pub(crate) of_generation: u32,
    pub(crate) generation: Arc<Generation>,
    pub(crate) out: mpsc::Sender<Item>,
    /// Fires when the partitions before this one are handed out; `None` when there is nothing to wait for.
    pub(crate) turn: Option<oneshot::Receiver<()>>,
    /// To whoever follows the query: a partition of which nothing was handed out can't be read where it is.
    pub(crate) trouble: mpsc::Sender<Trouble>,
    /// The leader was asked for such partitions, and has not answered.
    pub(crate) asking: Arc<AtomicBool>,
}

/// A partition that can't be read where it is, as far as its reader knows.
pub(crate) struct Trouble {
    /// Its ticket, if the executor said itself that it has no such output, or a damaged one.
    pub(crate) unreadable: Option<Bytes>,
}

/// Failed tries at a partition before the leader is asked where it is.
const TRIES_BEFORE_ASKING: u32 = 3;

/// What of a partition the reader has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HandedOut {
    pub(crate) batches: u64,
    pub(crate) rows: u64,
}

/// Why a try to read a partition ended before its last batch.
pub(crate) enum Stop {
    /// Nobody reads the result any more, or reads it anew.
    Left,
    Broken(Broken),
    /// The rows are others than those that were handed out.
    Different(String),
}

/// Why a stream of rows broke.
pub(crate) struct Broken {
    pub(crate) why: String,
    /// By the executor's own word the output is not there any more, or is damaged.
    is_unreadable: bool,
}

impl Broken {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_unreadable: false }
    }
}

impl From<&Status> for Broken {
    fn from(status: &Status) -> Self {
        // Neither comes from a broken connection.
        let is_unreadable = matches!(status.code(), Code::NotFound | Code::DataLoss);
        Self { why: describe(status), is_unreadable }
    }
}

impl Fetch {
    /// Hands out all rows of the partition, each exactly once.
    ///
    /// # Errors
    /// [`ClientError::Fetch`] when the partition breaks again and again, or after a batch was handed out and the rest of
    /// the same rows is nowhere and can't be made again.
    pub(crate) async fn run(mut self) -> Result<(), ClientError> {
        let mut tries = 0;
        let mut handed_out = HandedOut::default();
        let mut broken_since = None;
        let mut next = None;
        let mut tried = Bytes::new();
        loop {
            let place = match next.take() {
                Some(place) => place,
                None => self.place().await,
            };
            match self.early(&place, &mut handed_out).await? {
                Early::Read => {}
                Early::Again => continue,
                Early::Done => return Ok(()),
            }
            // Another attempt's rows have all the patience anew.
            if place.ticket != tried {
                (tries, broken_since, tried) = (0, None, place.ticket.clone());
            }
            let before = handed_out;
            let last = match self.read(&place, &mut handed_out).await {
                Ok(()) | Err(Stop::Left) => return Ok(()),
                Err(Stop::Broken(_))
                    if handed_out.batches > 0 && polybolos_model::mutant!("result-cut-short") =>
                {
                    return Ok(());
                }
                Err(Stop::Broken(last)) => last,
                Err(Stop::Different(why)) => return Err(self.failed(&place, handed_out, why)),
            };
            if handed_out != before {
                (tries, broken_since) = (0, None);
            }
            tries += 1;
            let Broken { why: last, is_unreadable } = last;
            tracing::debug!(job = %self.job, partition = self.partition, tries, ?handed_out, last, "a fetch broke");
            let now = self.shared.env.clock.now();
            let patient = now - *broken_since.get_or_insert(now) < FETCH_PATIENCE;
            polybolos_model::sometimes!("a result broke after some of it was read", handed_out.batches > 0);
            // To this attempt.
            let begun = handed_out.batches > 0 && !self.given.repeatable;
            // While the query runs, updates tell of a partition that moved.
            if begun {
                next = self.ask().await;
            } else if is_unreadable || tries >= TRIES_BEFORE_ASKING {
                tell(&self.trouble, is_unreadable.then(|| place.ticket.clone()));
            }
            let ends =
                begun && !goes_on(&place, next.as_ref()) && !polybolos_model::mutant!("result-repeated");
            if ends || (tries >= FETCH_ATTEMPTS && !patient && !self.asking.load(Ordering::Acquire)) {
                return Err(self.failed(&place, handed_out, last));
            }
            polybolos_model::sometimes!("a result went on from another copy", begun);
            if next.as_ref().is_some_and(|next| next.address != place.address) {
                continue;
            }
            if begun && next.is_none() {
                next = Some(place.clone());
            }
            let pause = self.shared.backoff(tries + 1);
            tokio::select! {
                biased;
                () = moved(self.places.clone(), self.partition, &place), if !begun => {
                    polybolos_model::sometimes!("a result was made anew elsewhere");
                    next = None;
                }
                () = sleep(pause) => {}
            }
        }
    }

    pub(crate) fn failed(&self, place: &ResultPartition, handed_out: HandedOut, last: String) -> ClientError {
        let (job, partition, address) = (self.job, self.partition, place.address.clone());
        ClientError::Fetch { job, partition, address, batches: handed_out.batches, last }
    }

    /// Where the partition is. Nowhere for a while if it was lost and is made anew: as long as whoever follows the query
    /// has no worse news.
    async fn place(&mut self) -> ResultPartition {
        let partition = self.partition;
        let known = self.places.wait_for(|places| places.contains_key(&partition)).await;
        let known = known.ok().and_then(|places| places.get(&partition).cloned());
        match known {
            Some(place) => place,
            // The driver is gone, and this task with it.
            None => std::future::pending().await,
        }
    }

    /// Where the partition is by the word of the leader, also after the query's end, when no updates come any more.
    async fn ask(&self) -> Option<ResultPartition> {
        let mut updates = std::pin::pin!(follow(Arc::clone(&self.shared), self.job, Reading::default()));
        let update = timeout(PLACE_TIMEOUT, updates.next()).await.ok()??.ok()?;
        let is_present = update.result_generation == self.of_generation;
        update.results.into_iter().find(|place| is_present && place.partition == self.partition)
    }

    /// Reads the partition at `place`. Until something of it was handed out, or while it is made, it is given up there as
    /// soon as the driver knows that it is not there any more, which the driver asks for while the executor says nothing.
    pub(crate) async fn read(
        &mut self,
        place: &ResultPartition,
        handed_out: &mut HandedOut,
    ) -> Result<(), Stop> {
        if handed_out.batches == 0
            && let Some(batches) = self.came_along(place)
        {
            return self.hand_out(batches).await;
        }
        let progress = Progress::new(handed_out.batches > 0);
        let moved = moved(self.places.clone(), self.partition, place);
        let (trouble, begun) = (self.trouble.clone(), || progress.begun.load(Ordering::Relaxed));
        let look = async {
            loop {
                sleep(FETCH_LOOK_INTERVAL).await;
                if progress.waits.load(Ordering::Relaxed) && !begun() {
                    tell(&trouble, None);
                }
            }
        };
        let leave = async {
            tokio::select! {
                biased;
                () = moved => {}
                () = look => {}
            }
            if begun() && !place.unfinished {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            done = self.read_at(place, handed_out, &progress) => done,
            () = leave => {
                polybolos_model::sometimes!("a result was given up on an executor that hangs");
                Err(broken("it is not there any more".to_owned()))
            }
        }
    }

    async fn read_at(
        &mut self,
        place: &ResultPartition,
        handed_out: &mut HandedOut,
        progress: &Progress,
    ) -> Result<(), Stop> {
        let (channel, lease) =
            self.shared.channels.lease(&place.address).await.map_err(|why| Stop::Broken(Broken::new(why)))?;
        let done = self.read_from(channel, place, handed_out, progress).await;
        if let Err(Stop::Broken(broken)) = &done
            // An attempt that has not begun says nothing of the connection.
            && !(place.unfinished && broken.is_unreadable)
        {
            lease.give_up_connection();
        }
        done
    }

    async fn read_from(
        &mut self,
        channel: Channel,
        place: &ResultPartition,
        handed_out: &mut HandedOut,
        progress: &Progress,
    ) -> Result<(), Stop> {
        let mut batches = open(channel, place).await?;
        let mut ahead = VecDeque::new();
        let mut more = true;
        let repeats =
            polybolos_model::mutant!("result-repeated") || polybolos_model::mutant!("durable-resume-repeats");
        let repeats = repeats || (place.repeatable && polybolos_model::mutant!("early-reader-begins-anew"));
        let mut skip = if repeats { 0 } else { handed_out.rows };
        let (places, partition) = (self.places.clone(), self.partition);
        let may_be_silent =
            || place.unfinished && places.borrow().get(&partition).is_none_or(|now| now.unfinished);
        while more || self.turn.is_some() {
            let room = more && (self.turn.is_none() || ahead.len() < READ_AHEAD_BATCHES);
            progress.waits.store(room, Ordering::Relaxed);
            tokio::select! {
                biased;
                turn = wait_for(&mut self.turn), if self.turn.is_some() => {
                    turn?;
                    self.turn = None;
                }
                batch = next(&mut batches, may_be_silent), if room => match batch? {
                    Some(batch) => {
                        let batch =
                            ipc::conform(batch, &self.schema).map_err(|error| broken(error.to_string()))?;
                        self.given.check(&batch, skip)?;
                        ahead.push_back(rest(batch, &mut skip));
                    }
                    None => more = false,
                },
            }
            while self.turn.is_none()
                && let Some(batch) = ahead.pop_front()
            {
                if batch.num_rows() > 0 {
                    if !self.generation.enter(self.of_generation) {
                        return Err(Stop::Left);
                    }
                    let rows = batch.num_rows() as u64;
                    self.given.note(&batch, place, may_be_silent());
                    progress.begun.store(true, Ordering::Relaxed);
                    self.out.send(Item::Batch(batch)).await.map_err(|_| Stop::Left)?;
                    *handed_out = HandedOut { batches: handed_out.batches + 1, rows: handed_out.rows + rows };
                    polybolos_model::failpoint!("client.mid_result");
                }
            }
        }
        Ok(())
    }
}

/// How far the reading of a place has come, for whoever watches it.
struct Progress {
    /// The executor has to say something next.
    waits: AtomicBool,
    /// Something was handed out.
    begun: AtomicBool,
}

impl Progress {
    fn new(begun: bool) -> Self {
        Self { waits: AtomicBool::new(true), begun: AtomicBool::new(begun) }
    }
}

/// Has the driver ask the leader. If it has too much to ask already, the next try comes back to it.
fn tell(trouble: &mpsc::Sender<Trouble>, unreadable: Option<Bytes>) {
    let _ = trouble.try_send(Trouble { unreadable });
}

/// Waits until the partition is elsewhere, or nowhere as it is made anew; maybe for ever.
async fn moved(mut places: watch::Receiver<Places>, partition: u32, from: &ResultPartition) {
    let elsewhere = |places: &Places| match places.get(&partition) {
        // The attempt goes on where it is when it is complete, or while nobody knows of it.
        now if from.unfinished => now.is_some_and(|now| now.attempt != from.attempt),
        now => !now.is_some_and(|now| now.ticket == from.ticket && now.address == from.address),
    };
    if places.wait_for(elsewhere).await.is_err() {
        // The driver is gone, and the fetch with it.
        std::future::pending::<()>().await;
    }
}

/// Whether a reader that has some rows of `place` can go on at `next`: the rows are the same, and outlive their executor or
/// were handed over to another one. When nobody knows where they are now, where they were may still do.
fn goes_on(place: &ResultPartition, next: Option<&ResultPartition>) -> bool {
    let next = next.unwrap_or(place);
    let is_elsewhere = next.durable || next.address != place.address;
    is_elsewhere && next.attempt == place.attempt && !next.attempt.is_empty()
}

/// What is left of `batch` when the first `skip` rows are left out; counts `skip` down.
fn rest(batch: RecordBatch, skip: &mut u64) -> RecordBatch {
    let rows = batch.num_rows();
    let left_out = usize::try_from(*skip).unwrap_or(usize::MAX).min(rows);
    *skip -= left_out as u64;
    if left_out == 0 { batch } else { batch.slice(left_out, rows - left_out) }
}

async fn open(channel: Channel, place: &ResultPartition) -> Result<FlightRecordBatchStream, Stop> {
    let mut flight = FlightServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let ticket = Ticket { ticket: place.ticket.clone() };
    match timeout(FETCH_OPEN_TIMEOUT, flight.do_get(ticket)).await {
        Ok(Ok(response)) => {
            let data = response.into_inner().map_err(FlightError::from);
            Ok(FlightRecordBatchStream::new_from_flight_data(data))
        }
        Ok(Err(status)) => Err(Stop::Broken(Broken::from(&status))),
        Err(_) => Err(broken(format!("no answer for {} s", FETCH_OPEN_TIMEOUT.as_secs()))),
    }
}

pub(crate) async fn wait_for(turn: &mut Option<oneshot::Receiver<()>>) -> Result<(), Stop> {
    match turn {
        // The sender goes only with the driver, which goes when nobody reads any more.
        Some(turn) => turn.await.map_err(|_| Stop::Left),
        None => Ok(()),
    }
}

/// The next batch. A connection that is gone ends the wait by its keep-alive, also for one that may be silent for long.
async fn next(
    batches: &mut FlightRecordBatchStream,
    may_be_silent: impl Fn() -> bool,
) -> Result<Option<RecordBatch>, Stop> {
    loop {
        return match timeout(FETCH_SILENCE, batches.next()).await {
            Ok(Some(Ok(batch))) => Ok(Some(batch)),
            Ok(Some(Err(FlightError::Tonic(status)))) => Err(Stop::Broken(Broken::from(&*status))),
            Ok(Some(Err(error))) => Err(broken(describe(&error))),
            Ok(None) => Ok(None),
            Err(_) if may_be_silent() => continue,
            Err(_) => Err(broken(format!("silent for {} s", FETCH_SILENCE.as_secs()))),
        };
    }
}

fn broken(why: String) -> Stop {
    Stop::Broken(Broken::new(why))
}
