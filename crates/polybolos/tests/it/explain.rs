//! `EXPLAIN` and `EXPLAIN ANALYZE` through the cluster.

use arrow::{array::RecordBatch, util::pretty::pretty_format_batches};

use crate::support::{column, shop};

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
