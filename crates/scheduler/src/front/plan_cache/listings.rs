//! What object stores said of files while a query was planned, and whether they still say so.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, path::Path};
use url::Url;

use super::super::object_stores::{ObjectStores, store_key};

/// Questions of one plan that are asked again at once.
const MAX_ASKED_AT_ONCE: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    /// Which files begin so.
    List(Option<Path>),
    /// Whether there is this file.
    Head(Path),
}

impl Question {
    /// `None` if the store can't tell. Looks at no more than one file beyond `expected`.
    async fn ask(self, store: Arc<dyn ObjectStore>, expected: usize) -> Option<Vec<ObjectMeta>> {
        match self {
            Self::List(prefix) => {
                let listed = store.list(prefix.as_ref()).take(expected.saturating_add(1));
                listed.try_collect().await.ok().map(in_order)
            }
            Self::Head(path) => match store.head(&path).await {
                Ok(file) => Some(vec![file]),
                Err(Error::NotFound { .. }) => Some(Vec::new()),
                Err(_) => None,
            },
        }
    }
}

/// Stores list in any order.
fn in_order(mut files: Vec<ObjectMeta>) -> Vec<ObjectMeta> {
    files.sort_unstable_by(|a, b| a.location.cmp(&b.location));
    files
}

/// Questions and answers. All of a file counts: path, size, time, tag and version.
#[derive(Debug, Default)]
pub(super) struct Listings {
    /// By [`store_key`]: a URL in the store, and how it was reached.
    stores: BTreeMap<String, (Url, Vec<(String, String)>)>,
    /// By store and question, in order of their paths.
    answers: BTreeMap<(String, Question), Vec<ObjectMeta>>,
}

impl Listings {
    /// Adds a store that is about to be asked; false if it was reached in another way before.
    pub(super) fn add_store(&mut self, url: &Url, stores: &ObjectStores) -> bool {
        let options = stores.job_options(url);
        let known = self.stores.entry(store_key(url)).or_insert_with(|| (url.clone(), options.clone()));
        known.1 == options
    }

    /// Adds an answer; false if there was another one to the same question before.
    pub(super) fn add_answer(&mut self, store: &str, question: Question, files: Vec<ObjectMeta>) -> bool {
        let files = in_order(files);
        let key = (store.to_owned(), question);
        match self.answers.get(&key) {
            Some(known) => *known == files,
            None => {
                self.answers.insert(key, files);
                true
            }
        }
    }

    /// Whether all stores are reached as they were.
    pub(super) fn options_hold(&self, stores: &ObjectStores) -> bool {
        self.stores.values().all(|(url, options)| stores.job_options(url) == *options)
    }

    /// Asks again.
    pub(super) async fn still_hold(&self, stores: &ObjectStores) -> bool {
        if !self.options_hold(stores) {
            return false;
        }
        let mut asked = Vec::with_capacity(self.answers.len());
        for ((store, question), before) in &self.answers {
            let url = self.stores.get(store).map(|(url, _)| url);
            let Some(store) = url.and_then(|url| stores.get_store(url).ok()) else { return false };
            asked.push(question.clone().ask(store, before.len()));
        }
        let now: Vec<_> = stream::iter(asked).buffered(MAX_ASKED_AT_ONCE).collect().await;
        now.iter().zip(self.answers.values()).all(|(now, before)| now.as_ref() == Some(before))
    }

    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let file = |file: &ObjectMeta| {
            size_of::<ObjectMeta>() + file.location.as_ref().len() + text(&file.e_tag) + text(&file.version)
        };
        self.answers.values().flatten().map(file).sum()
    }
}
