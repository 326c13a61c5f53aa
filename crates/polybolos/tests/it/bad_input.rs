//! What users get wrong: each has a clear error, and the cluster goes on serving.

use std::path::Path;

use polybolos::{Client, Env, Extensions};
use polybolos_client::ClientError;
use polybolos_model::{ErrorClass, JobId, ReplicaId, limits::MAX_MESSAGE_BYTES};
use polybolos_proto::{
    detail_of,
    v1::{self, error_detail::Reason, query_service_client::QueryServiceClient},
};
use polybolos_scheduler::{LogKind, Scheduler, SchedulerConfig};

use crate::support::{Shop, failure, orders, shop, value, write, write_parquet};

/// Both executors still work.
async fn serves(shop: &Shop) {
    assert_eq!(value(&shop.client, "SELECT count(*) FROM orders").await, "10000");
    let status = shop.client.status().await.unwrap();
    assert!(status.executors.iter().all(|executor| executor.state == "live"), "{status:?}");
    assert_eq!(status.executors.len(), 2);
}

async fn statement_error(client: &Client, sql: &str, parts: &[&str]) {
    let error = failure(client, sql).await;
    let ClientError::Statement { message } = &error else { panic!("{sql}: {error:?}") };
    for part in parts {
        assert!(message.contains(part), "no '{part}' in: {message}");
    }
}

async fn job_error(client: &Client, sql: &str, parts: &[&str]) -> ErrorClass {
    let error = failure(client, sql).await;
    let text = error.to_string();
    let ClientError::JobFailed { error, .. } = error else { panic!("{sql}: {error:?}") };
    for part in parts.iter().chain(&["stage", "task", "executor executor-"]) {
        assert!(text.contains(part), "no '{part}' in: {text}");
    }
    error.class
}

