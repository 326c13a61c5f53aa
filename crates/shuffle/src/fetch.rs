//! One source, read over the network.

use std::{sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use arrow_flight::{Ticket, decode::FlightRecordBatchStream, error::FlightError};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use polybolos_proto::v1::HostFile;
use tonic::Request;

use crate::{
    FetchError, FlightPool,
    connection::{Lease, Peer},
    host_file::{HOST, answered},
};

/// What is got from an executor.
pub(crate) enum Fetched {
    Batch(RecordBatch),
    /// Where the rows are on this machine. Nothing follows.
    File(HostFile),
}

struct Fetch {
    pool: Arc<FlightPool>,
    address: String,
    ticket: Bytes,
    /// This machine, if files of other processes on it are read.
    host: Option<Arc<str>>,
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
        let fetched = self.fetch_or_file(address, ticket, None);
        // Nobody gets a file who has not said where he is.
        fetched.try_filter_map(async |fetched| match fetched {
            Fetched::Batch(batch) => Ok(Some(batch)),
            Fetched::File(_) => Ok(None),
        })
    }

    /// As [`FlightPool::fetch`] or, on the same machine, where to read the rows.
    pub(crate) fn fetch_or_file(
        self: &Arc<Self>,
        address: &str,
        ticket: Bytes,
        host: Option<Arc<str>>,
    ) -> impl Stream<Item = Result<Fetched, FetchError>> + Send + use<> {
        let fetch = Fetch {
            pool: Arc::clone(self),
            address: address.to_owned(),
            ticket,
            host,
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
    async fn next(&mut self) -> Result<Option<Fetched>, FetchError> {
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

    async fn try_next(&mut self) -> Result<Option<Fetched>, FetchError> {
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

    async fn next_of(&mut self, peer: &Peer) -> Result<Option<Fetched>, FetchError> {
        let (deadline, waited) = match &mut self.batches {
            Some(batches) => {
                let deadline = self.pool.limits.next_message;
                (deadline, tokio::time::timeout(deadline, next_batch(batches)).await.map(Ok))
            }
            None => {
                let deadline = self.pool.limits.first_message;
                (deadline, tokio::time::timeout(deadline, self.open(peer)).await)
            }
        };
        match waited {
            Ok(Ok(Some(Ok(fetched)))) => Ok(Some(fetched)),
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
    async fn open(&mut self, peer: &Peer) -> Result<Option<Result<Fetched, FlightError>>, FetchError> {
        // Given back when the first batch is there; see `MAX_OPENING`.
        let _opening = self.pool.opening.acquire().await;
        let lease = self.pool.lease(peer, &self.address).await?;
        let mut client = lease.client();
        // From here on a failure gives the connection up.
        self.lease = Some(lease);
        let mut request = Request::new(Ticket { ticket: self.ticket.clone() });
        if let Some(host) = self.host.as_ref().and_then(|host| host.parse().ok()) {
            request.metadata_mut().insert(HOST, host);
        }
        let answer = client.do_get(request).await;
        let messages = answer.map_err(|status| FetchError::from_flight(&self.address, status.into()))?;
        let mut messages = messages.into_inner().map_err(FlightError::from);
        let first = messages.next().await;
        if let (Some(_), Some(Ok(data))) = (&self.host, &first)
            && let Some(file) = answered(data)
        {
            self.lease = None;
            return Ok(Some(Ok(Fetched::File(file))));
        }
        let messages = stream::iter(first).chain(messages);
        let batches = self.batches.insert(FlightRecordBatchStream::new_from_flight_data(messages));
        Ok(next_batch(batches).await)
    }

    fn back_off(&self) -> Duration {
        let doubled = self.pool.limits.back_off.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
        let half = u64::try_from(doubled.as_micros() / 2).unwrap_or(u64::MAX);
        Duration::from_micros(half + self.pool.random.below(half.max(1)))
    }
}

async fn next_batch(batches: &mut FlightRecordBatchStream) -> Option<Result<Fetched, FlightError>> {
    batches.next().await.map(|batch| batch.map(Fetched::Batch))
}
