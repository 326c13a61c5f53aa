//! The folder of one attempt in an object store, and the store as its writers see it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use datafusion::error::DataFusionError;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, UploadPart, path::Path,
};
use tokio::{runtime::Handle, time::timeout};

/// How long what an attempt has written is tried to be taken back. The rest is left to the sweep of its job.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(30);

/// What an attempt has written, or writes.
#[derive(Debug, Clone)]
pub struct StagedFiles {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) folder: Path,
}

impl StagedFiles {
    /// Removes them. Best effort: the sweep of the job removes the rest.
    pub async fn remove(self) {
        let Self { store, folder } = self;
        let files = store.list(Some(&folder)).map_ok(|file| file.location).boxed();
        let removed = store.delete_stream(files).try_for_each(|_| std::future::ready(Ok(())));
        match timeout(REMOVAL_DEADLINE, removed).await {
            // Somebody else was faster.
            Ok(Ok(()) | Err(object_store::Error::NotFound { .. })) => {}
            Ok(Err(error)) => {
                tracing::warn!(%folder, %error, "what an attempt had written could not be removed");
            }
            Err(_) => tracing::warn!(%folder, "what an attempt had written was not removed in time"),
        }
    }

    /// For a writer.
    pub(crate) fn noted(&self, notes: &Arc<Notes>) -> Arc<dyn ObjectStore> {
        Arc::new(Noted { inner: Arc::clone(&self.store), notes: Arc::clone(notes) })
    }
}

/// What happened in the store.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    bytes: AtomicU64,
    /// The first failure. Writers make a text of it, from which nobody can tell that trying again may help.
    failure: Mutex<Option<object_store::Error>>,
}

impl Notes {
    /// What was written.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Why an attempt failed that `error` has ended: the store, if that is where it began.
    pub(crate) fn explain(&self, error: DataFusionError, folder: &Path) -> DataFusionError {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(failure) = failure else { return error };
        let what = format!("the files at '{folder}' could not be written");
        DataFusionError::ObjectStore(Box::new(failure)).context(what)
    }

    fn wrote(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn failed(&self, error: object_store::Error) -> object_store::Error {
        let told = object_store::Error::Generic { store: "staging", source: error.to_string().into() };
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        told
    }
}

/// The store as a writer sees it.
#[derive(Debug)]
struct Noted {
    inner: Arc<dyn ObjectStore>,
    notes: Arc<Notes>,
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Noted {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        let bytes = payload.content_length();
        let put = self.inner.put_opts(location, payload, opts).await;
        put.inspect(|_| self.notes.wrote(bytes)).map_err(|error| self.notes.failed(error))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, opts).await;
        let upload = upload.map_err(|error| self.notes.failed(error))?;
        Ok(Box::new(Upload { inner: Some(upload), notes: Arc::clone(&self.notes) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A large file under way. Dropping it before it is complete gives its parts up, for which some stores go on to charge.
#[derive(Debug)]
struct Upload {
    /// `None` once complete or given up.
    inner: Option<Box<dyn MultipartUpload>>,
    notes: Arc<Notes>,
}

fn ended() -> object_store::Error {
    object_store::Error::Generic { store: "staging", source: "the upload has ended".into() }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let Some(upload) = &mut self.inner else { return Box::pin(std::future::ready(Err(ended()))) };
        let (bytes, notes) = (data.content_length(), Arc::clone(&self.notes));
        let part = upload.put_part(data);
        Box::pin(
            async move { part.await.inspect(|()| notes.wrote(bytes)).map_err(|error| notes.failed(error)) },
        )
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let upload = self.inner.as_mut().ok_or_else(ended)?;
        let done = upload.complete().await.map_err(|error| self.notes.failed(error))?;
        self.inner = None;
        Ok(done)
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        match self.inner.take() {
            Some(mut upload) => upload.abort().await,
            None => Ok(()),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut upload) = self.inner.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move {
                // Nothing but space depends on it.
                if let Ok(Err(error)) = timeout(REMOVAL_DEADLINE, upload.abort()).await {
                    tracing::debug!(%error, "the parts of a file could not be given up");
                }
            });
        }
    }
}
