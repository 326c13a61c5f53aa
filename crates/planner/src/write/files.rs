//! The rows of one task as files in the folder of its attempt.

use std::{sync::Arc, time::Duration};

use datafusion::{
    arrow::array::RecordBatch,
    common::internal_datafusion_err,
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext},
};
use futures::StreamExt;
use object_store::{ObjectStore, path::Path};
use polybolos_model::WriteTarget;
use tokio::time::timeout;
use url::Url;

use super::{
    exec::Writing,
    file::OpenFile,
    partition::Folders,
    sink::Sink,
    staging::{Notes, StagedFiles},
};

/// How long an attempt that has failed waits for its writer.
const SETTLING_DEADLINE: Duration = Duration::from_secs(10);

/// What an attempt has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) rows: u64,
    /// As they are in the store.
    pub(crate) bytes: u64,
    pub(crate) files: u32,
}

/// Writes all of `rows`. On an error nothing writes any more when it returns; what is written stays.
pub(crate) async fn write_files(
    sink: Sink,
    target: WriteTarget,
    writing: Arc<Writing>,
    rows: SendableRecordBatchStream,
    context: Arc<TaskContext>,
) -> Result<Written> {
    let notes = Arc::<Notes>::default();
    let files = staged_files(&sink, &target, &writing, &context)?;
    let mut writer = Writer {
        folders: Folders::new(sink.config())?,
        max_rows: max_rows(&target, &context),
        open: None,
        written: Written::default(),
        store: files.noted(&notes),
        folder: files.folder,
        sink: &sink,
        target: &target,
        context: &context,
    };
    let done = writer.write_all(rows, &writing).await;
    match done {
        Ok(()) => Ok(Written { bytes: notes.bytes(), ..writer.written }),
        Err(error) => {
            let error = notes.explain(error, &writer.folder);
            writer.settle().await;
            Err(error)
        }
    }
}

/// Where an attempt writes.
pub(crate) fn staged_files(
    sink: &Sink,
    target: &WriteTarget,
    writing: &Writing,
    context: &TaskContext,
) -> Result<StagedFiles> {
    let store = context.runtime_env().object_store(&sink.config().object_store_url)?;
    let url = target.staged_by(writing.task.job, writing.task.partition, writing.attempt);
    let url = Url::parse(&url).map_err(|error| DataFusionError::External(Box::new(error)))?;
    let folder = Path::from_url_path(url.path());
    let folder = folder.map_err(|error| DataFusionError::External(Box::new(error)))?;
    Ok(StagedFiles { store, folder })
}

/// Files are ended at the first batch after that many rows.
fn max_rows(target: &WriteTarget, context: &TaskContext) -> u64 {
    if target.single_file {
        return u64::MAX;
    }
    context.session_config().options().execution.soft_max_rows_per_output_file.get() as u64
}

struct Writer<'a> {
    folders: Folders,
    max_rows: u64,
    open: Option<OpenFile>,
    written: Written,
    sink: &'a Sink,
    target: &'a WriteTarget,
    store: Arc<dyn ObjectStore>,
    folder: Path,
    context: &'a Arc<TaskContext>,
}

impl Writer<'_> {
    async fn write_all(&mut self, mut rows: SendableRecordBatchStream, writing: &Writing) -> Result<()> {
        if self.target.single_file {
            // Even without rows, as whoever named the file expects one.
            let mut file = self.create(Path::default());
            file.push(RecordBatch::new_empty(self.folders.schema())).await?;
            self.open = Some(file);
        }
        while let Some(batch) = rows.next().await.transpose()? {
            if batch.num_rows() == 0 {
                continue;
            }
            for (folder, rows) in self.folders.divide(&batch)? {
                self.file_in(folder).await?.push(rows).await?;
            }
            if let Some(work) = (writing.charge)(batch.get_array_memory_size()) {
                work.await;
            }
        }
        self.close().await
    }

    /// The file that rows of this folder go to.
    async fn file_in(&mut self, folder: Path) -> Result<&mut OpenFile> {
        let fits =
            self.open.as_ref().is_some_and(|file| *file.folder() == folder && file.rows() < self.max_rows);
        if !fits {
            self.close().await?;
            self.open = Some(self.create(folder));
        }
        self.open.as_mut().ok_or_else(|| internal_datafusion_err!("a file was opened and is not there"))
    }

    fn create(&mut self, folder: Path) -> OpenFile {
        let name = self.target.staged_name(self.written.files);
        self.written.files += 1;
        let parts = self.folder.parts().chain(folder.parts()).chain([name.into()]);
        let path = parts.collect();
        OpenFile::new(self.sink, self.context, Arc::clone(&self.store), folder, path)
    }

    /// Lets the writer of a file that nobody wants end, or the file might come back after it was removed. How the writer
    /// ends does not matter.
    async fn settle(&mut self) {
        if let Some(file) = self.open.take() {
            let _ = timeout(SETTLING_DEADLINE, file.close()).await;
        }
    }

    async fn close(&mut self) -> Result<()> {
        if let Some(file) = self.open.take() {
            self.written.rows += file.close().await?;
        }
        Ok(())
    }
}
