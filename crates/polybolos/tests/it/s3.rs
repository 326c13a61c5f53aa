//! Tables in an S3 store: a real server of its protocol on loopback.

use std::path::Path;

use hyper_util::rt::TokioIo;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tokio::net::TcpListener;

use crate::support::{cluster, failure, orders, value, write, write_parquet};

pub(crate) const KEY: &str = "test-access-key";
pub(crate) const SECRET: &str = "test-secret-key";

/// Serves each folder below `root` as a bucket, and returns the endpoint.
pub(crate) async fn serve(root: &Path) -> String {
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service.clone());
            tokio::spawn(connection);
        }
    });
    endpoint
}

pub(crate) fn options(endpoint: &str, secret: &str) -> String {
    format!(
        "OPTIONS ('aws.endpoint' '{endpoint}', 'aws.allow_http' 'true', 'aws.region' 'us-east-1', \
         'aws.access_key_id' '{KEY}', 'aws.secret_access_key' '{secret}', 'format.has_header' 'true')"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_a_bucket_are_read_by_every_executor() {
    let root = tempfile::tempdir().unwrap();
    for file in 0..4_i64 {
        write_parquet(
            &root.path().join(format!("data/orders/{file}.parquet")),
            &orders(file * 50..file * 50 + 50),
        );
    }
    write(&root.path().join("data/names.csv"), "id,name\n1,a\n2,b\n");
    let endpoint = serve(root.path()).await;
    let cluster = cluster().await;
    let client = cluster.client();
    let parquet = options(&endpoint, SECRET).replace(", 'format.has_header' 'true'", "");
    client
        .query(format!(
            "CREATE EXTERNAL TABLE orders STORED AS PARQUET LOCATION 's3://data/orders/' {parquet}"
        ))
        .await
        .unwrap();
    let csv = options(&endpoint, SECRET);
    client
        .query(format!("CREATE EXTERNAL TABLE names STORED AS CSV LOCATION 's3://data/names.csv' {csv}"))
        .await
        .unwrap();
    assert_eq!(value(&client, "SELECT sum(id) FROM orders").await, "19900");
    assert_eq!(value(&client, "SELECT count(*) FROM orders JOIN names USING (id)").await, "2");
    let four = "SELECT count(*) FROM (SELECT customer, count(*) FROM orders GROUP BY customer)";
    assert_eq!(value(&client, four).await, "120");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_told_and_kept_to_their_table() {
    let root = tempfile::tempdir().unwrap();
    write_parquet(&root.path().join("data/t/0.parquet"), &orders(0..10));
    let endpoint = serve(root.path()).await;
    let cluster = cluster().await;
    let client = cluster.client();
    let wrong = options(&endpoint, "guessed").replace(", 'format.has_header' 'true'", "");
    let sql = format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 's3://data/t/' {wrong}");
    let error = failure(&client, &sql).await.to_string();
    assert!(!error.contains("guessed"), "the secret is in the error: {error}");
    assert_eq!(value(&client, "SELECT 1").await, "1");
    cluster.shutdown().await;
}
