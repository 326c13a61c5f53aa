//! A plain session that runs on a cluster.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use arrow::array::AsArray;
use datafusion::{
    common::{Result, tree_node::Transformed},
    datasource::MemTable,
    logical_expr::LogicalPlan,
    optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule},
    prelude::{SessionConfig, SessionContext, col, lit},
};
use futures::StreamExt;
use polybolos::{EmbeddedCluster, EmbeddedConfig, Extensions, distribute};
use polybolos_client::{ClientError, Consistency};

use crate::support::{cluster, column, oracle, orders, shop_files, text};

async fn collected(ctx: &SessionContext, sql: &str) -> String {
    let batches = ctx.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).collect().await;
    text(sql, &batches.unwrap_or_else(|error| panic!("{sql}: {error}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_with_files_answers_as_before() {
    let (cluster, folder) = (cluster().await, shop_files());
    let local = oracle(folder.path()).await;
    let remote = distribute(oracle(folder.path()).await, cluster.client(), Extensions::default());
    let queries = [
        "SELECT count(*) FROM orders",
        "SELECT region, sum(amount) AS s FROM orders JOIN customers ON customer = customers.id GROUP BY region ORDER BY s",
        "SELECT name FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer = c.id AND o.amount > 999)",
        "SELECT id FROM orders WHERE amount = (SELECT max(amount) FROM orders)",
        "SELECT id, lag(id) OVER (PARTITION BY customer ORDER BY id) AS l FROM orders ORDER BY id LIMIT 20",
        "SELECT upper(note), cast(amount AS int) FROM orders WHERE note LIKE '%9' ORDER BY id LIMIT 5",
        "SELECT 1 AS one, 'x' AS x",
        "VALUES (1, 'a'), (2, 'b')",
    ];
    for sql in queries {
        assert_eq!(collected(&remote, sql).await, collected(&local, sql).await, "{sql}");
    }
    let frame = remote.table("orders").await.unwrap().filter(col("id").lt(lit(25))).unwrap();
    assert_eq!(frame.clone().count().await.unwrap(), 25);
    let first = frame.sort(vec![col("id").sort(false, true)]).unwrap().limit(0, Some(1)).unwrap();
    assert_eq!(column(&first.collect().await.unwrap(), "id"), ["24"]);
    // They really ran there.
    assert!(cluster.client().jobs().await.unwrap().len() >= queries.len());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_in_memory_and_statements_about_the_session_work() {
    let (cluster, folder) = (cluster().await, shop_files());
    let config = SessionConfig::new().with_information_schema(true);
    let ctx = distribute(SessionContext::new_with_config(config), cluster.client(), Extensions::default());
    let batch = orders(0..300);
    let table =
        MemTable::try_new(batch.schema(), vec![vec![batch.slice(0, 100)], vec![batch.slice(100, 200)]]);
    ctx.register_table("m", Arc::new(table.unwrap())).unwrap();
    assert!(collected(&ctx, "SELECT sum(id) AS s FROM m").await.contains("44850"));

    let location = folder.path().join("orders").display().to_string();
    let create = format!("CREATE EXTERNAL TABLE o STORED AS PARQUET LOCATION '{location}/'");
    collected(&ctx, &create).await;
    collected(&ctx, "CREATE VIEW v AS SELECT id FROM o WHERE id < 7").await;
    assert!(collected(&ctx, "SELECT count(*) FROM v JOIN m USING (id)").await.contains("| 7 "));
    collected(&ctx, "CREATE TABLE copy AS SELECT id, note FROM o WHERE id < 50").await;
    assert!(collected(&ctx, "SELECT count(*) FROM copy").await.contains("| 50 "));
    collected(&ctx, "INSERT INTO copy SELECT id, note FROM o WHERE id < 5").await;
    collected(&ctx, "INSERT INTO copy VALUES (1, 'x')").await;
    assert!(collected(&ctx, "SELECT count(*) FROM copy").await.contains("| 56 "));
    let out = folder.path().join("out.parquet").display().to_string();
    collected(&ctx, &format!("COPY (SELECT * FROM o WHERE id < 40) TO '{out}' STORED AS PARQUET")).await;
    let written = SessionContext::new().read_parquet(out, Default::default()).await.unwrap();
    assert_eq!(written.count().await.unwrap(), 40);
    let names = ctx.sql("SHOW TABLES").await.unwrap().collect().await.unwrap();
    assert!(column(&names, "table_name").contains(&"copy".to_owned()));
    collected(&ctx, "SET datafusion.execution.batch_size = 10").await;
    let batches = ctx.sql("SELECT id FROM o WHERE id < 100").await.unwrap().collect().await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 100);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_the_cluster_go_along_with_the_queries_of_a_session() {
    let (cluster, folder) = (cluster().await, shop_files());
    let config = SessionConfig::new().with_information_schema(true);
    let ctx = SessionContext::new_with_config(config);
    let ctx = distribute(ctx, cluster.client(), Extensions::default());
    let error = ctx.sql("SET polybolos.max_task_attempts = 17").await.unwrap_err().to_string();
    assert!(error.contains("a number from 1 to 16"), "{error}");
    collected(&ctx, "SET polybolos.max_task_attempts = 7").await;
    assert!(collected(&ctx, "SHOW polybolos.max_task_attempts").await.contains("| 7 "));
    let location = folder.path().join("orders").display().to_string();
    collected(&ctx, &format!("CREATE EXTERNAL TABLE o STORED AS PARQUET LOCATION '{location}/'")).await;
    assert!(collected(&ctx, "SELECT count(*) AS n FROM o").await.contains("10000"));
    let client = cluster.client();
    let job = client.jobs().await.unwrap().remove(0).job_id.parse().unwrap();
    let recorded =
        String::from_utf8(client.export_job(job, Consistency::default()).await.unwrap().to_vec()).unwrap();
    assert!(recorded.contains("\"polybolos.max_task_attempts\": \"7\""), "{recorded}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_travel_and_what_fails_is_told() {
    let (cluster, folder) = (cluster().await, shop_files());
    let ctx = distribute(oracle(folder.path()).await, cluster.client(), Extensions::default());
    let error = ctx.sql("SELECT * FROM generate_series(1, 3)").await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("can't be sent to the cluster"), "{error}");

    let error = ctx.sql("SELECT 10 / (id - 7) FROM orders").await.unwrap().collect().await.unwrap_err();
    let datafusion::error::DataFusionError::External(cause) = error.find_root() else { panic!("{error:?}") };
    let Some(ClientError::JobFailed { error, .. }) = cause.downcast_ref() else { panic!("{cause:?}") };
    assert!(error.message.contains("ivide by zero"), "{error}");

    let mut stream =
        ctx.sql("SELECT a.id FROM orders a, orders b").await.unwrap().execute_stream().await.unwrap();
    assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
    drop(stream);
    cluster.client().settle().await;
    let jobs = cluster.client().jobs().await.unwrap();
    assert!(jobs.iter().all(|job| job.ended_at_ms > 0), "a result that is left ends its query: {jobs:?}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_of_a_session_shows_the_stages() {
    let (cluster, folder) = (cluster().await, shop_files());
    let ctx = distribute(oracle(folder.path()).await, cluster.client(), Extensions::default());
    let plans = collected(&ctx, "EXPLAIN SELECT customer, count(*) FROM orders GROUP BY customer").await;
    assert!(plans.contains("stage_graph") && plans.contains("Stage 0"), "{plans}");
    let plans =
        collected(&ctx, "EXPLAIN ANALYZE SELECT customer, count(*) FROM orders GROUP BY customer").await;
    assert!(plans.contains("output_rows=10000"), "{plans}");
    // What is written is written here, and so it is told.
    let out = folder.path().join("out.csv").display().to_string();
    let plans = collected(&ctx, &format!("EXPLAIN COPY (SELECT id FROM orders) TO '{out}'")).await;
    assert!(plans.contains("DataSinkExec") && plans.contains("RemoteQueryExec"), "{plans}");
    assert!(!std::path::Path::new(&out).exists());
    cluster.shutdown().await;
}

/// Counts how often the scheduler's optimiser meets a plan.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl OptimizerRule for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        None
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Transformed::no(plan))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_an_extension_run_on_the_nodes() {
    let rule = Arc::new(Counting::default());
    let extensions = Extensions { optimizer_rules: vec![Arc::clone(&rule) as _], ..Default::default() };
    let cluster = EmbeddedCluster::start(EmbeddedConfig::default(), extensions).await.unwrap();
    let result = cluster.client().query("SELECT 1 + 1 AS two").await.unwrap();
    assert_eq!(result.batches[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), 2);
    assert!(rule.0.load(Ordering::SeqCst) > 0);
    cluster.shutdown().await;
}
