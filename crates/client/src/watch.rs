//! Following a job through breaks of the stream and changes of the leader.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, stream};
use polybolos_model::JobId;
use polybolos_proto::v1::{JobState, JobUpdate, WatchRequest};
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use crate::{
    ClientError,
    call::{Call, Shared, Verdict, query, verdict},
    limits::{WATCH_PATIENCE, WATCH_SILENCE},
};

/// What a watcher wants of the result.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// It reads the result: partitions that are lost after success are made again for it, and it hears of them.
    pub(crate) reads: bool,
    /// Tickets of partitions that their executors could not give, by their own word: they are made again, too.
    pub(crate) unreadable: Vec<Bytes>,
}

/// Updates of `job` until one says that it has ended and, for a reader, that all of its result is there. Every update
/// holds the whole progress, so that one after a break misses nothing.
pub(crate) fn watch(
    shared: Arc<Shared>,
    job: JobId,
    reading: Reading,
) -> impl Stream<Item = Result<JobUpdate, ClientError>> + Send + 'static {
    let watch = Watch { shared, job, reading, open: None, troubled_since: None, breaks: 0 };
    stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        match watch.next().await {
            Ok(update) => {
                let goes_on = watch.reading.reads && update.more_come;
                let rest = (goes_on || !has_ended(update.state())).then_some(watch);
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

/// A stream of updates, and who sends them.
struct Open {
    updates: Streaming<JobUpdate>,
    address: String,
}

struct Watch {
    shared: Arc<Shared>,
    job: JobId,
    reading: Reading,
    open: Option<Open>,
    /// Since the first break after the last update.
    troubled_since: Option<Instant>,
    breaks: u32,
}

impl Watch {
    async fn next(&mut self) -> Result<JobUpdate, ClientError> {
        loop {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => self.open().await?,
            };
            let shared = Arc::clone(&self.shared);
            let message = tokio::select! {
                biased;
                message = timeout(WATCH_SILENCE, open.updates.message()) => message,
                // A leader that is paused is as silent as a query whose tasks are long.
                leader = shared.superseded(&open.address) => {
                    shared.channels.forget(&open.address);
                    let why = format!("{} was silent, and {leader} leads now", open.address);
                    shared.leader.name(leader);
                    self.broken(why).await?;
                    continue;
                }
            };
            match message {
                Ok(Ok(Some(update))) => {
                    self.open = Some(open);
                    self.troubled_since = None;
                    self.breaks = 0;
                    return Ok(update);
                }
                Ok(Ok(None)) => self.broken("the stream ended before the query".to_owned()).await?,
                Ok(Err(status)) => match verdict(&status, &open.address) {
                    Verdict::Final(error) => return Err(error),
                    // Opening finds the leader.
                    Verdict::NotLeader(_) => self.broken("the leader has changed".to_owned()).await?,
                    Verdict::Busy(text)
                    | Verdict::NoQuorum(text)
                    | Verdict::NotSent(text)
                    | Verdict::Unknown(text)
                    | Verdict::Superseded(text) => self.broken(text).await?,
                },
                // Nothing may have changed, or nobody may be there any more.
                Err(_) => {
                    self.troubled();
                }
            }
        }
    }

    async fn open(&self) -> Result<Open, ClientError> {
        let job_id = self.job.to_string();
        let opened = self.shared.call_at(Call::watch(), |channel| {
            let request = WatchRequest {
                job_id: job_id.clone(),
                knows_more_come: true,
                reads_result: self.reading.reads,
                unreadable: self.reading.unreadable.clone(),
                follows: self.reading.reads,
            };
            async move { query(channel).watch(request).await }
        });
        let (updates, address) = opened.await.map_err(|error| self.unfollowed(error))?;
        Ok(Open { updates, address })
    }

    /// That nobody could be asked says nothing of what became of the query.
    fn unfollowed(&self, error: ClientError) -> ClientError {
        match error {
            unasked @ (ClientError::Unreachable { .. }
            | ClientError::NoQuorum { .. }
            | ClientError::Deadline { .. }) => {
                ClientError::Unfollowed { job: self.job, source: Box::new(unasked) }
            }
            said => said,
        }
    }

    fn troubled(&mut self) -> Duration {
        let now = self.shared.env.clock.now();
        now - *self.troubled_since.get_or_insert(now)
    }

    async fn broken(&mut self, text: String) -> Result<(), ClientError> {
        polybolos_model::sometimes!("a watch broke and went on");
        tracing::debug!(job = %self.job, text, "a watch broke");
        if self.troubled() >= WATCH_PATIENCE {
            let addresses = self.shared.addresses.clone();
            return Err(self.unfollowed(ClientError::Unreachable { addresses, last: text }));
        }
        sleep(self.shared.backoff(self.breaks)).await;
        self.breaks = self.breaks.saturating_add(1);
        Ok(())
    }
}
