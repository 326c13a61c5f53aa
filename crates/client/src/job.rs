//! A job that was accepted.

use std::{fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use futures::{
    StreamExt, future,
    stream::{self, BoxStream},
};
use polybolos_model::JobId;
use polybolos_proto::v1;

use crate::{
    ClientError, QueryResult, ResultStream, call::Shared, ipc, stream as rows, watch, watch::Reading,
};

/// A job of the cluster. Dropping it changes nothing; dropping its [`ResultStream`] early cancels the job.
#[derive(Clone)]
pub struct JobHandle {
    shared: Arc<Shared>,
    id: JobId,
    schema: SchemaRef,
    explain_analyze: bool,
    ordered: bool,
    /// If it had ended by the time of the answer.
    ended: Option<Box<v1::JobUpdate>>,
}

impl fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle").field("id", &self.id).finish_non_exhaustive()
    }
}

impl JobHandle {
    pub(crate) fn new(shared: Arc<Shared>, accepted: &v1::JobAccepted) -> Result<Self, ClientError> {
        let malformed =
            |error: polybolos_model::IdParseError| ClientError::Protocol { what: error.to_string() };
        Ok(Self {
            shared,
            id: accepted.job_id.parse().map_err(malformed)?,
            schema: ipc::schema(&accepted.schema)?,
            explain_analyze: accepted.explain_analyze,
            ordered: accepted.ordered,
            ended: accepted.ended.clone().map(Box::new),
        })
    }

    pub fn id(&self) -> JobId {
        self.id
    }

    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Whether the query orders its rows; if not, partitions arrive mixed.
    pub fn ordered(&self) -> bool {
        self.ordered
    }

    /// Whether the answer is the [`JobHandle::profile`] instead of the rows of tasks: that of `EXPLAIN ANALYZE` and of
    /// statements that write. [`JobHandle::stream`] knows by itself.
    pub fn explain_analyze(&self) -> bool {
        self.explain_analyze
    }

    /// One update now, one after each change, the last when the job has ended (also by a failure). Survives the loss
    /// of the scheduler. Lost partitions of the result are made again only for whoever reads it, by
    /// [`JobHandle::stream`].
    pub fn watch(&self) -> BoxStream<'static, Result<v1::JobUpdate, ClientError>> {
        watch::watch(Arc::clone(&self.shared), self.id, Reading::default()).boxed()
    }

    /// The rows, as partitions become ready. Starts at once, in the background; what nobody reads holds it back.
    /// Must be called within a tokio runtime.
    pub fn stream(&self) -> ResultStream {
        rows::start(Arc::clone(&self.shared), self.clone())
    }

    /// Updates for whoever begins to read the result.
    pub(crate) fn read(&self) -> BoxStream<'static, Result<v1::JobUpdate, ClientError>> {
        match &self.ended {
            Some(ended) => stream::once(future::ready(Ok(v1::JobUpdate::clone(ended)))).boxed(),
            None => self.watch_and_read(Reading { reads: true, ..Reading::default() }),
        }
    }

    pub(crate) fn watch_and_read(
        &self,
        reading: Reading,
    ) -> BoxStream<'static, Result<v1::JobUpdate, ClientError>> {
        watch::watch(Arc::clone(&self.shared), self.id, reading).boxed()
    }

    /// The rows of `EXPLAIN ANALYZE`, or how many a statement has written, once the job has succeeded.
    ///
    /// # Errors
    /// [`ClientError::Ended`] if it has not, [`ClientError::NotFound`], [`ClientError::Unreachable`].
    pub async fn profile(&self) -> Result<QueryResult, ClientError> {
        self.shared.profile(self.id).await
    }

    /// Ends the job. Nothing happens if it has ended.
    ///
    /// # Errors
    /// [`ClientError::Statement`] if its files are being published, which nobody can stop; [`ClientError::NotFound`], [`ClientError::Unreachable`], [`ClientError::Deadline`].
    pub async fn cancel(&self, reason: impl Into<String>) -> Result<(), ClientError> {
        self.shared.cancel(self.id, reason.into()).await
    }
}
