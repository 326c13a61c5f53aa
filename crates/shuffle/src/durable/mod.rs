//! Outputs in an object store, where they outlive their executor.
//!
//! ```text
//!   PREFIX/CLUSTER/JOB/STAGE/PARTITION/ATTEMPT/data    the chunks, one output partition after the other
//!   PREFIX/CLUSTER/JOB/STAGE/PARTITION/ATTEMPT/index   where they are, with checksums; written last
//!
//!   ShuffleStore ──upload──▶ object store ──read──▶ ShuffleReaderExec, flight_service (for clients)
//!                                 ▲ delete: of an attempt, of a job (by each executor, so that one is enough)
//! ```
//!
//! An index that is there means a whole output: nothing is ever written over, since an attempt writes once. Chunks and
//! index have the format of files (`chunk.rs`, `index.rs`), so a copy gives the same rows in the same order.
//!
//! Deliberately absent: which outputs are durable (the log's), and a search for what crashed clusters left behind.

mod delete;
mod read;
mod upload;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use arrow_ipc::writer::IpcWriteOptions;
use object_store::{Error as StoreError, ObjectStore, path::Path};
use polybolos_env::{Env, Random};
use polybolos_model::{AttemptId, JobId};
use tokio::sync::Semaphore;

use self::delete::Unwanted;
pub(crate) use self::read::DurableReader;
use crate::{Compression, OutputKey, ShuffleError, chunk, locked};

/// Outputs that one executor writes there at the same time, in the background or before they count.
const CONCURRENT_UPLOADS: usize = 4;
/// Tries at a request, beside those that an object store of its own makes.
const TRIES: u32 = 3;
/// For one request.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// Before the second try; doubled for each later one, and drawn from the upper half.
const BACK_OFF: Duration = Duration::from_millis(100);

const DATA: &str = "data";
const INDEX: &str = "index";

/// The durable side of a [`crate::ShuffleStore`]. All executors of a cluster must be given an equal one.
pub struct DurableShuffle {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// What people call it.
    url: String,
    options: IpcWriteOptions,
    random: Arc<dyn Random>,
    /// Empty until the executor is registered.
    cluster: Mutex<String>,
    uploads: Semaphore,
    /// What this process began to write, of jobs that are not released.
    written: Mutex<BTreeMap<AttemptId, OutputKey>>,
    unwanted: Arc<Unwanted>,
}

impl fmt::Debug for DurableShuffle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableShuffle").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Drop for DurableShuffle {
    fn drop(&mut self) {
        self.unwanted.close();
    }
}

/// The objects of one output.
struct Place {
    data: Path,
    index: Path,
}

impl DurableShuffle {
    /// Outputs below `prefix` of `store`. Starts the task that deletes what is not wanted any more, so it must run
    /// inside a tokio runtime.
    pub fn new(
        env: &Env,
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        url: String,
        compression: Compression,
    ) -> Arc<Self> {
        let unwanted = Arc::new(Unwanted::default());
        tokio::spawn(delete::run(
            Arc::clone(&unwanted),
            Arc::clone(&store),
            prefix.clone(),
            Arc::clone(&env.random),
        ));
        Arc::new(Self {
            store,
            prefix,
            url,
            // LZ4 is compiled in; without it the objects are larger and still right.
            options: chunk::write_options(compression).unwrap_or_default(),
            random: Arc::clone(&env.random),
            cluster: Mutex::default(),
            uploads: Semaphore::new(CONCURRENT_UPLOADS),
            written: Mutex::default(),
            unwanted,
        })
    }

    /// Where it is, for people.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The executor is registered with this cluster: outputs are written and looked for under its name.
    pub fn set_cluster(&self, cluster: &str) {
        let mut known = locked(&self.cluster);
        if *known != cluster {
            cluster.clone_into(&mut known);
            locked(&self.written).clear();
        }
    }

    /// The executor leaves the cluster that it was registered with, if it is another one than `next`. Until it is
    /// registered there, nothing is deleted: its jobs are not those of the new cluster, though they may have their ids
    /// (one that was restored from a backup), and the old one may still need what was written.
    pub fn leave_cluster(&self, next: &str) {
        if *locked(&self.cluster) != next {
            self.set_cluster("");
        }
    }

