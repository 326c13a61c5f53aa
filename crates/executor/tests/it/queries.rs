//! Tasks: results, metrics, failures, cancellation.

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch},
    datatypes::{DataType, Int64Type},
    util::pretty::pretty_format_batches,
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, Volatility, create_udf},
};
use polybolos_planner::Extensions;
use polybolos_proto::v1::{CancelTasks, DeleteOutputs, ErrorClass, ReleaseJob, scheduler_message::Message};
use tokio::time::timeout;

use crate::rig::{Query, Rig, TERM, attempt, completed, failed};

fn text(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}

async fn run(sql: &str) -> (Rig, crate::fake::Session, Vec<polybolos_proto::v1::TaskReport>) {
    let rig = Rig::start().await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let query = Query::new(1, sql, &Extensions::default()).await;
    let reports = query.run(&mut session, &rig.executor.address()).await;
    (rig, session, reports)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_query_completes_and_its_output_is_read_until_it_is_released() {
    let (rig, session, reports) = run("SELECT x * 2 AS y FROM (VALUES (1), (2), (3)) t(x) WHERE x > 1").await;
    let [report] = &reports[..] else { panic!("{reports:?}") };
    let done = completed(report);
    assert_eq!(done.outputs.len(), 1);
    assert_eq!(done.outputs[0].rows, 2);
    let metrics = done.metrics.as_ref().unwrap();
    assert_eq!((metrics.rows_out, metrics.bytes_out), (2, done.outputs[0].bytes));
    assert!(!metrics.operators.is_empty() && metrics.elapsed_us > 0, "{metrics:?}");
    let rows = text(&rig.fetch(report, 0).await.unwrap());
    assert_eq!(rows, "+---+\n| y |\n+---+\n| 4 |\n| 6 |\n+---+");

    session.send(TERM, Message::Release(ReleaseJob { job_id: report.job_id.clone() })).await;
    timeout(Duration::from_secs(5), async { while rig.fetch(report, 0).await.is_ok() {} }).await.unwrap();
    rig.executor.shutdown().await;
    assert!(rig.env.disk.list(rig.work_dir.path()).await.unwrap().is_empty(), "the work folder is empty");
}

/// DataFusion's hash join keeps one side in memory, or fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_does_not_fit_into_memory_goes_to_disk() {
    let rig = Rig::start_with_memory(64 * 1024 * 1024).await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let sql = "SELECT count(*) AS n, sum(y) AS s FROM generate_series(1, 3000000) a(x)
               JOIN generate_series(2, 3000001) b(y) ON x = y";
    let query = Query::new(1, sql, &Extensions::default()).await;
    let reports = query.run(&mut session, &rig.executor.address()).await;
    let rows = text(&rig.fetch(&reports[0], 0).await.unwrap());
    assert!(rows.contains("| 2999999 | 4500001499999 |"), "{rows}");
}

