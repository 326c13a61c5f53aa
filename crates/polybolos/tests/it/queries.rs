//! Answers, against plain DataFusion.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, future::try_join_all};
use polybolos::{EmbeddedCluster, EmbeddedConfig, Extensions};
use polybolos_client::{Answer, JobState, SubmitOptions};

use crate::support::{cluster, column, in_session, oracle, rows, shop, text, value};

const QUERIES: [&str; 24] = [
    "SELECT count(*) FROM orders",
    "SELECT customer, count(*), sum(amount), min(id), max(id), avg(amount) FROM orders GROUP BY customer",
    "SELECT customer, count(DISTINCT note) FROM orders GROUP BY customer ORDER BY customer",
    "SELECT count(DISTINCT customer) FROM orders",
    "SELECT note, customer % 3 AS class, count(*) FROM orders GROUP BY note, class ORDER BY note NULLS FIRST, class",
    "SELECT * FROM orders ORDER BY amount DESC, id LIMIT 50",
    "SELECT * FROM orders ORDER BY id LIMIT 10 OFFSET 4995",
    "SELECT id, amount FROM orders WHERE note IS NULL ORDER BY id",
    "SELECT c.region, count(*), sum(o.amount) FROM orders o JOIN customers c ON o.customer = c.id GROUP BY c.region",
    "SELECT o.id, c.name FROM orders o LEFT JOIN customers c ON o.customer = c.id WHERE o.id < 300",
    "SELECT c.name FROM customers c RIGHT JOIN orders o ON o.customer = c.id WHERE o.amount < 2",
    "SELECT o.customer, c.id FROM orders o FULL JOIN customers c ON o.customer = c.id + 50 GROUP BY 1, 2",
    "SELECT name FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer = c.id AND o.amount > 999)",
    "SELECT name FROM customers WHERE id NOT IN (SELECT customer FROM orders WHERE amount > 990)",
    "SELECT id FROM orders WHERE amount = (SELECT max(amount) FROM orders)",
    "SELECT a.id, b.id FROM orders a, orders b WHERE a.id = b.customer AND a.id < 20 AND b.id < 500",
    "SELECT id, row_number() OVER (PARTITION BY customer ORDER BY id) AS n FROM orders WHERE id < 1000 ORDER BY id",
    "SELECT customer, sum(amount) OVER (ORDER BY id ROWS 3 PRECEDING) AS s, id FROM orders ORDER BY id LIMIT 100",
    "SELECT customer FROM orders WHERE id < 50 UNION SELECT id FROM customers",
    "SELECT id FROM orders WHERE id < 30 UNION ALL SELECT id FROM customers WHERE id < 30",
    "SELECT customer FROM orders INTERSECT SELECT id FROM customers WHERE id > 90",
    "WITH big AS (SELECT customer, sum(amount) AS s FROM orders GROUP BY customer) \
     SELECT region, max(s) FROM big JOIN customers ON id = customer GROUP BY region HAVING max(s) > 0 ORDER BY region",
    "SELECT * FROM orders WHERE id < 0",
    "SELECT region, name FROM customers WHERE region LIKE 's%' ORDER BY name DESC LIMIT 7",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_give_what_datafusion_gives() {
    let shop = shop().await;
    let oracle = oracle(shop.folder.path()).await;
    for sql in QUERIES {
        let expected = oracle.sql(sql).await.unwrap().collect().await.unwrap();
        let expected = text(sql, &expected);
        assert_eq!(rows(&shop.client, sql).await, expected, "{sql}");
        // Narrower and wider than the slots, and never in one task only because the files are small.
        for partitions in ["1", "5"] {
            let mut options = SubmitOptions::default();
            options
                .options
                .insert("datafusion.execution.target_partitions".to_owned(), partitions.to_owned());
            let result =
                shop.client.query_with(sql, options).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(text(sql, &result.batches), expected, "{sql} with {partitions} partitions");
        }
    }
    shop.client.settle().await;
    let jobs = shop.client.jobs().await.unwrap();
    assert!(jobs.iter().all(|job| job.state() == JobState::Succeeded), "{jobs:?}");
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn select_1_is_fast_and_leaves_nothing_behind() {
    let cluster = cluster().await;
    let client = cluster.client();
    assert_eq!(value(&client, "SELECT 1").await, "1");
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        assert_eq!(client.query("SELECT 1").await.unwrap().num_rows(), 1);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!("SELECT 1: p50 {:?}, p90 {:?}, worst {:?}", times[25], times[45], times[49]);
    // The aim is 10 ms; a loaded machine and an unoptimised build get some slack.
    assert!(times[25] < Duration::from_millis(50), "{times:?}");
    client.settle().await;
    let start = Instant::now();
    while client.status().await.unwrap().executors.iter().any(|e| e.shuffle_bytes > 0 || e.busy_slots > 0) {
        assert!(start.elapsed() < Duration::from_secs(5), "outputs of finished queries are still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_queries_at_once_are_all_right() {
    let shop = shop().await;
    let oracle = oracle(shop.folder.path()).await;
    let answers = try_join_all((0..100).map(|customer| {
        let client = shop.client.clone();
        async move {
            let sql = format!("SELECT sum(id) AS sum FROM orders WHERE customer = {customer}");
            client.query(sql).await.map(|result| column(&result.batches, "sum"))
        }
    }));
    for (customer, answer) in answers.await.unwrap().into_iter().enumerate() {
        let sql = format!("SELECT sum(id) AS sum FROM orders WHERE customer = {customer}");
        let expected = oracle.sql(&sql).await.unwrap().collect().await.unwrap();
        assert_eq!(answer, column(&expected, "sum"), "customer {customer}");
    }
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_as_a_stream_and_a_key_makes_one_job() {
    let shop = shop().await;
    let sql = "SELECT * FROM orders ORDER BY id";
    let key = SubmitOptions { key: Some("only-once".parse().unwrap()), ..Default::default() };
    let Answer::Job(first) = shop.client.submit(sql, key.clone()).await.unwrap() else { panic!("no job") };
    let Answer::Job(again) = shop.client.submit(sql, key).await.unwrap() else { panic!("no job") };
    assert_eq!(first.id(), again.id());
    assert!(first.ordered());
    assert_eq!(first.schema().fields().len(), 4);
    let ids: Vec<String> = first
        .stream()
        .map_ok(|batch| column(&[batch], "id").len())
        .map_ok(|rows| rows.to_string())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(ids.iter().map(|rows| rows.parse::<usize>().unwrap()).sum::<usize>(), 10_000);
    let updates: Vec<_> = first.watch().map(|update| update.unwrap().state()).collect().await;
    assert_eq!(updates.last(), Some(&JobState::Succeeded));
    // Whoever repeats the submit afterwards is told that the rows are gone, and not given none.
    shop.client.settle().await;
    let rows: Result<Vec<_>, _> = again.stream().try_collect().await;
    let error = rows.unwrap_err().to_string();
    assert!(error.contains("given back"), "{error}");
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_of_a_session_are_kept_for_it() {
    let shop = shop().await;
    let show = "SHOW datafusion.execution.batch_size";
    let client = &shop.client;
    client.query_with("SET datafusion.execution.batch_size = 100", in_session("a")).await.unwrap();
    let mine = client.query_with(show, in_session("a")).await.unwrap();
    assert_eq!(column(&mine.batches, "value"), ["100"]);
    let other = client.query_with(show, in_session("b")).await.unwrap();
    assert_eq!(column(&other.batches, "value"), ["8192"]);
    let result = client.query_with("SELECT id FROM orders", in_session("a")).await.unwrap();
    assert_eq!(result.num_rows(), 10_000);
    client.close_session(&"a".parse().unwrap()).await.unwrap();
    let closed = client.query_with(show, in_session("a")).await.unwrap();
    assert_eq!(column(&closed.batches, "value"), ["8192"]);
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_a_durable_log_and_more_slots_works_too() {
    let config = EmbeddedConfig { executors: 3, slots: 2, durable: true, ..EmbeddedConfig::default() };
    let cluster = EmbeddedCluster::start(config, Extensions::default()).await.unwrap();
    let client = cluster.client();
    assert_eq!(value(&client, "SELECT sum(v) FROM (VALUES (1), (2), (3)) t(v)").await, "6");
    let status = client.status().await.unwrap();
    assert_eq!(status.executors.iter().map(|executor| executor.slots).sum::<u32>(), 6);
    assert!(status.replicas.iter().any(|replica| replica.leader));
    cluster.shutdown().await;
}
