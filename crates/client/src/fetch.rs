//! Reading one partition of a result from the executor that holds it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use arrow_flight::{
    Ticket, decode::FlightRecordBatchStream, error::FlightError, flight_service_client::FlightServiceClient,
};
use futures::{StreamExt, TryStreamExt};
use polybolos_model::{JobId, limits::MAX_MESSAGE_BYTES};
use polybolos_proto::v1::ResultPartition;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};
use tonic::transport::Channel;

use crate::{
    ClientError,
    call::Shared,
    channels::describe,
    ipc,
    limits::{
        FETCH_ATTEMPTS, FETCH_OPEN_TIMEOUT, FETCH_PATIENCE, FETCH_SILENCE, PLACE_PATIENCE, READ_AHEAD_BATCHES,
    },
    stream::Item,
};

/// Where each complete partition of a result is, by the latest update.
pub(crate) type Places = Arc<BTreeMap<u32, ResultPartition>>;

/// One partition on its way to the reader.
pub(crate) struct Fetch {
    pub(crate) shared: Arc<Shared>,
    pub(crate) job: JobId,
    pub(crate) schema: SchemaRef,
    pub(crate) partition: u32,
    pub(crate) places: watch::Receiver<Places>,
    pub(crate) out: mpsc::Sender<Item>,
    /// Fires when the partitions before this one are handed out; `None` when there is nothing to wait for.
    pub(crate) turn: Option<oneshot::Receiver<()>>,
}

/// Why a try to read a partition ended before its last batch.
enum Stop {
    /// Nobody reads the result any more.
    Left,
    Broken(String),
}

impl Fetch {
    /// Hands out all batches of the partition, each exactly once.
    ///
    /// # Errors
    /// [`ClientError::Fetch`] when the partition breaks after a batch was handed out, or again and again before.
    pub(crate) async fn run(mut self) -> Result<(), ClientError> {
        let mut tries = 0;
        let mut handed_out = 0;
        let mut broken_since = None;
        loop {
            let place = self.place().await;
            let last = match self.read(&place, &mut handed_out).await {
                Ok(()) | Err(Stop::Left) => return Ok(()),
                Err(Stop::Broken(_)) if handed_out > 0 && polybolos_model::mutant!("result-cut-short") => {
                    return Ok(());
                }
                Err(Stop::Broken(last)) => last,
            };
            tries += 1;
            tracing::debug!(job = %self.job, partition = self.partition, tries, handed_out, last, "a fetch broke");
            let now = self.shared.env.clock.now();
            let patient = now - *broken_since.get_or_insert(now) < FETCH_PATIENCE;
            let repeats = handed_out > 0 && !polybolos_model::mutant!("result-repeated");
            polybolos_model::sometimes!("a result broke after some of it was read", handed_out > 0);
            if repeats || (tries >= FETCH_ATTEMPTS && !patient) {
                let (job, partition, address) = (self.job, self.partition, place.address);
                return Err(ClientError::Fetch { job, partition, address, batches: handed_out, last });
            }
            let pause = self.shared.backoff(tries + 1);
            tokio::select! {
                biased;
                () = self.moved(&place) => polybolos_model::sometimes!("a result was made anew elsewhere"),
                () = sleep(pause) => {}
            }
        }
    }

    /// Where the partition is. Nowhere for a while if it was lost and is made anew.
    async fn place(&mut self) -> ResultPartition {
        let partition = self.partition;
        let known = self.places.wait_for(|places| places.contains_key(&partition));
        match timeout(PLACE_PATIENCE, known).await {
            Ok(Ok(places)) => places.get(&partition).cloned().unwrap_or_default(),
            Ok(Err(_)) | Err(_) => ResultPartition { partition, ..Default::default() },
        }
    }

    /// Waits until the partition is elsewhere, maybe for ever.
    async fn moved(&mut self, from: &ResultPartition) {
        let partition = self.partition;
        let elsewhere =
            |places: &Places| places.get(&partition).is_some_and(|place| place.ticket != from.ticket);
        if self.places.wait_for(elsewhere).await.is_err() {
            // The driver is gone, and this task with it.
            std::future::pending::<()>().await;
        }
    }

    async fn read(&mut self, place: &ResultPartition, handed_out: &mut u64) -> Result<(), Stop> {
        let (channel, lease) = self.shared.channels.lease(&place.address).await.map_err(Stop::Broken)?;
        let done = self.read_from(channel, place, handed_out).await;
        if let Err(Stop::Broken(_)) = done {
            lease.give_up_connection();
        }
        done
    }

    async fn read_from(
        &mut self,
        channel: Channel,
        place: &ResultPartition,
        handed_out: &mut u64,
    ) -> Result<(), Stop> {
        let mut batches = open(channel, place).await?;
        let mut ahead = VecDeque::new();
        let mut more = true;
        while more || self.turn.is_some() {
            let room = more && (self.turn.is_none() || ahead.len() < READ_AHEAD_BATCHES);
            tokio::select! {
                biased;
                turn = wait_for(&mut self.turn), if self.turn.is_some() => {
                    turn?;
                    self.turn = None;
                }
                batch = next(&mut batches), if room => match batch? {
                    Some(batch) => ahead.push_back(ipc::conform(batch, &self.schema).map_err(broken)?),
                    None => more = false,
                },
            }
            while self.turn.is_none()
                && let Some(batch) = ahead.pop_front()
            {
                if batch.num_rows() > 0 {
                    self.out.send(Item::Batch(batch)).await.map_err(|_| Stop::Left)?;
                    *handed_out += 1;
                    polybolos_model::failpoint!("client.mid_result");
                }
            }
        }
        Ok(())
    }
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
        Ok(Err(status)) => Err(Stop::Broken(describe(&status))),
        Err(_) => Err(Stop::Broken(format!("no answer for {} s", FETCH_OPEN_TIMEOUT.as_secs()))),
    }
}

async fn wait_for(turn: &mut Option<oneshot::Receiver<()>>) -> Result<(), Stop> {
    match turn {
        // The sender goes only with the driver, which goes when nobody reads any more.
        Some(turn) => turn.await.map_err(|_| Stop::Left),
        None => Ok(()),
    }
}

async fn next(batches: &mut FlightRecordBatchStream) -> Result<Option<RecordBatch>, Stop> {
    match timeout(FETCH_SILENCE, batches.next()).await {
        Ok(Some(Ok(batch))) => Ok(Some(batch)),
        Ok(Some(Err(error))) => Err(Stop::Broken(describe(&error))),
        Ok(None) => Ok(None),
        Err(_) => Err(Stop::Broken(format!("silent for {} s", FETCH_SILENCE.as_secs()))),
    }
}

fn broken(error: ClientError) -> Stop {
    Stop::Broken(error.to_string())
}
