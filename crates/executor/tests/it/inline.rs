//! Rows that go along with the report of their task.

use arrow::{array::RecordBatch, ipc::reader::StreamReader, util::pretty::pretty_format_batches};
use polybolos_model::limits::MAX_INLINE_ROWS_BYTES;
use polybolos_planner::Extensions;
use polybolos_proto::v1::{PrepareStage, TaskReport, scheduler_message::Message};

use crate::{
    fake::Session,
    rig::{Query, Rig, TERM, attempt, completed},
};

/// Runs the only task of `sql`, of which the scheduler wants as many bytes of rows.
async fn report(session: &mut Session, job: u64, sql: &str, max_inline_bytes: usize) -> TaskReport {
    let query = Query::new(job, sql, &Extensions::default()).await;
    let max_inline_bytes = u32::try_from(max_inline_bytes).unwrap();
    let prepare = PrepareStage { max_inline_bytes, ..query.prepare(0, vec![]) };
    session.send(TERM, Message::Prepare(prepare)).await;
    session.send(TERM, Message::Launch(query.launch(0, &[(0, attempt(job))]))).await;
    session.report().await
}

fn text(stream: &[u8]) -> String {
    let batches: Result<Vec<RecordBatch>, _> = StreamReader::try_new(stream, None).unwrap().collect();
    pretty_format_batches(&batches.unwrap()).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn few_rows_go_along_with_their_report_once_and_stay_where_they_are() {
    let rig = Rig::start().await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let sql = "SELECT x * 2 AS y FROM (VALUES (1), (2), (3)) t(x) WHERE x > 1";
    let first = report(&mut session, 1, sql, MAX_INLINE_ROWS_BYTES).await;
    let rows = completed(&first).arrow_stream.clone().unwrap();
    assert!(rows.len() <= MAX_INLINE_ROWS_BYTES);
    let expected = "+---+\n| y |\n+---+\n| 4 |\n| 6 |\n+---+";
    assert_eq!(text(&rows), expected);
    let fetched = rig.fetch(&first, 0).await.unwrap();
    assert_eq!(pretty_format_batches(&fetched).unwrap().to_string(), expected);

    drop(session);
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let again = session.report().await;
    assert_eq!((again.sequence, again.attempt), (first.sequence, first.attempt));
    assert_eq!(completed(&again).arrow_stream, None);
    assert_eq!(completed(&again).outputs, completed(&first).outputs);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_no_rows_and_rows_that_nobody_wants_stay() {
    let rig = Rig::start().await;
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let series = |rows: u32| format!("SELECT value FROM generate_series(1, {rows})");
    let limit = MAX_INLINE_ROWS_BYTES;
    // A scheduler that wants more than is ever sent gets no more.
    let cases =
        [(1_000, limit, true), (1_000, 4 * limit, true), (5_000, 4 * limit, false), (1_000, 0, false)];
    for (job, (rows, max_inline_bytes, goes_along)) in (1..).zip(cases) {
        let report = report(&mut session, job, &series(rows), max_inline_bytes).await;
        assert_eq!(completed(&report).outputs[0].rows, u64::from(rows));
        assert_eq!(completed(&report).arrow_stream.is_some(), goes_along, "{rows} rows");
    }
    let none = report(&mut session, 10, "SELECT x FROM (VALUES (1)) t(x) WHERE x > 1", limit).await;
    assert_eq!((completed(&none).outputs[0].rows, &completed(&none).arrow_stream), (0, &None));
}
