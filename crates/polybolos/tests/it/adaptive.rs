//! Tasks that divide their inputs among them by measured sizes.

use arrow::util::pretty::pretty_format_batches;
use polybolos_client::{Client, SubmitOptions};

use crate::support::{Shop, shop, text};

/// Four fifths of the orders have one key.
const SKEWED: &str = "SELECT name, count(*) AS n, sum(amount) AS s FROM \
    (SELECT amount, CASE WHEN id % 5 < 4 THEN 1 ELSE customer END AS k FROM orders) AS o \
    JOIN customers AS c ON o.k = c.id GROUP BY name";

const GROUPED: &str = "SELECT customer, count(*) AS n, sum(amount) AS s FROM orders GROUP BY customer";

/// Joins by partitions, in as many of them.
fn options(partitions: &str, ours: &[(&str, &str)]) -> SubmitOptions {
    let theirs = [
        ("datafusion.execution.target_partitions", partitions),
        ("datafusion.optimizer.hash_join_single_partition_threshold", "0"),
        ("datafusion.optimizer.hash_join_single_partition_threshold_rows", "0"),
    ];
    let all = theirs.iter().chain(ours).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    SubmitOptions { options: all.collect(), ..SubmitOptions::default() }
}

/// Plans are adapted once the cluster has raised its version, just after its start.
async fn adaptive_shop() -> Shop {
    let shop = shop().await;
    for _ in 0..1_000 {
        if analyzed(&shop.client, GROUPED, options("4", &[])).await.contains("coalesced") {
            return shop;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("nothing is ever adapted");
}

async fn answer(client: &Client, sql: &str, options: SubmitOptions) -> String {
    text(sql, &client.query_with(sql, options).await.unwrap().batches)
}

async fn analyzed(client: &Client, sql: &str, options: SubmitOptions) -> String {
    let result = client.query_with(format!("EXPLAIN ANALYZE {sql}"), options).await.unwrap();
    pretty_format_batches(&result.batches).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_partitions_are_read_by_few_tasks() {
    let shop = adaptive_shop().await;
    let off = options("40", &[("polybolos.adaptive", "false")]);
    let shown = analyzed(&shop.client, GROUPED, options("40", &[])).await;
    assert!(shown.contains("40 partitions read by 1 task: 40 coalesced"), "{shown}");
    let planned = analyzed(&shop.client, GROUPED, off.clone()).await;
    assert!(!planned.contains("coalesced") && planned.contains("tasks=40/40"), "{planned}");
    let expected = answer(&shop.client, GROUPED, off).await;
    assert_eq!(answer(&shop.client, GROUPED, options("40", &[])).await, expected);
    // A target between one partition and all.
    let some = options("40", &[("polybolos.coalesce_partition_bytes", "2000")]);
    let shown = analyzed(&shop.client, GROUPED, some.clone()).await;
    assert!(shown.contains("40 partitions read by ") && !shown.contains("by 1 task"), "{shown}");
    assert_eq!(answer(&shop.client, GROUPED, some).await, expected);
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_skewed_partition_of_a_join_is_read_by_several_tasks() {
    let shop = adaptive_shop().await;
    let split = [
        ("polybolos.coalesce_partition_bytes", "1000"),
        ("polybolos.skew_partition_bytes", "1000"),
        ("polybolos.skew_partition_factor", "2"),
    ];
    let shown = analyzed(&shop.client, SKEWED, options("4", &split)).await;
    assert!(shown.contains("split for skew"), "{shown}");
    let expected = answer(&shop.client, SKEWED, options("4", &[("polybolos.adaptive", "false")])).await;
    assert_eq!(answer(&shop.client, SKEWED, options("4", &split)).await, expected);
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_written_table_is_whole() {
    let shop = adaptive_shop().await;
    let out = shop.folder.path().join("out").display().to_string();
    let copy = format!("COPY ({GROUPED}) TO '{out}/' STORED AS PARQUET");
    shop.client
        .query_with(copy, options("12", &[("polybolos.coalesce_partition_bytes", "2000")]))
        .await
        .unwrap();
    let create = format!("CREATE EXTERNAL TABLE written STORED AS PARQUET LOCATION '{out}/'");
    shop.client.query(create).await.unwrap();
    let written = answer(&shop.client, "SELECT * FROM written", options("4", &[])).await;
    assert_eq!(
        written,
        answer(&shop.client, GROUPED, options("4", &[("polybolos.adaptive", "false")])).await
    );
    shop.cluster.shutdown().await;
}
