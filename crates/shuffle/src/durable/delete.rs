//! Deleting what nobody wants any more, one after the other in the background.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{StreamExt, TryStreamExt};
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, path::Path};
use polybolos_env::Random;
use polybolos_model::JobId;
use tokio::sync::Notify;

use super::{Failure, persist};
use crate::locked;

/// Up to so many jobs are looked for one by one; for more the cluster's folder is listed once.
const JOBS_LOOKED_FOR: usize = 8;

/// What is to be deleted. Bounded by what was written, and by the released jobs that the log keeps.
#[derive(Debug, Default)]
pub(super) struct Unwanted {
    waiting: Mutex<Waiting>,
    news: Notify,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    objects: Vec<Path>,
    jobs: BTreeSet<(String, JobId)>,
}

impl Unwanted {
    pub(super) fn add_objects(&self, objects: impl IntoIterator<Item = Path>) {
        locked(&self.waiting).objects.extend(objects);
        self.news.notify_one();
    }

    pub(super) fn add_job(&self, cluster: String, job: JobId) {
        locked(&self.waiting).jobs.insert((cluster, job));
        self.news.notify_one();
    }

    /// What waits is still deleted.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.news.notify_one();
    }
}

/// Runs until `unwanted` is closed and empty.
pub(super) async fn run(
    unwanted: Arc<Unwanted>,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    random: Arc<dyn Random>,
) {
    let deleter = Deleter { store, prefix, random };
    loop {
        let Waiting { objects, jobs } = std::mem::take(&mut *locked(&unwanted.waiting));
        if objects.is_empty() && jobs.is_empty() {
            if unwanted.closed.load(Ordering::Acquire) {
                return;
            }
            unwanted.news.notified().await;
            continue;
        }
        for object in objects {
            deleter.delete_object(&object).await;
        }
        deleter.delete_jobs(jobs).await;
    }
}

struct Deleter {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    random: Arc<dyn Random>,
}

impl Deleter {
    async fn delete_object(&self, path: &Path) {
        let delete = || async move { self.store.delete(path).await };
        warn(path, persist(self.random.as_ref(), delete).await);
    }

    async fn delete_jobs(&self, jobs: BTreeSet<(String, JobId)>) {
        let mut folders: BTreeSet<Path> = jobs
            .iter()
            .map(|(cluster, job)| self.prefix.clone().join(cluster.as_str()).join(job.to_string()))
            .collect();
        if folders.len() > JOBS_LOOKED_FOR {
            let clusters: BTreeSet<&String> = jobs.iter().map(|(cluster, _)| cluster).collect();
            let mut found = BTreeSet::new();
            for cluster in clusters {
                let path = self.prefix.clone().join(cluster.as_str());
                let at = &path;
                let list = || async move { self.store.list_with_delimiter(Some(at)).await };
                match persist(self.random.as_ref(), list).await {
                    Ok(listed) => found.extend(listed.common_prefixes),
                    Err(failure) => return warn(&path, Err(failure)),
                }
            }
            folders = folders.intersection(&found).cloned().collect();
        }
        for folder in folders {
            let at = &folder;
            let delete = || async move { self.delete_folder(at).await };
            warn(&folder, persist(self.random.as_ref(), delete).await);
        }
    }

    async fn delete_folder(&self, folder: &Path) -> Result<(), StoreError> {
        let objects = self.store.list(Some(folder)).map_ok(|object| object.location).boxed();
        let mut deleted = self.store.delete_stream(objects);
        while let Some(one) = deleted.next().await {
            match one {
                // Another executor deletes as well.
                Ok(_) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn warn(path: &Path, done: Result<(), Failure>) {
    match done {
        Ok(()) | Err(Failure::Store(StoreError::NotFound { .. })) => {}
        Err(Failure::Store(error)) => {
            tracing::warn!(%path, %error, "durable outputs could not be deleted; they stay in the store");
        }
        Err(Failure::Deadline) => {
            tracing::warn!(%path, "durable outputs were not deleted in time; they may stay in the store");
        }
    }
}
