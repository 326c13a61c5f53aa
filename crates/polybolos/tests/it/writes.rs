//! Statements that write: what they say, what is there then, and that nothing else is.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures::TryStreamExt;
use polybolos::Client;
use polybolos_client::{Answer, ClientError, JobState, SubmitOptions};
use polybolos_model::IdempotencyKey;

use crate::support::{Shop, failure, oracle, rows, shop, text, value};

/// Files below a folder, but for hidden folders, relative to it; ascending.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    let mut names: Vec<String> =
        found.iter().map(|path| path.strip_prefix(folder).unwrap().display().to_string()).collect();
    names.sort();
    names
}

/// Waits until nothing staged is left in a folder.
async fn swept(folder: &Path) {
    let staging = folder.join(".polybolos-staging");
    let start = Instant::now();
    while staging.exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "it stays: {:?}", files(&staging));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn count(client: &Client, sql: &str) -> u64 {
    value(client, sql).await.parse().unwrap()
}

async fn run(client: &Client, sql: &str) {
    client.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

impl Shop {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A statement's rows in this cluster, and those of another one in plain DataFusion, are the same.
    async fn same(&self, sql: &str, expected: &str) {
        let plain = oracle(self.folder.path()).await.sql(expected).await.unwrap().collect().await.unwrap();
        assert_eq!(rows(&self.client, sql).await, text(expected, &plain), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_to_a_folder_is_read_back() {
    let shop = shop().await;
    for (format, options, extension) in
        [("PARQUET", "", "parquet"), ("CSV", "OPTIONS ('has_header' 'true')", "csv"), ("JSON", "", "json")]
    {
        let folder = shop.path(&format!("out-{extension}"));
        let at = folder.display();
        let copy = format!(
            "COPY (SELECT id, customer, note FROM orders WHERE id < 7000) TO '{at}/' STORED AS {format} {options}"
        );
        assert_eq!(count(&shop.client, &copy).await, 7_000);
        let create = format!(
            "CREATE EXTERNAL TABLE back_{extension} (id BIGINT, customer BIGINT, note VARCHAR) STORED AS {format} \
             LOCATION '{at}/' {options}"
        );
        run(&shop.client, &create).await;
        shop.same(
            &format!(
                "SELECT count(*) AS n, sum(id) AS ids, min(note) AS note FROM back_{extension} WHERE note <> ''"
            ),
            "SELECT count(*) AS n, sum(id) AS ids, min(note) AS note FROM orders WHERE id < 7000 AND note <> ''",
        )
        .await;
        swept(&folder).await;
        let names = files(&folder);
        assert!(
            !names.is_empty() && names.iter().all(|name| name.ends_with(&format!(".{extension}"))),
            "{names:?}"
        );
    }
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_to_one_file_keeps_the_order() {
    let shop = shop().await;
    let out = shop.path("top.csv");
    let copy = format!(
        "COPY (SELECT id, amount FROM orders WHERE id < 3000 ORDER BY amount DESC, id) TO '{}'",
        out.display()
    );
    // What was there is replaced, at once.
    std::fs::write(&out, "old").unwrap();
    for _ in 0..2 {
        assert_eq!(count(&shop.client, &copy).await, 3_000);
        let written = std::fs::read_to_string(&out).unwrap();
        let ids: Vec<i64> =
            written.lines().skip(1).map(|line| line.split(',').next().unwrap().parse().unwrap()).collect();
        let mut expected: Vec<i64> = (0..3_000).collect();
        expected.sort_by_key(|id| (-(id * 37 % 4_001), *id));
        assert_eq!(ids, expected);
    }
    swept(shop.folder.path()).await;
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_go_to_the_folders_of_their_values() {
    let shop = shop().await;
    let folder = shop.path("parts");
    let copy = format!(
        "COPY (SELECT id, customer, customer % 4 AS k, CASE WHEN id % 2 = 0 THEN 'a/b' ELSE 'c d' END AS s FROM orders) \
         TO '{}/' STORED AS PARQUET PARTITIONED BY (k, s)",
        folder.display()
    );
    assert_eq!(count(&shop.client, &copy).await, 10_000);
    swept(&folder).await;
    let folders: BTreeSet<String> =
        files(&folder).iter().map(|name| name.rsplit_once('/').unwrap().0.to_owned()).collect();
    assert!(
        (4..=8).contains(&folders.len()) && folders.iter().all(|name| name.starts_with("k=")),
        "{folders:?}"
    );
    run(
        &shop.client,
        &format!(
            "CREATE EXTERNAL TABLE parts (id BIGINT, customer BIGINT, k BIGINT, s VARCHAR) STORED AS PARQUET \
             PARTITIONED BY (k, s) LOCATION '{}/'",
            folder.display()
        ),
    )
    .await;
    shop.same(
        "SELECT k, count(*) AS n, sum(id) AS ids FROM parts WHERE k > 0 GROUP BY k",
        "SELECT customer % 4 AS k, count(*) AS n, sum(id) AS ids FROM orders WHERE customer % 4 > 0 GROUP BY 1",
    )
    .await;
    // And more of them by an insert.
    assert_eq!(
        count(&shop.client, "INSERT INTO parts SELECT id, customer, 9, 'new' FROM orders WHERE id < 10")
            .await,
        10
    );
    assert_eq!(value(&shop.client, "SELECT count(*) FROM parts WHERE k = 9 AND s = 'new'").await, "10");
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inserts_add_rows_once() {
    let shop = shop().await;
    let folder = shop.path("added");
    run(
        &shop.client,
        &format!(
            "CREATE EXTERNAL TABLE added (id BIGINT, note VARCHAR) STORED AS CSV LOCATION '{}/'",
            folder.display()
        ),
    )
    .await;
    assert_eq!(value(&shop.client, "SELECT count(*) FROM added").await, "0");
    assert_eq!(count(&shop.client, "INSERT INTO added VALUES (1, 'x'), (2, NULL)").await, 2);
    let insert = "INSERT INTO added SELECT id, note FROM orders WHERE id >= 100 AND id < 600";
    let key = SubmitOptions { key: Some(IdempotencyKey::new("once").unwrap()), ..SubmitOptions::default() };
    // Its answer was lost, perhaps, so that it is asked for again.
    for _ in 0..3 {
        let Answer::Job(job) = shop.client.submit(insert, key.clone()).await.unwrap() else {
            panic!("no job")
        };
        let answer = job.stream().try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(answer.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
        let detail = shop.client.job(job.id()).await.unwrap();
        assert!(detail.write.unwrap().url.ends_with("/added/"));
    }
    assert_eq!(value(&shop.client, "SELECT count(*) FROM added").await, "502");
    // What reads a table may add to it.
    assert_eq!(count(&shop.client, "INSERT INTO added SELECT * FROM added").await, 502);
    assert_eq!(count(&shop.client, "INSERT INTO added SELECT id, note FROM orders WHERE id < 0").await, 0);
    assert_eq!(value(&shop.client, "SELECT count(*) FROM added").await, "1004");
    swept(&folder).await;
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_made_of_a_query() {
    let shop = shop().await;
    let create = "CREATE TABLE big AS SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer";
    assert_eq!(count(&shop.client, create).await, 120);
    shop.same(
        "SELECT customer, n, total FROM big ORDER BY customer",
        "SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer ORDER BY customer",
    )
    .await;
    let error = failure(&shop.client, create).await;
    assert!(error.to_string().contains("'public.big' already exists"), "{error}");
    run(&shop.client, "CREATE TABLE IF NOT EXISTS big AS SELECT 1 AS one").await;
    assert_eq!(count(&shop.client, "INSERT INTO big SELECT * FROM big WHERE n > 83").await, 40);
    run(&shop.client, "DROP TABLE big").await;
    assert_eq!(count(&shop.client, "CREATE TABLE big AS SELECT 1 AS one").await, 1);
    assert_eq!(value(&shop.client, "SELECT one FROM big").await, "1");
    assert_eq!(count(&shop.client, "CREATE TABLE none AS SELECT id FROM orders WHERE id < 0").await, 0);
    assert_eq!(value(&shop.client, "SELECT count(id) FROM none").await, "0");
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_leaves_nothing() {
    let shop = shop().await;
    let folder = shop.path("failed");
    // Others have written by then.
    let copy = format!(
        "COPY (SELECT id, 1 / (id - 9999) AS x FROM orders) TO '{}/' STORED AS PARQUET",
        folder.display()
    );
    let error = failure(&shop.client, &copy).await;
    assert!(error.to_string().contains("ivide by zero"), "{error}");
    swept(&folder).await;
    assert_eq!(files(&folder), Vec::<String>::new());
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_cancelled_leaves_nothing() {
    let shop = shop().await;
    let folder = shop.path("cancelled");
    let copy = format!(
        "COPY (SELECT a.id, b.id AS other FROM orders a, orders b, orders c) TO '{}/' STORED AS CSV",
        folder.display()
    );
    let Answer::Job(job) = shop.client.submit(copy, SubmitOptions::default()).await.unwrap() else {
        panic!()
    };
    let start = Instant::now();
    while !folder.join(".polybolos-staging").exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "nothing is staged");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    job.cancel("enough").await.unwrap();
    let error = job.stream().try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(error, ClientError::Cancelled { .. }), "{error}");
    swept(&folder).await;
    // What it wrote when it was told to stop is gone as well.
    tokio::time::sleep(Duration::from_millis(500)).await;
    swept(&folder).await;
    assert_eq!(files(&folder), Vec::<String>::new());
    let detail = shop.client.job(job.id()).await.unwrap();
    assert_eq!(detail.summary.unwrap().state(), JobState::Cancelled);
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ends_at_once_leaves_nothing_staged() {
    let shop = shop().await;
    let folder = shop.path("quick");
    let copy = format!("COPY (SELECT * FROM orders) TO '{}/' STORED AS PARQUET", folder.display());
    assert_eq!(count(&shop.client, &copy).await, 10_000);
    shop.cluster.shutdown().await;
    assert!(!folder.join(".polybolos-staging").exists());
}