fn create(name: &str, format: &str, location: &Path, rest: &str) -> String {
    format!("CREATE EXTERNAL TABLE {name} {rest} STORED AS {format} LOCATION '{}'", location.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_statements() {
    let shop = shop().await;
    let client = &shop.client;
    statement_error(client, "SELEC 1", &["SELEC"]).await;
    statement_error(client, "SELECT * FROM nowhere", &["nowhere"]).await;
    statement_error(client, "SELECT wrong FROM orders", &["wrong"]).await;
    statement_error(client, "SELECT no_such_function(id) FROM orders", &["no_such_function"]).await;
    statement_error(client, "", &["empty"]).await;
    statement_error(client, "SELECT 1; SELECT 2", &["2 statements"]).await;
    statement_error(client, "SET datafusion.execution.batch_size = 1", &["session"]).await;
    serves(&shop).await;
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_and_broken_files() {
    let shop = shop().await;
    let (client, folder) = (&shop.client, tempfile::tempdir().unwrap());
    let at = |path: &str| folder.path().join(path);

    let missing = at("missing.parquet");
    statement_error(client, &create("m", "PARQUET", &missing, ""), &["missing.parquet"]).await;

    write_parquet(&at("gone.parquet"), &orders(0..10));
    client.query(create("gone", "PARQUET", &at("gone.parquet"), "")).await.unwrap();
    std::fs::remove_file(at("gone.parquet")).unwrap();
    // Known weakness, DataFusion's too: a table's files are listed anew by each query, and no files are no rows.
    assert_eq!(client.query("SELECT * FROM gone").await.unwrap().num_rows(), 0);

    // Cut short before it is registered, and after.
    write_parquet(&at("cut.parquet"), &orders(0..5_000));
    let whole = std::fs::read(at("cut.parquet")).unwrap();
    std::fs::write(at("early.parquet"), &whole[..whole.len() / 2]).unwrap();
    statement_error(client, &create("early", "PARQUET", &at("early.parquet"), ""), &["early.parquet"]).await;
    client.query(create("late", "PARQUET", &at("cut.parquet"), "")).await.unwrap();
    std::fs::write(at("cut.parquet"), &whole[..whole.len() / 2]).unwrap();
    let error = failure(client, "SELECT sum(id), count(note) FROM late").await;
    assert!(matches!(error, ClientError::JobFailed { .. } | ClientError::Statement { .. }), "{error:?}");

    write(&at("short.csv"), "1,2,3\n4,5\n6,7,8\n");
    let columns = "(a INT, b INT, c INT)";
    client.query(create("short", "CSV", &at("short.csv"), columns)).await.unwrap();
    let class = job_error(client, "SELECT sum(a), sum(c) FROM short", &["query"]).await;
    assert_eq!(class, ErrorClass::User);

    write(&at("text.csv"), "1,2,3\n4,five,6\n");
    client.query(create("words", "CSV", &at("text.csv"), columns)).await.unwrap();
    assert_eq!(job_error(client, "SELECT sum(b) FROM words", &["five"]).await, ErrorClass::User);
    serves(&shop).await;
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_division_by_zero_in_one_task_of_many() {
    let shop = shop().await;
    for sql in [
        "SELECT 10 / (id - 7777) FROM orders",
        "SELECT sum(10 / (id - 7777)), customer FROM orders GROUP BY 2",
    ] {
        let class = job_error(&shop.client, sql, &["ivide by zero"]).await;
        assert_eq!(class, ErrorClass::User);
    }
    let jobs = shop.client.jobs().await.unwrap();
    let detail = shop.client.job(jobs[0].job_id.parse().unwrap()).await.unwrap();
    let failures: u32 = detail.stages.iter().flat_map(|stage| &stage.tasks).map(|task| task.failures).sum();
    assert!(failures <= 1, "a user error is not tried again, but there were {failures} failures");
    serves(&shop).await;
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_of_10_mb() {
    let shop = shop().await;
    let sql = format!("SELECT '{}'", "x".repeat(10_000_000));
    assert!(matches!(failure(&shop.client, &sql).await, ClientError::TooLarge { .. }));
    // The scheduler refuses it by itself, and so does the message limit beyond it.
    let channel =
        polybolos_env::grpc::connect(&shop.cluster.env().net, &shop.cluster.address()).await.unwrap();
    let mut raw = QueryServiceClient::new(channel).max_encoding_message_size(usize::MAX);
    let request = |sql: String, key: &str| v1::SubmitRequest {
        idempotency_key: key.to_owned(),
        statement: Some(v1::submit_request::Statement::Sql(sql)),
        ..Default::default()
    };
    let status = raw.submit(request(sql, "large")).await.unwrap_err();
    assert_eq!(detail_of(&status).map(|detail| detail.reason()), Some(Reason::TooLarge), "{status}");
    let huge = "x".repeat(MAX_MESSAGE_BYTES + 1);
    let status = raw.submit(request(huge, "huge")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status}");
    serves(&shop).await;
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_id_that_does_not_exist() {
    let shop = shop().await;
    let (client, id) = (&shop.client, JobId(0xdead));
    let unknown = |error: &ClientError| matches!(error, ClientError::NotFound { job } if *job == id);
    assert!(unknown(&client.job(id).await.unwrap_err()));
    assert!(unknown(&client.cancel(id, "").await.unwrap_err()));
    let mut watch = client.watch(id);
    let update = futures::StreamExt::next(&mut watch).await.unwrap();
    assert!(unknown(&update.unwrap_err()));
    serves(&shop).await;
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use() {
    let shop = shop().await;
    let address = shop.cluster.address();
    let config = SchedulerConfig::new(ReplicaId(2), address.clone(), LogKind::InMemory);
    let started = Scheduler::start(config, Env::production(1).unwrap(), Extensions::default()).await;
    let Err(error) = started else { panic!("it listens on {address} too") };
    let text = error.to_string();
    assert!(text.contains(&address) && text.contains("in use"), "{text}");
    serves(&shop).await;
    shop.cluster.shutdown().await;
}