/// DataFusion's nested loop join goes to disk, but not of every type rightly.
#[tokio::test(flavor = "multi_thread")]
async fn a_nested_loop_join_that_does_not_fit_into_memory_gives_all_rows_or_none() {
    let rig = Rig::start_with_memory(16 * 1024 * 1024).await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let sql = |join| {
        format!(
            "SELECT count(*) AS n, count(x) AS a, count(y) AS b FROM generate_series(1, 3000000) a(x)
             {join} JOIN generate_series(0, 7) b(y) ON x <= y"
        )
    };
    // 28 pairs, and one row on the right without a match. The last in parts, the other with its sides swapped.
    let rows = [("RIGHT", "| 29 | 28 | 29 |"), ("LEFT", "| 3000021 | 3000021 | 28 |")];
    for (job, (join, expected)) in (1..).zip(rows) {
        let query = Query::new(job, &sql(join), &Extensions::default()).await;
        let reports = query.run(&mut session, &rig.executor.address()).await;
        let rows = text(&rig.fetch(&reports[0], 0).await.unwrap());
        assert!(rows.contains(expected), "{join}\n{rows}");
    }
    let query = Query::new(3, &sql("FULL"), &Extensions::default()).await;
    let reports = query.run(&mut session, &rig.executor.address()).await;
    assert_eq!(failed(&reports[0]).class(), ErrorClass::Resources, "{reports:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_over_parquet_pass_rows_on_and_count_them() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("t");
    let ctx = datafusion::prelude::SessionContext::new();
    for (part, range) in [("a", "1, 500"), ("b", "501, 1000")] {
        let file = table.join(format!("{part}.parquet"));
        let sql = format!(
            "COPY (SELECT value AS v, value % 7 AS k FROM generate_series({range})) TO '{}'",
            file.display()
        );
        ctx.sql(&sql).await.unwrap().collect().await.unwrap();
    }
    let sql = format!(
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{}';
         SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k ORDER BY k",
        table.display()
    );
    let (rig, session, reports) = run(&sql).await;
    assert_eq!(reports.len(), 1);
    let expected = ctx.sql("SELECT value % 7 AS k, count(*) AS n, sum(value) AS s FROM generate_series(1, 1000) GROUP BY k ORDER BY k");
    let expected = expected.await.unwrap().collect().await.unwrap();
    assert_eq!(text(&rig.fetch(&reports[0], 0).await.unwrap()), text(&expected));
    let metrics = completed(&reports[0]).metrics.as_ref().unwrap();
    assert!(metrics.rows_in > 0 && metrics.rows_out == 7, "{metrics:?}");

    let delete = DeleteOutputs { attempts: vec![reports[0].attempt.unwrap()] };
    session.send(TERM, Message::DeleteOutputs(delete)).await;
    timeout(Duration::from_secs(5), async { while rig.fetch(&reports[0], 0).await.is_ok() {} })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_endless_task_frees_its_slot_and_memory_within_a_second_and_reports_nothing() {
    let rig = Rig::start().await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let endless =
        "SELECT count(*) AS n FROM generate_series(1, 100000000) a(x), generate_series(1, 100000000) b(y)
                   WHERE (x * y) % 1000003 = 17";
    let query = Query::new(1, endless, &Extensions::default()).await;
    query.send_first(&session, attempt(1)).await;
    rig.wait(|status| status.busy_slots == 1).await;
    while session.heartbeat().await.memory_used_bytes == 0 {}

    session.send(TERM, Message::Cancel(CancelTasks { attempts: vec![attempt(1)] })).await;
    timeout(Duration::from_secs(1), rig.wait(|status| status.busy_slots == 0))
        .await
        .expect("freed in a second");
    let mut beat = session.heartbeat().await;
    while beat.running_tasks > 0 || beat.memory_used_bytes > 0 {
        // A report would make this panic.
        beat = session.heartbeat().await;
    }
    let next = Query::new(2, "SELECT 1", &Extensions::default()).await;
    next.send_first(&session, attempt(2)).await;
    assert_eq!(session.report().await.attempt, Some(attempt(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_job_stops_and_a_shutdown_stops_what_runs() {
    let rig = Rig::start().await;
    let session = rig.scheduler.registered(TERM, 1).await;
    let endless = "SELECT max(x) AS n FROM generate_series(1, 1000000000000) a(x)";
    let query = Query::new(1, endless, &Extensions::default()).await;
    query.send_first(&session, attempt(1)).await;
    rig.wait(|status| status.busy_slots == 1).await;
    session.send(TERM, Message::Release(ReleaseJob { job_id: query.job.to_string() })).await;
    timeout(Duration::from_secs(1), rig.wait(|status| status.busy_slots == 0))
        .await
        .expect("freed in a second");

    query.send_first(&session, attempt(2)).await;
    rig.wait(|status| status.busy_slots == 1).await;
    timeout(Duration::from_secs(3), rig.executor.shutdown()).await.expect("stopped in time");
    assert!(rig.env.disk.list(rig.work_dir.path()).await.unwrap().is_empty(), "the work folder is empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_division_by_zero_is_the_users_error() {
    let (_rig, _session, reports) = run("SELECT 10 / (x - 2) AS y FROM generate_series(1, 3) t(x)").await;
    let failed = failed(&reports[0]);
    assert_eq!(failed.class(), ErrorClass::User);
    assert!(failed.message.to_lowercase().contains("divide by zero"), "{failed:?}");
}

fn panicking() -> Extensions {
    let body = |_: &[ColumnarValue]| -> Result<ColumnarValue> { panic!("the function went mad") };
    let udf = create_udf("mad", vec![DataType::Int64], DataType::Int64, Volatility::Volatile, Arc::new(body));
    Extensions { scalar_udfs: vec![Arc::new(udf)], ..Extensions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_task_and_nothing_else() {
    let rig = Rig::start_with(panicking()).await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let query = Query::new(1, "SELECT mad(x) AS y FROM generate_series(1, 3) t(x)", &panicking()).await;
    let reports = query.run(&mut session, &rig.executor.address()).await;
    let failed = failed(&reports[0]);
    assert_eq!(failed.class(), ErrorClass::Internal);
    assert!(failed.message.contains("the function went mad"), "{failed:?}");
    let next = Query::new(2, "SELECT 1 AS one", &Extensions::default()).await;
    completed(&next.run(&mut session, &rig.executor.address()).await[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_plan_and_options_that_are_none_fail_their_tasks() {
    let rig = Rig::start().await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let mut query = Query::new(1, "SELECT 1", &Extensions::default()).await;
    query.graph.stages[0].plan = b"this is no plan".to_vec();
    query.send_first(&session, attempt(1)).await;
    let report = session.report().await;
    assert_eq!(failed(&report).class(), ErrorClass::Internal, "{report:?}");

    let query =
        Query::new(2, "SELECT 1", &Extensions::default()).await.option("datafusion.execution.colour", "red");
    query.send_first(&session, attempt(2)).await;
    let report = session.report().await;
    assert_eq!(failed(&report).class(), ErrorClass::User, "{report:?}");
    assert!(failed(&report).message.contains("colour"), "{report:?}");

    session.send(TERM, Message::Launch(query.launch(7, &[(0, attempt(3))]))).await;
    let report = session.report().await;
    assert_eq!(failed(&report).class(), ErrorClass::Retryable, "{report:?}");
    assert!(failed(&report).message.contains("not prepared"), "{report:?}");
}

/// A function whose value is the number of rows of the batch that it is called with.
fn batch_rows() -> Extensions {
    let body = |args: &[ColumnarValue]| -> Result<ColumnarValue> {
        let rows = match &args[0] {
            ColumnarValue::Array(array) => array.len(),
            ColumnarValue::Scalar(_) => 1,
        };
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from(vec![rows as i64; rows])) as ArrayRef))
    };
    let udf = create_udf(
        "batch_rows",
        vec![DataType::Int64],
        DataType::Int64,
        Volatility::Volatile,
        Arc::new(body),
    );
    Extensions { scalar_udfs: vec![Arc::new(udf)], ..Extensions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_reach_the_task() {
    let rig = Rig::start_with(batch_rows()).await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let query = Query::new(
        1,
        "SELECT max(batch_rows(k)) AS n FROM (SELECT x AS k FROM generate_series(1, 100) t(x) GROUP BY x)",
        &batch_rows(),
    )
    .await;
    let query = query.option("datafusion.execution.batch_size", "10");
    let reports = query.run(&mut session, &rig.executor.address()).await;
    let rows = rig.fetch(&reports[0], 0).await.unwrap();
    let largest = rows[0].column(0).as_primitive::<Int64Type>().value(0);
    // By default a batch would hold all the groups of a task: some 50.
    assert!((1..=10).contains(&largest), "{largest}");
}
