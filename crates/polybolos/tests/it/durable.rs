//! Durable shuffle over the S3 protocol: executors go away, and nothing that is done is done again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arrow::{
    array::AsArray,
    datatypes::{DataType, Int64Type},
};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use futures::{StreamExt, TryStreamExt, future::join_all};
use object_store::{ObjectStore, aws::AmazonS3Builder};
use polybolos::{Client, DurableMode, EmbeddedCluster, EmbeddedConfig, Env, Extensions, ShuffleDurable};
use polybolos_client::{Answer, JobHandle, SubmitOptions};
use polybolos_executor::{Executor, ExecutorConfig, ExecutorHandle};
use polybolos_model::ExecutorId;
use tempfile::TempDir;
use url::Url;

use crate::{
    s3::{KEY, SECRET, serve},
    support::{oracle, shop_files, text},
};

/// Tasks that call `pass` wait until it is set.
static OPEN: LazyLock<AtomicBool> = LazyLock::new(AtomicBool::default);

fn pass() -> ScalarUDF {
    let wait = |args: &[ColumnarValue]| {
        while !OPEN.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(args[0].clone())
    };
    create_udf("pass", vec![DataType::Int64], DataType::Int64, Volatility::Immutable, Arc::new(wait))
}

struct Setting {
    cluster: EmbeddedCluster,
    client: Client,
    executors: Vec<ExecutorHandle>,
    shop: TempDir,
    bucket: PathBuf,
    _s3: TempDir,
    _work: TempDir,
}

/// Three executors of two slots that copy their outputs to a bucket of an S3 server.
async fn setting(mode: DurableMode) -> Setting {
    let (s3, work, shop) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), shop_files());
    let bucket = s3.path().join("shuffle");
    std::fs::create_dir(&bucket).unwrap();
    let store = AmazonS3Builder::new()
        .with_bucket_name("shuffle")
        .with_endpoint(serve(s3.path()).await)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id(KEY)
        .with_secret_access_key(SECRET)
        .build()
        .unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    let extensions = Extensions {
        scalar_udfs: vec![Arc::new(pass())],
        object_stores: vec![(Url::parse("s3://shuffle").unwrap(), store)],
        ..Extensions::default()
    };
    let env = Env::production(6).unwrap();
    let config = EmbeddedConfig { executors: 0, ..EmbeddedConfig::default() };
    let cluster = EmbeddedCluster::start_in(config, extensions.clone(), env.clone()).await.unwrap();
    let durable = ShuffleDurable { url: Url::parse("s3://shuffle/of/tests").unwrap(), mode };
    let start = |number: u32| {
        let id = ExecutorId::new(format!("e{number}")).unwrap();
        let config = ExecutorConfig::new(id, cluster.addresses(), work.path().to_owned());
        let config = ExecutorConfig { slots: 2, shuffle_durable: Some(durable.clone()), ..config };
        Executor::start(config, env.clone(), polybolos::with_table_codec(extensions.clone()))
    };
    let executors = join_all((1..=3).map(start)).await.into_iter().map(Result::unwrap).collect();
    let client = cluster.client();
    let setting = Setting { cluster, client, executors, shop, bucket, _s3: s3, _work: work };
    setting.live(3).await;
    for table in ["orders", "customers"] {
        let path = setting.shop.path().join(table);
        let sql = format!("CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{}/'", path.display());
        setting.client.query(sql).await.unwrap();
    }
    setting
}

