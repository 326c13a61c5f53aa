//! Limits of queries and of the queue, and another order of queries than the default one.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use arrow::{
    array::AsArray,
    datatypes::{DataType, Int64Type},
};
use datafusion::{
    common::Result,
    logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf},
};
use futures::TryStreamExt;
use polybolos::{EmbeddedCluster, EmbeddedConfig, Env, Extensions, Job, Rank, SchedulingPolicy};
use polybolos_client::{Answer, Client, ClientError, JobFailure, JobHandle, SubmitOptions};
use polybolos_model::ErrorClass;

use crate::support::{Shop, column, shop, shop_in, value};

/// Runs for hours if it is let.
const LONG: &str = "SELECT sum(a.id * b.id % 7 + c.id) FROM orders a, orders b, orders c";

/// What waits for others waits no longer, and its test fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn set(options: &[(&str, &str)]) -> SubmitOptions {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    SubmitOptions { options: options.collect(), ..SubmitOptions::default() }
}

/// Settings count once the cluster has raised its version, just after its start.
pub(crate) async fn settings_count(client: &Client) {
    for _ in 0..1_000 {
        match client.query_with("SELECT 1", set(&[("polybolos.max_run_ms", "0")])).await {
            Ok(_) => return,
            Err(error) => assert!(error.to_string().contains("older version"), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the version is never raised");
}

async fn limited_shop() -> Shop {
    let shop = shop().await;
    settings_count(&shop.client).await;
    shop
}

async fn failure(client: &Client, sql: &str, options: &[(&str, &str)]) -> JobFailure {
    match client.query_with(sql, set(options)).await {
        Err(ClientError::JobFailed { error, .. }) => *error,
        other => panic!("{sql}: {other:?}"),
    }
}

async fn submit(client: &Client, sql: &str, options: SubmitOptions) -> JobHandle {
    match client.submit(sql, options).await.unwrap() {
        Answer::Job(job) => job,
        Answer::Inline(_) => panic!("{sql} is no job"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_takes_too_long_is_stopped() {
    let shop = limited_shop().await;
    let error = failure(&shop.client, LONG, &[("polybolos.max_run_ms", "300")]).await;
    assert_eq!(error.class, ErrorClass::Resources);
    assert!(error.message.contains("within 300 ms of its submit (polybolos.max_run_ms)"), "{error}");
    assert_eq!(value(&shop.client, "SELECT count(*) FROM orders").await, "10000", "its slots are free");
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_is_too_large_fails_its_query_and_files_have_no_limit() {
    let shop = limited_shop().await;
    let client = &shop.client;
    let at_most = |bytes: &'static str| [("polybolos.max_result_bytes", bytes)];
    // The result of the second one is whole by the completion that makes it too large.
    for sql in ["SELECT * FROM orders", "SELECT count(*) FROM orders"] {
        let error = failure(client, sql, &at_most("1")).await;
        assert_eq!((error.class, error.stage), (ErrorClass::User, None));
        assert!(error.message.contains("more than 1 bytes (polybolos.max_result_bytes)"), "{error}");
        assert!(error.message.contains("LIMIT") && error.message.contains("COPY"), "{error}");
    }
    let few = client.query_with("SELECT id FROM orders ORDER BY id LIMIT 5", set(&at_most("100000"))).await;
    assert_eq!(few.unwrap().num_rows(), 5);
    let all = client.query_with("SELECT * FROM orders", set(&at_most("0"))).await.unwrap();
    assert_eq!(all.num_rows(), 10_000);
    let copy =
        format!("COPY (SELECT * FROM orders) TO '{}/copy/' STORED AS PARQUET", shop.folder.path().display());
    assert_eq!(client.query_with(copy, set(&at_most("1"))).await.unwrap().num_rows(), 1);
    shop.cluster.shutdown().await;
}

/// Tasks that wait for each other, and how many were there at once.
#[derive(Default)]
struct Meeting {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    /// For how many each one waits.
    expected: usize,
    arrived: usize,
    there: usize,
    most: usize,
}

impl Meeting {
    fn of(&self, expected: usize) {
        *self.seen.lock().unwrap() = Seen { expected, ..Seen::default() };
    }

    fn most(&self) -> usize {
        self.seen.lock().unwrap().most
    }

    fn attend(&self) {
        let mut seen = self.seen.lock().unwrap();
        seen.arrived += 1;
        seen.there += 1;
        seen.most = seen.most.max(seen.there);
        self.changed.notify_all();
        let alone = |seen: &mut Seen| seen.arrived < seen.expected;
        let (mut seen, _) = self.changed.wait_timeout_while(seen, PATIENCE, alone).unwrap();
        seen.there -= 1;
    }
}

/// `NAME(n)` is `n`, once `f(n)` has returned for the first row of each batch.
fn function(name: &str, f: impl Fn(i64) + Send + Sync + 'static) -> Arc<ScalarUDF> {
    let call = move |args: &[ColumnarValue]| -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        if let Some(first) = arrays[0].as_primitive::<Int64Type>().iter().flatten().next() {
            f(first);
        }
        Ok(ColumnarValue::Array(Arc::clone(&arrays[0])))
    };
    let int = DataType::Int64;
    Arc::new(create_udf(name, vec![int.clone()], int, Volatility::Volatile, Arc::new(call)))
}

/// With threads enough for tasks that wait.
async fn start(config: EmbeddedConfig, functions: Vec<Arc<ScalarUDF>>) -> EmbeddedCluster {
    let extensions = Extensions { scalar_udfs: functions, ..Extensions::default() };
    EmbeddedCluster::start_in(config, extensions, Env::production(8).unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_tasks_run_at_once_than_a_query_may_have() {
    let meeting = Arc::new(Meeting::default());
    let attended = Arc::clone(&meeting);
    let config = EmbeddedConfig { slots: 2, ..EmbeddedConfig::default() };
    let shop = shop_in(start(config, vec![function("meet", move |_| attended.attend())]).await).await;
    settings_count(&shop.client).await;
    for most in [1, 2] {
        meeting.of(most);
        let limit = most.to_string();
        let options = [
            ("datafusion.execution.target_partitions", "4"),
            ("polybolos.max_parallel_tasks", limit.as_str()),
            ("polybolos.speculation", "false"),
        ];
        let sum =
            shop.client.query_with("SELECT sum(meet(id)) AS s FROM orders", set(&options)).await.unwrap();
        assert_eq!(column(&sum.batches, "s"), ["49995000"]);
        assert_eq!(meeting.most(), most);
    }
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_queries_and_answers_repeated_submits() {
    let config = EmbeddedConfig { executors: 0, max_queued_jobs: 1, ..EmbeddedConfig::default() };
    let cluster = start(config, Vec::new()).await;
    let client = cluster.client();
    let key = SubmitOptions { key: Some("mine".parse().unwrap()), ..SubmitOptions::default() };
    let first = submit(&client, "SELECT 1", key.clone()).await;
    // After some seconds, in which it has tried again.
    match client.submit("SELECT 2", SubmitOptions::default()).await {
        Err(ClientError::Busy { message }) => {
            assert!(message.contains("1 queries wait") && message.contains("not accepted"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(submit(&client, "SELECT 1", key).await.id(), first.id());
    assert_eq!(client.jobs().await.unwrap().len(), 1, "nothing is left of the one that was refused");
    first.cancel("enough").await.unwrap();
    submit(&client, "SELECT 2", SubmitOptions::default()).await;
    cluster.shutdown().await;
}

/// Who came last has the next slot.
#[derive(Debug)]
struct LastFirst;

impl SchedulingPolicy for LastFirst {
    fn rank(&self, job: &Job, _: u32) -> Rank {
        Rank { class: 0, turn: u64::MAX - job.number }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_may_bring_its_own_order_of_queries() {
    let (gate, order) = (Arc::new(Meeting::default()), Arc::new(Mutex::new(Vec::new())));
    gate.of(2);
    let (held, noted) = (Arc::clone(&gate), Arc::clone(&order));
    let functions = vec![
        function("held", move |_| held.attend()),
        function("noted", move |n| noted.lock().unwrap().push(n)),
    ];
    let config =
        EmbeddedConfig { executors: 1, scheduling: Arc::new(LastFirst), ..EmbeddedConfig::default() };
    let cluster = start(config, functions).await;
    let client = cluster.client();
    let mut jobs = vec![submit(&client, "SELECT held(0)", SubmitOptions::default()).await];
    for n in 1..=3 {
        jobs.push(submit(&client, &format!("SELECT noted({n})"), SubmitOptions::default()).await);
    }
    assert_eq!(*order.lock().unwrap(), [0; 0], "the only slot is taken");
    // On another thread than those of the test: it waits for the one that is held, if that has not come yet.
    let opens = Arc::clone(&gate);
    tokio::task::spawn_blocking(move || opens.attend()).await.unwrap();
    for job in jobs {
        job.stream().try_collect::<Vec<_>>().await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [3, 2, 1]);
    cluster.shutdown().await;
}
