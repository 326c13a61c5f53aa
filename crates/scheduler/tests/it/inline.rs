//! Rows of small results that come with the reports of their tasks.

use std::collections::BTreeMap;

use polybolos_model::limits::MAX_INLINE_ROWS_BYTES;
use polybolos_proto::v1::{
    AttemptId, ErrorClass, JobState, JobUpdate, LaunchTasks, ReleaseRequest, TaskLaunch,
};

use crate::{
    executor::FakeExecutor,
    harness::{self, Harness},
    reopen::{follow, reader},
    script::Cluster,
};

/// A job of one task that is launched on `e1`.
async fn launched(harness: &mut Harness) -> (String, FakeExecutor, LaunchTasks) {
    let mut executor = FakeExecutor::attach(harness, "e1", 1).await;
    let job = harness.job("SELECT 1").await.job_id;
    let launch = executor.launch().await;
    (job, executor, launch)
}

/// What is told at the end to one who reads the result.
async fn read(harness: &mut Harness, job: &str) -> JobUpdate {
    harness::last(&mut follow(harness, reader(job)).await).await
}

fn rows(update: &JobUpdate) -> Option<&[u8]> {
    update.results[0].arrow_stream.as_deref()
}

#[tokio::test]
async fn whoever_reads_is_given_the_rows_until_they_are_given_back() {
    let mut harness = Harness::start().await;
    let (job, mut executor, launch) = launched(&mut harness).await;
    executor.complete_with_rows(&launch, 0, b"rows").await;
    let seen = harness::last(&mut harness.watch(&job).await).await;
    assert_eq!((seen.state(), rows(&seen)), (JobState::Succeeded, None), "it only looks");
    for _ in 0..2 {
        assert_eq!(rows(&read(&mut harness, &job).await), Some(&b"rows"[..]));
    }
    harness.query.release(ReleaseRequest { job_id: job.clone() }).await.unwrap();
    // Its report comes once more, as one that was on its way.
    executor.complete_with_rows(&launch, 0, b"rows").await;
    while !executor.committed().await.contains(&2) {}
    let given_back = read(&mut harness, &job).await;
    assert!(
        given_back.error.is_some() && given_back.results.iter().all(|place| place.arrow_stream.is_none())
    );
    harness.stop().await;
}

#[tokio::test]
async fn rows_of_an_attempt_that_has_lost_are_never_given() {
    let mut harness = Harness::start().await;
    let (job, mut executor, launch) = launched(&mut harness).await;
    executor.complete(&launch, 0, 3).await;
    let loser = AttemptId { term: 1, counter: 1_000 };
    let task = TaskLaunch { attempt: Some(loser), ..launch.tasks[0] };
    let late = LaunchTasks { tasks: vec![task], ..launch.clone() };
    executor.complete_with_rows(&late, 0, b"late").await;
    while !executor.committed().await.contains(&2) {}
    assert_eq!(executor.deleted, [loser]);
    let last = read(&mut harness, &job).await;
    assert_eq!((last.results[0].rows, rows(&last)), (3, None));
    harness.stop().await;
}

#[tokio::test]
async fn more_than_an_executor_may_send_is_not_kept() {
    let mut harness = Harness::start().await;
    let (job, mut executor, launch) = launched(&mut harness).await;
    executor.complete_with_rows(&launch, 0, &vec![7; MAX_INLINE_ROWS_BYTES + 1]).await;
    assert_eq!(rows(&read(&mut harness, &job).await), None);
    harness.stop().await;
}

#[tokio::test]
async fn one_watch_tells_the_rows_of_each_partition_once() {
    let mut harness = Harness::start().await;
    let table = harness.partitioned_table("t", 2).await;
    let job = harness.session_job(&format!("SELECT a FROM {table}")).await.job_id;
    let mut executor = FakeExecutor::attach(&harness, "e1", 1).await;
    let mut watch = follow(&mut harness, reader(&job)).await;
    let (mut told, mut updates) = (BTreeMap::<u32, u32>::new(), 0);
    let mut take = |update: &JobUpdate| {
        for place in update.results.iter().filter(|place| place.arrow_stream.is_some()) {
            *told.entry(place.partition).or_default() += 1;
        }
        updates += u32::from(!update.results.is_empty());
        update.results.len()
    };
    for partitions in 1..=2 {
        let launch = executor.launch().await;
        executor.complete_with_rows(&launch, 0, b"rows").await;
        while take(&watch.message().await.unwrap().unwrap()) < partitions {}
    }
    assert!(updates >= 2, "one after each partition: {updates}");
    assert_eq!(told, BTreeMap::from([(0, 1), (1, 1)]));
    harness.stop().await;
}

#[tokio::test]
async fn only_tasks_that_make_a_result_for_a_client_are_asked_for_rows() {
    let mut harness = Harness::start().await;
    let table = harness.partitioned_table("t", 2).await;
    let mut executor = FakeExecutor::attach(&harness, "e1", 1).await;
    let limit = u32::try_from(MAX_INLINE_ROWS_BYTES).unwrap();
    let statements = [
        ("SELECT 1".to_owned(), limit),
        (format!("SELECT a, count(*) FROM {table} GROUP BY a"), 0),
        ("EXPLAIN ANALYZE SELECT 1".to_owned(), 0),
    ];
    for (statement, asked) in statements {
        let job = harness.session_job(&statement).await.job_id;
        let launch = executor.launch().await;
        assert_eq!((&launch.job_id, launch.stage_id), (&job, 0), "its first stage");
        assert_eq!(executor.prepared[&(job.clone(), 0)].max_inline_bytes, asked, "{statement}");
        executor.fail(&launch, 0, ErrorClass::User, "enough", None).await;
    }
    harness.stop().await;
}

#[tokio::test]
async fn the_next_leader_has_no_rows_and_says_where_they_are() {
    let mut cluster = Cluster::start(2).await;
    cluster.lead(0, 1);
    let mut executor = FakeExecutor::attach(&cluster.replicas[0], "e1", 1).await;
    let job = harness::job_of(&mut cluster.replicas[0].query, "SELECT 1").await;
    let launch = executor.launch().await;
    executor.complete_with_rows(&launch, 0, b"rows").await;
    executor.committed().await;
    for (term, leader, expected) in [(1, 0, Some(&b"rows"[..])), (2, 1, None), (3, 0, None)] {
        if term > 1 {
            cluster.lead(leader, term);
        }
        let query = &mut cluster.replicas[leader].query;
        let last = harness::last(&mut query.watch(reader(&job)).await.unwrap().into_inner()).await;
        assert_eq!((last.state(), last.results[0].address.as_str()), (JobState::Succeeded, "e1:1"));
        assert_eq!(rows(&last), expected, "in term {term}");
    }
    cluster.stop().await;
}
