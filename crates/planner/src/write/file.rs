//! One file that is being written, by a writer of DataFusion in a task of its own.

use std::sync::Arc;

use datafusion::{
    arrow::array::RecordBatch,
    common::{internal_datafusion_err, runtime::SpawnedTask},
    error::{DataFusionError, Result},
    execution::TaskContext,
};
use object_store::{ObjectStore, path::Path};
use tokio::sync::mpsc;

use super::sink::Sink;

/// Batches that wait for the writer.
const MAX_WAITING: usize = 2;

/// Dropping it stops the writer, and the file never appears or stays cut.
pub(crate) struct OpenFile {
    folder: Path,
    rows: u64,
    /// `None` once it has ended.
    writer: Option<SpawnedTask<Result<u64>>>,
    batches: mpsc::Sender<RecordBatch>,
}

impl OpenFile {
    /// `folder` is that of the partition values; `path` is the whole path.
    pub(crate) fn new(
        sink: &Sink,
        context: &Arc<TaskContext>,
        store: Arc<dyn ObjectStore>,
        folder: Path,
        path: Path,
    ) -> Self {
        let (batches, incoming) = mpsc::channel(MAX_WAITING);
        let (sink, context) = (sink.clone(), Arc::clone(context));
        let writer = SpawnedTask::spawn(async move {
            // The writer could do several files side by side; it gets this one.
            let (files, only) = mpsc::unbounded_channel();
            files.send((path, incoming)).map_err(|_| internal_datafusion_err!("a writer without a file"))?;
            drop(files);
            let nothing_to_divide = SpawnedTask::spawn(std::future::ready(Ok(())));
            sink.files().spawn_writer_tasks_and_join(&context, nothing_to_divide, only, store).await
        });
        Self { folder, rows: 0, writer: Some(writer), batches }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Waits while the writer is behind.
    pub(crate) async fn push(&mut self, batch: RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        if self.batches.send(batch).await.is_ok() {
            return Ok(());
        }
        joined(self.writer.take()).await?;
        Err(internal_datafusion_err!("a writer ended before its file did"))
    }

    /// Completes the file; the answer is the number of its rows.
    pub(crate) async fn close(self) -> Result<u64> {
        let Self { rows, writer, batches, .. } = self;
        drop(batches);
        let written = joined(writer).await?;
        if written != rows {
            return Err(internal_datafusion_err!("a writer was given {rows} rows and wrote {written}"));
        }
        Ok(written)
    }
}

async fn joined(writer: Option<SpawnedTask<Result<u64>>>) -> Result<u64> {
    let writer = writer.ok_or_else(|| internal_datafusion_err!("the writer of a file has ended"))?;
    writer.join_unwind().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?
}
