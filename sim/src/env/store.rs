//! The object store of the tables: in memory, one for all hosts, slow or failing when a fault asks for it.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
    path::Path,
};
use polybolos_planner::Extensions;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::sleep;
use url::Url;

use super::pause::Debt;
use crate::schedule::Schedule;

/// What a request takes: as of a store in the same building.
const REQUEST_US: u64 = 400;

/// See the module. Clones are the same store.
#[derive(Clone)]
pub struct TableStore(Arc<Inner>);

struct Inner {
    objects: InMemory,
    debt: Debt,
    faults: Mutex<Faults>,
}

struct Faults {
    error_rate: f64,
    extra_ms: u64,
    random: StdRng,
}

impl fmt::Debug for TableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TableStore")
    }
}

impl fmt::Display for TableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::URL)
    }
}

impl TableStore {
    /// Tables are below it: `LOCATION 'sim://tables/t/'`.
    pub const URL: &str = "sim://tables";

    /// Durable copies of shuffle outputs are below it.
    pub const SHUFFLE_URL: &str = "sim://tables/shuffle";

    pub fn new(schedule: &Schedule) -> Self {
        let random = StdRng::seed_from_u64(schedule.fork("store"));
        let faults = Mutex::new(Faults { error_rate: 0.0, extra_ms: 0, random });
        Self(Arc::new(Inner { objects: InMemory::new(), debt: Debt::default(), faults }))
    }

    /// Puts a file in, at once.
    pub fn put(&self, path: &str, bytes: Bytes) {
        // Memory is always ready.
        let _ = self.0.objects.put(&Path::from(path), bytes.into()).now_or_never();
    }

    /// The paths of the durable copies that are there now.
    pub fn durable_outputs(&self) -> Vec<String> {
        let listed = self.0.objects.list(Some(&Path::from("shuffle")));
        // Memory is always ready.
        let listed: Option<Result<Vec<ObjectMeta>>> = listed.try_collect().now_or_never();
        let metas = listed.and_then(Result::ok).unwrap_or_default();
        let mut paths: Vec<String> = metas.into_iter().map(|meta| meta.location.to_string()).collect();
        paths.sort_unstable();
        paths
    }

    /// What is below a folder now, ascending by path.
    pub fn files_below(&self, folder: &str) -> Vec<(String, Bytes)> {
        let listed = self.0.objects.list(Some(&Path::from(folder)));
        let read = listed.and_then(|meta| async move {
            let bytes = self.0.objects.get(&meta.location).await?.bytes().await?;
            Ok((meta.location.to_string(), bytes))
        });
        // Memory is always ready.
        let read: Option<Result<Vec<_>>> = read.try_collect().now_or_never();
        let mut files = read.and_then(Result::ok).unwrap_or_default();
        files.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        files
    }

    /// What gives schedulers and executors this store.
    pub fn extensions(&self) -> Extensions {
        let store: Arc<dyn ObjectStore> = Arc::new(self.clone());
        let object_stores = Url::parse(Self::URL).ok().map(|url| (url, store)).into_iter().collect();
        Extensions { object_stores, ..Extensions::default() }
    }

    pub fn set_faults(&self, error_rate: f64, extra_ms: u64) {
        let mut faults = self.faults();
        (faults.error_rate, faults.extra_ms) = (error_rate.clamp(0.0, 1.0), extra_ms);
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.0.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the time of one request, which may fail.
    async fn request(&self) -> Result<()> {
        let extra_us = self.faults().extra_ms.saturating_mul(1_000);
        let due = self.0.debt.owe(REQUEST_US.saturating_add(extra_us));
        if !due.is_zero() {
            sleep(due).await;
        }
        let mut faults = self.faults();
        let rate = faults.error_rate;
        if rate > 0.0 && faults.random.random_bool(rate) {
            let source = std::io::Error::other("simulated: 503 Service Unavailable").into();
            return Err(Error::Generic { store: "sim", source });
        }
        Ok(())
    }
}

/// The time of writing is real time, which plans would carry along.
fn undated(meta: ObjectMeta) -> ObjectMeta {
    ObjectMeta { last_modified: Default::default(), ..meta }
}

#[async_trait]
impl ObjectStore for TableStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.request().await?;
        self.0.objects.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.request().await?;
        self.0.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.request().await?;
        let got = self.0.objects.get_opts(location, options).await?;
        Ok(GetResult { meta: undated(got.meta.clone()), ..got })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.request().await?;
        self.0.objects.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, listed) = (self.clone(), self.0.objects.list(prefix));
        let listed = async move { store.request().await.map(|()| listed.map_ok(undated)) };
        listed.try_flatten_stream().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.request().await?;
        let mut listed = self.0.objects.list_with_delimiter(prefix).await?;
        listed.objects = listed.objects.into_iter().map(undated).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.request().await?;
        self.0.objects.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::{error::Result, prelude::SessionContext};
    use polybolos_model::ErrorClass;

    use super::*;

    fn store() -> TableStore {
        TableStore(Arc::new(Inner {
            objects: InMemory::new(),
            debt: Debt::default(),
            faults: Mutex::new(Faults { error_rate: 0.0, extra_ms: 0, random: StdRng::seed_from_u64(1) }),
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_is_read_and_errors_of_its_store_may_be_retried() -> Result<()> {
        let (store, ctx) = (store(), SessionContext::new());
        for (url, own) in store.extensions().object_stores {
            ctx.register_object_store(&url, own);
        }
        ctx.sql("COPY (SELECT value FROM generate_series(1, 100)) TO 'sim://tables/t/1.parquet'")
            .await?
            .collect()
            .await?;
        ctx.sql("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'sim://tables/t/'").await?;
        assert_eq!(ctx.table("t").await?.count().await?, 100);
        let sum = ctx.sql("SELECT sum(value) FROM t WHERE value > 3").await?;
        let planned = sum.create_physical_plan().await?;
        store.set_faults(1.0, 0);
        let failed = datafusion::physical_plan::collect(planned, ctx.task_ctx()).await;
        let class = failed.map_err(|error| polybolos_shuffle::task_error(error).class);
        assert_eq!(class.map(drop), Err(ErrorClass::Retryable));
        Ok(())
    }
}
