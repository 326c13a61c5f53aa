//! Statements that write to a bucket, through a real server of the S3 protocol.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use polybolos_client::SubmitOptions;

use crate::{
    s3::{SECRET, options, serve},
    support::{cluster, failure, orders, value, write_parquet},
};

/// What the bucket holds, sorted.
fn objects(bucket: &Path) -> Vec<String> {
    let mut found = vec![];
    let mut open = vec![bucket.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(bucket).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// Waits until nothing staged is left.
async fn swept(bucket: &Path) -> Vec<String> {
    let start = Instant::now();
    loop {
        let objects = objects(bucket);
        if objects.iter().all(|name| !name.contains(".polybolos-staging")) {
            return objects;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "it stays: {objects:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_gets_the_files_of_the_attempts_that_won_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let bucket = root.path().join("data");
    for file in 0..4_i64 {
        write_parquet(
            &bucket.join(format!("orders/{file}.parquet")),
            &orders(file * 5_000..file * 5_000 + 5_000),
        );
    }
    std::fs::create_dir(root.path().join("other")).unwrap();
    let endpoint = serve(root.path()).await;
    let cluster = cluster().await;
    let client = cluster.client();
    let store = options(&endpoint, SECRET).replace(", 'format.has_header' 'true'", "");
    let table = |definition: &str| format!("CREATE EXTERNAL TABLE {definition} {store}");
    client.query(table("orders STORED AS PARQUET LOCATION 's3://data/orders/'")).await.unwrap();

    // Four tasks, and files of several parts.
    let mut wide = SubmitOptions::default();
    for (key, value) in [
        ("datafusion.execution.target_partitions", "4"),
        // No smaller parts are allowed.
        ("datafusion.execution.objectstore_writer_buffer_size", "5500000"),
    ] {
        wide.options.insert(key.to_owned(), value.to_owned());
    }
    let large = "SELECT id, repeat(note, 1000) AS note, customer % 3 AS k FROM orders";
    let copy = format!("COPY ({large}) TO 's3://data/copied/' STORED AS CSV PARTITIONED BY (k) {store}");
    let answer = client.query_with(copy, wide).await.unwrap();
    assert_eq!(answer.num_rows(), 1);
    let copied: Vec<_> =
        swept(&bucket).await.into_iter().filter(|name| name.starts_with("copied/")).collect();
    assert_eq!(copied.len(), 12, "{copied:?}");
    let sizes = copied.iter().map(|name| std::fs::metadata(bucket.join(name)).unwrap().len());
    assert!(sizes.max().unwrap() > 0);
    let columns = "copied (id BIGINT, note VARCHAR, k BIGINT) STORED AS CSV PARTITIONED BY (k)";
    client.query(table(&format!("{columns} LOCATION 's3://data/copied/'"))).await.unwrap();
    for sql in
        ["SELECT count(*) FROM {}", "SELECT sum(id * (k + 1)) FROM {}", "SELECT sum(length(note)) FROM {}"]
    {
        let expected = sql.replace("{}", &format!("({large}) q"));
        assert_eq!(
            value(&client, &sql.replace("{}", "copied")).await,
            value(&client, &expected).await,
            "{sql}"
        );
    }

    let insert = "INSERT INTO copied SELECT id, note, 7 FROM orders WHERE id < 10";
    assert_eq!(value(&client, insert).await, "10");
    assert_eq!(value(&client, "SELECT count(*) FROM copied WHERE k = 7").await, "10");

    // Another bucket than the one that is read, and its own options.
    let copy =
        format!("COPY (SELECT count(*) AS n FROM orders) TO 's3://other/n.json' STORED AS JSON {store}");
    assert_eq!(value(&client, &copy).await, "1");
    assert_eq!(std::fs::read_to_string(root.path().join("other/n.json")).unwrap(), "{\"n\":20000}\n");

    let copy = "COPY (SELECT 1 / (id - 19000) AS x FROM orders) TO 's3://data/failed/' STORED AS PARQUET";
    let error = failure(&client, copy).await.to_string();
    assert!(error.contains("ivide by zero"), "{error}");
    assert!(swept(&bucket).await.iter().all(|name| !name.starts_with("failed/")));
    cluster.shutdown().await;
}