impl Setting {
    async fn live(&self, count: usize) {
        self.until(&format!("{count} executors are live"), async || {
            let status = self.client.status().await.unwrap();
            // Before version 3 nobody tells what is durable.
            status.version >= 3
                && status.executors.iter().filter(|executor| executor.state == "live").count() == count
        })
        .await;
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let start = Instant::now();
        while !is_so().await {
            assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn submit(&self, sql: &str) -> JobHandle {
        let mut options = SubmitOptions::default();
        // Files as small as these are read by one task, unless somebody says otherwise.
        options.options.insert("datafusion.execution.target_partitions".to_owned(), "6".to_owned());
        let Answer::Job(job) = self.client.submit(sql, options).await.unwrap() else { panic!("no job") };
        job
    }

    /// Completed tasks by stage and partition: their attempt and executor.
    async fn done(&self, job: &JobHandle) -> BTreeMap<(u32, u32), (String, String)> {
        let detail = self.client.job(job.id()).await.unwrap();
        let tasks =
            detail.stages.iter().flat_map(|stage| stage.tasks.iter().map(|task| (stage.stage_id, task)));
        tasks
            .filter(|(_, task)| task.state == "done")
            .map(|(stage, task)| {
                ((stage, task.partition), (format!("{:?}", task.attempt), task.executor_id.clone()))
            })
            .collect()
    }

    async fn end(self) {
        self.client.settle().await;
        // What the query left in the bucket goes with it.
        self.until("the bucket is empty", async || files(&self.bucket) == 0).await;
        join_all(self.executors.into_iter().map(ExecutorHandle::shutdown)).await;
        self.cluster.shutdown().await;
    }
}

fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_done_runs_again_when_its_executor_is_lost() {
    let mut setting = setting(DurableMode::Before).await;
    let sql = "SELECT customer % 7 AS k, sum(pass(c)) AS s FROM \
               (SELECT customer, count(*) AS c FROM orders GROUP BY customer) GROUP BY k ORDER BY k";
    let job = setting.submit(sql).await;
    let first = async || {
        let detail = setting.client.job(job.id()).await.unwrap();
        let of_stage = detail.stages.iter().find(|stage| stage.inputs.is_empty()).unwrap();
        of_stage.tasks.iter().all(|task| task.state == "done")
            && detail.stages.iter().flat_map(|stage| &stage.tasks).any(|task| task.state == "running")
    };
    setting.until("the first stage is complete and the second runs", first).await;
    let before = setting.done(&job).await;
    assert!(before.values().any(|(_, executor)| executor == "e1"), "{before:?}");
    drop(setting.executors.remove(0));
    setting.live(2).await;
    assert_eq!(setting.done(&job).await, before, "a done task is not done any more");
    OPEN.store(true, Ordering::Release);
    let batches: Vec<_> = job.stream().try_collect().await.unwrap();
    let after = setting.done(&job).await;
    assert!(before.iter().all(|(task, done)| after.get(task) == Some(done)), "{before:#?} {after:#?}");
    let here = oracle(setting.shop.path()).await;
    let plain = here.sql(&sql.replace("pass(c)", "c")).await.unwrap().collect().await.unwrap();
    assert_eq!(text(sql, &batches), text(sql, &plain));
    setting.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_is_half_read_goes_on_elsewhere() {
    let mut setting = setting(DurableMode::Before).await;
    let job = setting.submit("SELECT o.id AS o, c.id AS c FROM orders o CROSS JOIN customers c").await;
    let mut stream = job.stream();
    let first = stream.next().await.unwrap().unwrap();
    // Until all is done, and nothing runs again for it.
    let ended = async || setting.client.job(job.id()).await.unwrap().summary.unwrap().ended_at_ms > 0;
    setting.until("the query ends", ended).await;
    for executor in setting.executors.drain(..2) {
        executor.shutdown().await;
    }
    let mut sum = 0;
    let mut count = 0;
    let mut batch = Some(first);
    while let Some(rows) = batch {
        count += rows.num_rows();
        let column = |at| rows.column(at).as_primitive::<Int64Type>().values();
        sum += column(0).iter().zip(column(1)).map(|(o, c)| o * 1_000 + c).sum::<i64>();
        batch = stream.try_next().await.unwrap();
    }
    let expected = (0..10_000_i64).map(|o| (0..100).map(|c| o * 1_000 + c).sum::<i64>()).sum::<i64>();
    assert_eq!((count, sum), (1_000_000, expected));
    setting.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_made_in_the_background_too() {
    let setting = setting(DurableMode::Background).await;
    let job = setting.submit("SELECT id FROM orders").await;
    let all_there = async || {
        let done = setting.done(&job).await.len();
        done > 0 && files(&setting.bucket) >= 2 * done
    };
    setting.until("all outputs are copied", all_there).await;
    let batches: Vec<_> = job.stream().try_collect().await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 10_000);
    setting.end().await;
}
