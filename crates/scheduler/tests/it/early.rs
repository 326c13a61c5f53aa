//! Attempts at partitions of a result whose rows may be read before they are done.

use std::time::Duration;

use polybolos_proto::v1::{JobUpdate, ShuffleTicket, SubmitRequest, WatchRequest};
use prost::Message;
use tokio::time::sleep;
use tonic::Streaming;

use crate::{
    executor::FakeExecutor,
    harness::{Harness, sql},
    reopen::{follow, reader},
};

/// A cluster in which settings count, and a table of two files.
async fn with_table() -> (Harness, String) {
    let mut harness = Harness::start().await;
    let set = SubmitRequest { session_id: "other".to_owned(), ..sql("SET polybolos.max_run_ms = 0") };
    while let Err(error) = harness.query.submit(set.clone()).await {
        assert!(error.message().contains("older version"), "{error}");
        sleep(Duration::from_millis(10)).await;
    }
    let table = harness.partitioned_table("t", 2).await;
    (harness, table)
}

/// The first update of a job of which a task runs.
async fn running(watch: &mut Streaming<JobUpdate>) -> JobUpdate {
    loop {
        let update = watch.message().await.unwrap().unwrap();
        if update.stages.last().unwrap().running > 0 {
            return update;
        }
    }
}

fn follower(job: &str) -> WatchRequest {
    WatchRequest { follows: true, ..reader(job) }
}

#[tokio::test]
async fn whoever_follows_is_told_of_attempts_that_run_until_they_are_complete() {
    let (mut harness, table) = with_table().await;
    let mut executor = FakeExecutor::attach(&harness, "e1", 1).await;
    let job = harness.session_job(&format!("SELECT a FROM {table}")).await.job_id;
    let launch = executor.launch().await;
    let unaware = running(&mut follow(&mut harness, reader(&job)).await).await;
    assert!(unaware.results.is_empty(), "{unaware:?}");

    let mut watch = follow(&mut harness, follower(&job)).await;
    let [place] = running(&mut watch).await.results.try_into().unwrap();
    assert!(place.unfinished && place.repeatable && place.rows == 0, "{place:?}");
    assert_eq!((place.partition, place.address.as_str()), (launch.tasks[0].partition, "e1:1"));
    let ticket = ShuffleTicket::decode(place.ticket.clone()).unwrap();
    assert_eq!((ticket.attempt, ticket.follow), (launch.tasks[0].attempt, true));

    executor.complete(&launch, 0, 3).await;
    let next = executor.launch().await;
    loop {
        let results = watch.message().await.unwrap().unwrap().results;
        let known = |partition| results.iter().filter(move |place| place.partition == partition);
        let (done, made) = (launch.tasks[0].partition, next.tasks[0].partition);
        assert!(known(done).count() <= 1, "one place of each partition: {results:?}");
        let Some(complete) = known(done).find(|place| !place.unfinished) else { continue };
        assert!(complete.repeatable && complete.rows == 3 && complete.attempt == place.attempt);
        assert!(!ShuffleTicket::decode(complete.ticket.clone()).unwrap().follow);
        if known(made).any(|place| place.unfinished) {
            break;
        }
    }
    harness.stop().await;
}

#[tokio::test]
async fn nobody_is_told_of_attempts_at_a_result_that_may_come_otherwise_or_shall_not_come_early() {
    let (mut harness, table) = with_table().await;
    let mut executor = FakeExecutor::attach(&harness, "e1", 8).await;
    for (statement, setting) in
        [(format!("SELECT a, random() FROM {table}"), "true"), (format!("SELECT a FROM {table}"), "false")]
    {
        harness.inline(&format!("SET polybolos.early_results = {setting}")).await;
        let job = harness.session_job(&statement).await.job_id;
        let _launch = executor.launch().await;
        let update = running(&mut follow(&mut harness, follower(&job)).await).await;
        assert!(update.results.is_empty(), "{statement}: {update:?}");
        let cancel = polybolos_proto::v1::CancelRequest { job_id: job, reason: String::new() };
        harness.query.cancel(cancel).await.unwrap();
    }
    harness.stop().await;
}
