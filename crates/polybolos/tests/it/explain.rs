//! `EXPLAIN` and `EXPLAIN ANALYZE` through the cluster.

use arrow::{array::RecordBatch, util::pretty::pretty_format_batches};

use polybolos::{EmbeddedCluster, EmbeddedConfig, Extensions};
use polybolos_client::SubmitOptions;

use crate::support::{column, oracle, shop, shop_in, text};

const QUERY: &str =
    "SELECT region, count(*) FROM orders JOIN customers ON customer = customers.id GROUP BY region";

fn shown(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_shows_plans_and_stages() {
    let shop = shop().await;
    let result = shop.client.query(format!("EXPLAIN {QUERY}")).await.unwrap();
    assert_eq!(column(&result.batches, "plan_type"), ["logical_plan", "physical_plan", "stage_graph"]);
    let text = shown(&result.batches);
    for part in ["Aggregate: groupBy", "HashJoinExec", "Stage 0"] {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
    assert!(shop.client.jobs().await.unwrap().is_empty(), "an EXPLAIN is no job");
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_analyze_shows_merged_metrics() {
    let shop = shop().await;
    let result = shop.client.query(format!("EXPLAIN ANALYZE {QUERY}")).await.unwrap();
    let text = shown(&result.batches);
    for part in ["logical_plan", "physical_plan", "Stage 0", "output_rows=10000", "HashJoinExec"] {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
    shop.client.settle().await;
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_of_a_write_shows_its_files_and_writes_none() {
    let shop = shop().await;
    let out = shop.folder.path().join("out").display().to_string();
    let sql = format!("EXPLAIN COPY ({QUERY}) TO '{out}/' STORED AS PARQUET PARTITIONED BY (region)");
    let result = shop.client.query(sql).await.unwrap();
    let kinds = column(&result.batches, "plan_type");
    assert_eq!(kinds, ["files", "logical_plan", "physical_plan", "stage_graph"], "sorted");
    let text = shown(&result.batches);
    for part in ["WriteExec", "staged below file:///", "region=VALUE/JOB-PARTITION-NUMBER.parquet"] {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
    assert!(shop.client.jobs().await.unwrap().is_empty() && !std::path::Path::new(&out).exists());
    shop.cluster.shutdown().await;
}

/// Four tasks on one executor join with what a stage broadcasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tasks_of_an_executor_read_a_broadcast_once() {
    let config = EmbeddedConfig { executors: 1, slots: 4, ..EmbeddedConfig::default() };
    let shop = shop_in(EmbeddedCluster::start(config, Extensions::default()).await.unwrap()).await;
    let sql = "SELECT a.id, b.id FROM orders a JOIN (SELECT id FROM orders WHERE id % 50 = 0) b ON a.customer = b.id";
    let mut options = SubmitOptions::default();
    for (key, value) in [
        ("datafusion.execution.target_partitions", "4"),
        // However small the files are, and each read to its end.
        ("datafusion.optimizer.hash_join_single_partition_threshold", "1000000000"),
        ("polybolos.runtime_filters", "false"),
    ] {
        options.options.insert(key.to_owned(), value.to_owned());
    }
    let expected = oracle(shop.folder.path()).await.sql(sql).await.unwrap().collect().await.unwrap();
    let found = shop.client.query_with(sql, options.clone()).await.unwrap();
    assert_eq!(text(sql, &found.batches), text(sql, &expected));
    let analyzed = shop.client.query_with(format!("EXPLAIN ANALYZE {sql}"), options).await.unwrap();
    let shown = shown(&analyzed.batches);
    let measured = |operator: &str| {
        let line = shown.lines().find(|line| line.contains(operator) && line.contains("metrics="));
        line.unwrap_or_else(|| panic!("no {operator} ran\n{shown}")).to_owned()
    };
    // Each of the four tasks would have read its own 200.
    let (read, joined) = (measured("StageInputExec"), measured("HashJoinExec"));
    assert!(read.contains("read=all") && read.contains("output_rows=200"), "{shown}");
    assert!(joined.contains("build_input_rows=200") && joined.contains("build_mem_shared="), "{shown}");
    shop.client.settle().await;
    shop.cluster.shutdown().await;
}
