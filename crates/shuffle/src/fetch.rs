//! One source, read over the network.

use std::{sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use arrow_flight::{Ticket, decode::FlightRecordBatchStream, error::FlightError};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::{FetchError, FlightPool, connection::Lease};

/// An answered request.
struct Open {
    batches: FlightRecordBatchStream,
    lease: Lease,
}

struct Fetch {
    pool: Arc<FlightPool>,
    address: String,
    ticket: Bytes,
    open: Option<Open>,
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
            open: None,
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
                Err(error) => {
                    if let Some(open) = self.open.take()
                        && !matches!(&error, FetchError::Status { status, .. } if status.code() == tonic::Code::NotFound)
                    {
                        open.lease.give_up_connection();
                    }
                    self.failures += 1;
                    if self.handed_on || self.failures >= self.pool.limits.attempts || !error.may_pass() {
                        return Err(error);
                    }
                    tracing::debug!(address = %self.address, failures = self.failures, %error, "a fetch is tried again");
                    tokio::time::sleep(self.back_off()).await;
                }
            }
        }
    }

    async fn try_next(&mut self) -> Result<Option<RecordBatch>, FetchError> {
        let (deadline, waited) = match &mut self.open {
            Some(open) => {
                let deadline = self.pool.limits.next_message;
                (deadline, tokio::time::timeout(deadline, open.batches.next()).await)
            }
            None => {
                // Held while opening only; see `MAX_OPENING`.
                let _opening = self.pool.opening.acquire().await;
                let lease = self.pool.lease(&self.address).await?;
                let deadline = self.pool.limits.first_message;
                let first = tokio::time::timeout(deadline, first_message(&lease, &self.ticket)).await;
                match first {
                    Ok(Ok((batches, first))) => {
                        self.open = Some(Open { batches, lease });
                        (deadline, Ok(first))
                    }
                    Ok(Err(error)) => {
                        if error_is_transport(&error) {
                            lease.give_up_connection();
                        }
                        (deadline, Ok(Some(Err(error))))
                    }
                    Err(elapsed) => {
                        lease.give_up_connection();
                        (deadline, Err(elapsed))
                    }
                }
            }
        };
        match waited {
            Ok(Some(Ok(batch))) => Ok(Some(batch)),
            Ok(Some(Err(error))) => Err(FetchError::from_flight(&self.address, error)),
            Ok(None) => {
                self.open = None;
                Ok(None)
            }
            Err(_) => Err(FetchError::Silent { address: self.address.clone(), deadline }),
        }
    }

    fn back_off(&self) -> Duration {
        let doubled = self.pool.limits.back_off.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
        let half = u64::try_from(doubled.as_micros() / 2).unwrap_or(u64::MAX);
        Duration::from_micros(half + self.pool.random.below(half.max(1)))
    }
}

/// The answer, up to and with its first batch: a schema alone proves nothing about a disk.
async fn first_message(
    lease: &Lease,
    ticket: &Bytes,
) -> Result<(FlightRecordBatchStream, Option<Result<RecordBatch, FlightError>>), FlightError> {
    let answer = lease.client().do_get(Ticket { ticket: ticket.clone() }).await?;
    let messages = answer.into_inner().map_err(FlightError::from);
    let mut batches = FlightRecordBatchStream::new_from_flight_data(messages);
    let first = batches.next().await;
    Ok((batches, first))
}

/// Whether the connection is to blame rather than what was asked.
fn error_is_transport(error: &FlightError) -> bool {
    matches!(error, FlightError::Tonic(status)
        if matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Internal | tonic::Code::Cancelled))
}
