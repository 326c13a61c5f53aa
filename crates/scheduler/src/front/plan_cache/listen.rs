//! Notes what planning asks object stores about files, and what they answer. A list of its own beside planning's could
//! be another one, of a moment before or after.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::{
    error::Result,
    execution::{
        SessionState, object_store::ObjectStoreRegistry, runtime_env::RuntimeEnvBuilder,
        session_state::SessionStateBuilder,
    },
};
use futures::{StreamExt, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, path::Path,
};
use url::Url;

use super::{
    super::object_stores::{ObjectStores, store_key},
    listings::{Listings, Question},
};

/// What was asked while one statement was planned.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    listings: Listings,
    /// Lists of which the end was not seen.
    open: usize,
    /// An answer can't be compared with one to the same question later.
    is_spoilt: bool,
}

impl Notes {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spoil(&self) {
        self.noted().is_spoilt = true;
    }

    fn answered(&self, store: &str, question: Question, files: Vec<ObjectMeta>) {
        let mut noted = self.noted();
        noted.is_spoilt |= !noted.listings.add_answer(store, question, files);
    }

    /// All of it, if all of it can be asked again.
    pub(super) fn take(&self) -> Option<Listings> {
        let noted = std::mem::take(&mut *self.noted());
        (!noted.is_spoilt && noted.open == 0).then_some(noted.listings)
    }
}

/// The same state, for planning that is noted.
///
/// # Errors
/// DataFusion's runtime can't be made.
pub(crate) fn listening(
    state: &SessionState,
    stores: &Arc<ObjectStores>,
    notes: &Arc<Notes>,
) -> Result<SessionState> {
    let registry = Listeners { stores: Arc::clone(stores), notes: Arc::clone(notes) };
    let runtime = RuntimeEnvBuilder::from_runtime_env(state.runtime_env())
        .with_object_store_registry(Arc::new(registry))
        .build_arc()?;
    let builder = SessionStateBuilder::new_from_existing(state.clone())
        .with_session_id(state.session_id().to_owned())
        .with_runtime_env(runtime);
    let mut listening = builder.build();
    // The builder sets an option of its own, which would go with the job.
    *listening.config_mut() = state.config().clone();
    Ok(listening)
}

/// The stores as planning sees them.
#[derive(Debug)]
struct Listeners {
    stores: Arc<ObjectStores>,
    notes: Arc<Notes>,
}

impl ObjectStoreRegistry for Listeners {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.stores.register_store(url, store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.stores.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let is_as_before = self.notes.noted().listings.add_store(url, &self.stores);
        if !is_as_before {
            self.notes.spoil();
        }
        let inner = self.stores.get_store(url)?;
        Ok(Arc::new(Listener { key: store_key(url), inner, notes: Arc::clone(&self.notes) }))
    }
}

#[derive(Debug)]
struct Listener {
    key: String,
    inner: Arc<dyn ObjectStore>,
    notes: Arc<Notes>,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner)
    }
}

/// A list that is being read.
struct OpenList {
    key: String,
    question: Question,
    files: Vec<ObjectMeta>,
    notes: Arc<Notes>,
}

impl OpenList {
    fn end(self) {
        // Where a folder is empty, or not there, a file may be in its place later, which a list would not tell.
        if self.files.is_empty() {
            self.notes.spoil();
        }
        self.notes.answered(&self.key, self.question, self.files);
        let mut noted = self.notes.noted();
        noted.open = noted.open.saturating_sub(1);
    }
}

type Files = BoxStream<'static, object_store::Result<ObjectMeta>>;

/// The same list. It is noted once its end was seen.
fn noted(files: Files, list: OpenList) -> Files {
    let next = |(mut files, mut list): (Files, Option<OpenList>)| async move {
        let next = files.next().await;
        match &next {
            Some(Ok(file)) => {
                if let Some(list) = &mut list {
                    list.files.push(file.clone());
                }
            }
            Some(Err(_)) => list = None,
            None => {
                if let Some(list) = list.take() {
                    list.end();
                }
            }
        }
        next.map(|file| (file, (files, list)))
    };
    stream::unfold((files, Some(list)), next).fuse().boxed()
}

#[async_trait]
impl ObjectStore for Listener {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    /// What is read of a file is not noted: it is the file's that was listed.
    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let is_head = options.head;
        let got = self.inner.get_opts(location, options).await;
        if is_head {
            let question = || Question::Head(location.clone());
            match &got {
                Ok(file) => self.notes.answered(&self.key, question(), vec![file.meta.clone()]),
                Err(Error::NotFound { .. }) => self.notes.answered(&self.key, question(), Vec::new()),
                Err(_) => self.notes.spoil(),
            }
        }
        got
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[std::ops::Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.notes.noted().open += 1;
        let (key, question) = (self.key.clone(), Question::List(prefix.cloned()));
        let list = OpenList { key, question, files: Vec::new(), notes: Arc::clone(&self.notes) };
        noted(self.inner.list(prefix), list)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.notes.spoil();
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.notes.spoil();
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> object_store::Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::{ObjectStoreExt, memory::InMemory};

    use super::*;

    /// A store of two files below `t`, as planning sees it, and its notes.
    async fn listened() -> (Arc<ObjectStores>, Arc<dyn ObjectStore>, Arc<Notes>) {
        let (url, store) = (Url::parse("mine://host").unwrap(), Arc::new(InMemory::new()));
        for file in ["t/1", "t/2"] {
            store.put(&file.into(), "x".into()).await.unwrap();
        }
        let stores = Arc::new(ObjectStores::new(&[(url.clone(), store)]));
        let notes = Arc::new(Notes::default());
        let listeners = Listeners { stores: Arc::clone(&stores), notes: Arc::clone(&notes) };
        (stores, listeners.get_store(&url).unwrap(), notes)
    }

    #[tokio::test]
    async fn what_was_answered_is_asked_again() {
        let (stores, store, notes) = listened().await;
        let folder = Path::from("t");
        let listed: Vec<_> = store.list(Some(&folder)).try_collect().await.unwrap();
        assert_eq!(listed.len(), 2);
        store.head(&"t/1".into()).await.unwrap();
        assert!(matches!(store.head(&"t/3".into()).await, Err(Error::NotFound { .. })));
        let listings = notes.take().unwrap();
        assert!(listings.bytes() > 0 && listings.still_hold(&stores).await);
        store.put(&"t/3".into(), "x".into()).await.unwrap();
        assert!(!listings.still_hold(&stores).await);
        store.delete(&"t/3".into()).await.unwrap();
        assert!(listings.still_hold(&stores).await);
        store.put(&"t/2".into(), "x".into()).await.unwrap();
        assert!(!listings.still_hold(&stores).await, "the same path and size, but not the same file");
    }

    #[tokio::test]
    async fn a_list_that_was_not_read_to_its_end_can_not_be_compared() {
        let (_stores, store, notes) = listened().await;
        let mut list = store.list(Some(&"t".into()));
        list.try_next().await.unwrap().unwrap();
        drop(list);
        assert!(notes.take().is_none());
    }

    #[tokio::test]
    async fn nor_can_an_empty_one_or_two_answers_to_one_question() {
        let (_stores, store, notes) = listened().await;
        let none: Vec<_> = store.list(Some(&"u".into())).try_collect().await.unwrap();
        assert!(none.is_empty() && notes.take().is_none());
        let (_stores, store, notes) = listened().await;
        for _ in 0..2 {
            store.head(&"t/1".into()).await.unwrap();
            store.put(&"t/1".into(), "y".into()).await.unwrap();
        }
        assert!(notes.take().is_none());
    }
}