    /// Deletes what this process wrote of an attempt, soon.
    pub(crate) fn delete(&self, attempt: AttemptId) {
        let written = locked(&self.written).remove(&attempt);
        if let Some(place) = written.and_then(|key| self.place(key).ok()) {
            // The index first: what has none is no output.
            self.unwanted.add_objects([place.index, place.data]);
        }
    }

    /// Deletes all outputs of a job, whoever wrote them, soon.
    pub(crate) fn delete_job(&self, job: JobId) {
        locked(&self.written).retain(|_, key| key.task.job != job);
        let cluster = locked(&self.cluster).clone();
        if !cluster.is_empty() && !polybolos_model::mutant!("durable-never-deleted") {
            self.unwanted.add_job(cluster, job);
        }
    }

    fn place(&self, key: OutputKey) -> Result<Place, ShuffleError> {
        let cluster = locked(&self.cluster).clone();
        if cluster.is_empty() {
            return Err(ShuffleError::NoCluster { key });
        }
        let task = key.task;
        let parts = [
            cluster,
            task.job.to_string(),
            task.stage.to_string(),
            task.partition.to_string(),
            key.attempt.to_string(),
        ];
        let folder = parts.into_iter().fold(self.prefix.clone(), |path, part| path.join(part));
        Ok(Place { data: folder.clone().join(DATA), index: folder.join(INDEX) })
    }

    /// How an object is named in errors.
    fn name(&self, path: &Path) -> String {
        format!("{path} in {}", self.url)
    }

    fn failed(&self, action: &'static str, path: &Path, error: Failure) -> ShuffleError {
        let object = self.name(path);
        match error {
            Failure::Store(source) => ShuffleError::Store { action, object, source },
            Failure::Deadline => ShuffleError::StoreDeadline { action, object, deadline: REQUEST_DEADLINE },
        }
    }

    /// Some tries at a request that can be repeated.
    async fn persist<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        action: &'static str,
        path: &Path,
        request: impl FnMut() -> F,
    ) -> Result<T, ShuffleError> {
        let tried = persist(self.random.as_ref(), request).await;
        tried.map_err(|error| self.failed(action, path, error))
    }
}

/// Why a request failed.
enum Failure {
    Store(StoreError),
    Deadline,
}

/// A request within its deadline.
async fn in_time<T>(request: impl Future<Output = Result<T, StoreError>>) -> Result<T, Failure> {
    match tokio::time::timeout(REQUEST_DEADLINE, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::Store(error)),
        Err(_) => Err(Failure::Deadline),
    }
}

async fn persist<T, F: Future<Output = Result<T, StoreError>>>(
    random: &dyn Random,
    mut request: impl FnMut() -> F,
) -> Result<T, Failure> {
    let mut failures = 0;
    loop {
        match in_time(request()).await {
            Err(Failure::Store(error)) if may_pass(&error) && failures + 1 < TRIES => {
                failures += 1;
                polybolos_model::sometimes!("a request to the durable store was repeated");
                tracing::debug!(%error, failures, "a request to the durable store is repeated");
                tokio::time::sleep(back_off(random, failures)).await;
            }
            done => return done,
        }
    }
}

fn may_pass(error: &StoreError) -> bool {
    !matches!(
        error,
        StoreError::NotFound { .. }
            | StoreError::InvalidPath { .. }
            | StoreError::NotSupported { .. }
            | StoreError::NotImplemented { .. }
            | StoreError::PermissionDenied { .. }
            | StoreError::Unauthenticated { .. }
            | StoreError::UnknownConfigurationKey { .. }
    )
}

fn back_off(random: &dyn Random, failures: u32) -> Duration {
    let doubled = BACK_OFF.saturating_mul(1 << failures.saturating_sub(1).min(10));
    let half = u64::try_from(doubled.as_micros() / 2).unwrap_or(u64::MAX);
    Duration::from_micros(half + random.below(half.max(1)))
}
