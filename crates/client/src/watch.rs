//! Following a job through breaks of the stream and changes of the leader.

use std::{sync::Arc, time::Duration};

use futures::{Stream, stream};
use polybolos_model::JobId;
use polybolos_proto::v1::{JobState, JobUpdate, WatchRequest};
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use crate::{
    ClientError,
    call::{Call, Shared, Verdict, verdict},
    limits::{WATCH_PATIENCE, WATCH_SILENCE},
};

/// Updates of `job` until one says that it has ended. Every update holds the whole progress, so that one after a
/// break misses nothing.
pub(crate) fn watch(
    shared: Arc<Shared>,
    job: JobId,
) -> impl Stream<Item = Result<JobUpdate, ClientError>> + Send + 'static {
    let watch = Watch { shared, job, updates: None, troubled_since: None, breaks: 0 };
    stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        match watch.next().await {
            Ok(update) => {
                let rest = (!has_ended(update.state())).then_some(watch);
                Some((Ok(update), rest))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
}

pub(crate) fn has_ended(state: JobState) -> bool {
    match state {
        JobState::Succeeded | JobState::Failed | JobState::Cancelled => true,
        JobState::Unspecified | JobState::Queued | JobState::Running => false,
    }
}

struct Watch {
    shared: Arc<Shared>,
    job: JobId,
    updates: Option<Streaming<JobUpdate>>,
    /// Since the first break after the last update.
    troubled_since: Option<Instant>,
    breaks: u32,
}

impl Watch {
    async fn next(&mut self) -> Result<JobUpdate, ClientError> {
        loop {
            let mut updates = match self.updates.take() {
                Some(updates) => updates,
                None => self.open().await?,
            };
            match timeout(WATCH_SILENCE, updates.message()).await {
                Ok(Ok(Some(update))) => {
                    self.updates = Some(updates);
                    self.troubled_since = None;
                    self.breaks = 0;
                    return Ok(update);
                }
                Ok(Ok(None)) => self.broken("the stream ended before the query".to_owned()).await?,
                Ok(Err(status)) => match verdict(&status, "the scheduler") {
                    Verdict::Final(error) => return Err(error),
                    // Opening finds the leader.
                    Verdict::NotLeader(_) => self.broken("the leader has changed".to_owned()).await?,
                    Verdict::Busy(text) | Verdict::NotSent(text) | Verdict::Unknown(text) => {
                        self.broken(text).await?
                    }
                },
                // Nothing may have changed, or nobody may be there any more.
                Err(_) => {
                    self.troubled();
                }
            }
        }
    }

    async fn open(&self) -> Result<Streaming<JobUpdate>, ClientError> {
        let job_id = self.job.to_string();
        self.shared
            .call(Call::read("watching the query"), |mut query| {
                let request = WatchRequest { job_id: job_id.clone() };
                async move { query.watch(request).await }
            })
            .await
    }

    fn troubled(&mut self) -> Duration {
        let now = self.shared.env.clock.now();
        now - *self.troubled_since.get_or_insert(now)
    }

    async fn broken(&mut self, text: String) -> Result<(), ClientError> {
        tracing::debug!(job = %self.job, text, "a watch broke");
        if self.troubled() >= WATCH_PATIENCE {
            let addresses = self.shared.addresses.clone();
            return Err(ClientError::Unreachable { addresses, last: text });
        }
        sleep(self.shared.backoff(self.breaks)).await;
        self.breaks = self.breaks.saturating_add(1);
        Ok(())
    }
}
