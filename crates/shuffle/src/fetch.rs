//! One source, read over the network.

use std::{sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use arrow_flight::{Ticket, decode::FlightRecordBatchStream, error::FlightError};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::{
    FetchError, FlightPool,
    connection::{Lease, Peer},
};

struct Fetch {
    pool: Arc<FlightPool>,
    address: String,
    ticket: Bytes,
    /// Whom this try asks.
    peer: Option<Arc<Peer>>,
    /// The place on a connection, once there is one.
    lease: Option<Lease>,
    /// The answer, once there is one.
    batches: Option<FlightRecordBatchStream>,
    /// Failed tries.
    failures: u32,
    handed_on: bool,
}

impl FlightPool {
    /// The batches of the output partition that `ticket` names, in order. While nothing was handed on, a failure is
    /// tried again; later it ends the stream, because a second reading must start from the first batch.
    ///
    /// Nothing is read ahead beyond the windows of HTTP/2: who doesn't poll makes the sender wait. A deadline runs
    /// only while a batch is awaited, so poll each call of `next` to its end.
    pub fn fetch(
        self: &Arc<Self>,
        address: &str,
        ticket: Bytes,
    ) -> impl Stream<Item = Result<RecordBatch, FetchError>> + Send + use<> {
        let fetch = Fetch {
            pool: Arc::clone(self),
            address: address.to_owned(),
            ticket,
            peer: None,
            lease: None,
            batches: None,
            failures: 0,
            handed_on: false,
        };
        stream::try_unfold(
            fetch,
            |mut fetch| async move { Ok(fetch.next().await?.map(|batch| (batch, fetch))) },
        )
    }
}

impl Fetch {
    async fn next(&mut self) -> Result<Option<RecordBatch>, FetchError> {
        loop {
            match self.try_next().await {
                Ok(batch) => {
                    self.handed_on |= batch.is_some();
                    return Ok(batch);
                }
                Err(_) if self.handed_on && polybolos_model::mutant!("fetch-cut-short") => return Ok(None),
                Err(error) => {
                    polybolos_model::sometimes!("a fetch broke between two batches", self.handed_on);
                    (self.batches, self.peer) = (None, None);
                    if let Some(lease) = self.lease.take()
                        && !error.is_about_output()
                    {
                        lease.give_up_connection();
                    }
                    self.failures += 1;
                    let handed_on = self.handed_on && !polybolos_model::mutant!("fetch-repeated");
                    if handed_on || self.failures >= self.pool.limits.attempts || !error.may_pass() {
                        return Err(error);
                    }
                    polybolos_model::sometimes!("a fetch was tried again");
                    tracing::debug!(address = %self.address, failures = self.failures, %error, "a fetch is tried again");
                    tokio::time::sleep(self.back_off()).await;
                }
            }
        }
    }

    async fn try_next(&mut self) -> Result<Option<RecordBatch>, FetchError> {
        let peer = Arc::clone(self.peer.get_or_insert_with(|| self.pool.peer(&self.address)));
        tokio::select! {
            biased;
            next = self.next_of(&peer) => next,
            () = peer.is_lost() => {
                polybolos_model::sometimes!("a fetch ended as its executor was lost");
                Err(FetchError::Lost { address: self.address.clone() })
            }
        }
    }

    async fn next_of(&mut self, peer: &Peer) -> Result<Option<RecordBatch>, FetchError> {
        let (deadline, waited) = match &mut self.batches {
            Some(batches) => {
                let deadline = self.pool.limits.next_message;
                (deadline, tokio::time::timeout(deadline, batches.next()).await.map(Ok))
            }
            None => {
                let deadline = self.pool.limits.first_message;
                (deadline, tokio::time::timeout(deadline, self.open(peer)).await)
            }
        };
        match waited {
            Ok(Ok(Some(Ok(batch)))) => Ok(Some(batch)),
            Ok(Ok(Some(Err(error)))) => Err(FetchError::from_flight(&self.address, error)),
            Ok(Ok(None)) => {
                // Others may use the connection, even while this stream is kept.
                self.batches = None;
                self.lease = None;
                Ok(None)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(FetchError::Silent { address: self.address.clone(), deadline }),
        }
    }

    /// Asks, and waits for the answer up to and with its first batch: a schema alone proves nothing about a disk.
    async fn open(&mut self, peer: &Peer) -> Result<Option<Result<RecordBatch, FlightError>>, FetchError> {
        // Given back when the first batch is there; see `MAX_OPENING`.
        let _opening = self.pool.opening.acquire().await;
        let lease = self.pool.lease(peer, &self.address).await?;
        let mut client = lease.client();
        // From here on a failure gives the connection up.
        self.lease = Some(lease);
        let answer = client.do_get(Ticket { ticket: self.ticket.clone() }).await;
        let messages = answer.map_err(|status| FetchError::from_flight(&self.address, status.into()))?;
        let messages = messages.into_inner().map_err(FlightError::from);
        let batches = self.batches.insert(FlightRecordBatchStream::new_from_flight_data(messages));
        Ok(batches.next().await)
    }

    fn back_off(&self) -> Duration {
        let doubled = self.pool.limits.back_off.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
        let half = u64::try_from(doubled.as_micros() / 2).unwrap_or(u64::MAX);
        Duration::from_micros(half + self.pool.random.below(half.max(1)))
    }
}
