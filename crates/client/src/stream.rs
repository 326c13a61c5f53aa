//! The rows of a job, several partitions at once.
//!
//! ```text
//!   Watch ──▶ Driver ──▶ Fetch (one a partition, bounded) ──▶ bounded channel ──▶ ResultStream
//! ```

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use futures::Stream;
use polybolos_model::JobId;
use polybolos_proto::v1::JobUpdate;
use tokio::sync::{mpsc, watch};

use crate::{ClientError, JobHandle, call::Shared, driver::Driver, limits::BUFFERED_BATCHES};

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
    tokio::spawn(Driver::new(shared, job, out, progress).run());
    stream
}
