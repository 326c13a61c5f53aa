//! Joins with what a stage broadcasts: one table for the tasks of an executor.

use std::{path::Path, time::Duration};

use datafusion::prelude::SessionContext;
use polybolos_model::Exchange;
use polybolos_planner::Extensions;
use polybolos_proto::v1::{
    ErrorClass, LaunchTasks, PrepareStage, ReleaseJob, TaskReport, scheduler_message::Message,
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    fake::Session,
    rig::{Query, Rig, TERM, attempt, completed, failed, locations},
};

const FACTS: u64 = 4_000;
const ITEMS: u64 = 100;

/// In two files each, so that two tasks read them.
async fn tables(folder: &Path) {
    let ctx = SessionContext::new();
    for (table, rows, columns) in
        [("facts", FACTS, "value AS v, value % 50 AS k"), ("items", ITEMS, "value AS i, value * 2 AS w")]
    {
        for (part, first, last) in [("a", 1, rows / 2), ("b", rows / 2 + 1, rows)] {
            let file = folder.join(format!("{table}/{part}.parquet"));
            let series = format!("generate_series({first}, {last})");
            let sql = format!("COPY (SELECT {columns} FROM {series}) TO '{}'", file.display());
            ctx.sql(&sql).await.unwrap().collect().await.unwrap();
        }
    }
}

/// A stage that broadcasts `items`, and one of two tasks that joins with it: 3,920 rows, for no item is 0.
async fn query(job: u64, folder: &TempDir) -> Query {
    tables(folder.path()).await;
    let table = |name: &str| {
        let place = folder.path().join(name);
        format!("CREATE EXTERNAL TABLE {name} STORED AS PARQUET LOCATION '{}/'", place.display())
    };
    let join = "SELECT v, w FROM facts JOIN items ON k = i";
    let sql = format!("{};{};{join}", table("facts"), table("items"));
    let query = Query::new(job, &sql, &Extensions::default()).await;
    let stages = &query.graph.stages;
    let tasks: Vec<_> = stages.iter().map(|stage| (stage.exchange, stage.tasks)).collect();
    assert_eq!(tasks, [(Exchange::Broadcast, 2), (Exchange::Result, 2)], "{}", query.graph);
    query
}

fn rows_in(reports: &[TaskReport]) -> u64 {
    reports.iter().map(|report| completed(report).metrics.as_ref().unwrap().rows_in).sum()
}

fn rows_out(reports: &[TaskReport]) -> u64 {
    reports.iter().flat_map(|report| &completed(report).outputs).map(|output| output.rows).sum()
}

async fn is_empty(session: &mut Session) {
    let empty = async { while session.heartbeat().await.memory_used_bytes > 0 {} };
    timeout(Duration::from_secs(15), empty).await.expect("nobody needs the table any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tasks_read_the_broadcast_once_and_their_table_goes_when_nobody_comes_for_it() {
    let (rig, folder) = (Rig::start().await, tempfile::tempdir().unwrap());
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let query = query(1, &folder).await;
    let reports = query.run(&mut session, &rig.executor.address()).await;
    assert_eq!(rows_out(&reports), FACTS - FACTS / 50);
    assert_eq!(rows_in(&reports), FACTS + ITEMS);
    // The job is not released.
    is_empty(&mut session).await;
    rig.executor.shutdown().await;
}

/// Two tasks, one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_finds_the_table_of_the_one_before_it_and_none_is_left_of_a_released_job() {
    let (rig, folder) = (Rig::start().await, tempfile::tempdir().unwrap());
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let query = query(1, &folder).await;
    let items = run(&query, 0, &mut session, query.prepare(0, vec![])).await;
    let input = locations(query.graph.stages[1].inputs[0], &[items], &rig.executor.address());
    session.send(TERM, Message::Prepare(query.prepare(1, vec![input]))).await;
    let mut reports = vec![];
    for task in 0..2 {
        session.send(TERM, Message::Launch(query.launch(1, &[(task, attempt(10 + u64::from(task)))]))).await;
        reports.push(session.report().await);
    }
    assert_eq!((rows_in(&reports), rows_out(&reports)), (FACTS + ITEMS, FACTS - FACTS / 50));
    session.commit(TERM, reports.iter().map(|report| report.sequence).collect()).await;
    session.send(TERM, Message::Release(ReleaseJob { job_id: query.job.to_string() })).await;
    is_empty(&mut session).await;
    rig.executor.shutdown().await;
}

/// Runs all tasks of a stage.
async fn run(query: &Query, stage: usize, session: &mut Session, prepare: PrepareStage) -> Vec<TaskReport> {
    let epoch = prepare.epoch;
    session.send(TERM, Message::Prepare(prepare)).await;
    let first = 10 * stage as u64 + 100 * u64::from(epoch);
    let tasks: Vec<_> =
        (0..query.graph.stages[stage].tasks).map(|task| (task, attempt(first + u64::from(task)))).collect();
    let launch = LaunchTasks { epoch, ..query.launch(stage, &tasks) };
    session.send(TERM, Message::Launch(launch)).await;
    let mut reports = vec![];
    while reports.len() < tasks.len() {
        reports.extend(session.reports().await);
    }
    session.commit(TERM, reports.iter().map(|report| report.sequence).collect()).await;
    reports.sort_by_key(|report| report.partition);
    reports
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_output_is_told_by_all_that_wait_for_it_and_the_next_epoch_has_its_own_table() {
    let (rig, folder) = (Rig::start().await, tempfile::tempdir().unwrap());
    let mut session = rig.scheduler.registered(TERM, 1).await;
    let query = query(1, &folder).await;
    let items = run(&query, 0, &mut session, query.prepare(0, vec![])).await;
    let found = locations(query.graph.stages[1].inputs[0], &[items], &rig.executor.address());
    let mut lost = found.clone();
    lost.maps[1].attempt = Some(attempt(77));
    for report in run(&query, 1, &mut session, query.prepare(1, vec![lost])).await {
        let failed = failed(&report);
        assert_eq!(failed.class(), ErrorClass::Retryable, "{failed:?}");
        let fetch = failed.fetch.as_ref().unwrap();
        assert_eq!((fetch.map_partition, fetch.attempt), (1, Some(attempt(77))));
    }
    let again = PrepareStage { epoch: 1, ..query.prepare(1, vec![found]) };
    let reports = run(&query, 1, &mut session, again).await;
    assert_eq!((rows_in(&reports), rows_out(&reports)), (FACTS + ITEMS, FACTS - FACTS / 50));
    rig.executor.shutdown().await;
}
