//! Results that are lost after success, and watchers that read them.

use std::time::Duration;

use polybolos_proto::v1::{JobState, JobUpdate, ReleaseRequest, ShuffleTicket, WatchRequest};
use prost::Message;
use tokio::time::sleep;
use tonic::Streaming;

use crate::{
    executor::FakeExecutor,
    harness::{self, Harness},
};

/// A job of one task that has succeeded on `e1`.
async fn succeeded(harness: &mut Harness) -> (String, FakeExecutor, JobUpdate) {
    let mut executor = FakeExecutor::attach(harness, "e1", 1).await;
    let job = harness.job("SELECT 1").await.job_id;
    let launch = executor.launch().await;
    executor.complete(&launch, 0, 3).await;
    let last = harness::last(&mut harness.watch(&job).await).await;
    assert_eq!(last.state(), JobState::Succeeded);
    (job, executor, last)
}

/// Until the job's result is lost, as whoever does not know of more is told.
async fn lost(harness: &mut Harness, job: &str) {
    for _ in 0..500 {
        let last = harness::last(&mut harness.watch(job).await).await;
        if last.state() == JobState::Failed {
            assert!(last.error.unwrap().message.contains("run the query again"));
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the result is never lost");
}

pub(crate) fn reader(job: &str) -> WatchRequest {
    WatchRequest {
        job_id: job.to_owned(),
        knows_more_come: true,
        reads_result: true,
        ..WatchRequest::default()
    }
}

pub(crate) async fn follow(harness: &mut Harness, request: WatchRequest) -> Streaming<JobUpdate> {
    harness.query.watch(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_reader_has_a_lost_result_made_again_and_follows_it() {
    let mut harness = Harness::start().await;
    let (job, executor, _) = succeeded(&mut harness).await;
    drop(executor);
    lost(&mut harness, &job).await;
    let mut executor = FakeExecutor::attach(&harness, "e2", 1).await;
    // Nobody has asked.
    executor.listen(Duration::from_millis(100)).await;
    let looker = WatchRequest { reads_result: false, ..reader(&job) };
    let seen = follow(&mut harness, looker).await.message().await.unwrap().unwrap();
    assert_eq!((seen.state(), seen.error), (JobState::Succeeded, None));

    let mut watch = follow(&mut harness, reader(&job)).await;
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!((first.state(), first.more_come, first.results.len()), (JobState::Succeeded, true, 0));
    let launch = executor.launch().await;
    assert_eq!(launch.job_id, job);
    assert!(!executor.prepared[&(job.clone(), 0)].plan.is_empty());
    // Others must not take it for an empty result.
    let other = harness::last(&mut harness.watch(&job).await).await;
    assert_eq!(other.state(), JobState::Failed);
    executor.complete(&launch, 0, 3).await;
    let last = loop {
        let update = watch.message().await.unwrap().unwrap();
        assert_eq!(update.state(), JobState::Succeeded);
        if !update.more_come {
            break update;
        }
    };
    assert_eq!((last.results[0].address.as_str(), last.results[0].rows), ("e2:1", 3));
    assert_eq!(watch.message().await.unwrap(), None);
    harness.stop().await;
}

#[tokio::test]
async fn a_reader_that_is_refused_by_a_living_executor_has_the_partition_made_again() {
    let mut harness = Harness::start().await;
    let (job, mut executor, last) = succeeded(&mut harness).await;
    let ticket = last.results[0].ticket.clone();
    let attempt = ShuffleTicket::decode(ticket.clone()).unwrap().attempt.unwrap();
    let other = ShuffleTicket { attempt: None, ..ShuffleTicket::decode(ticket.clone()).unwrap() };
    // Tickets of nothing that is there change nothing.
    let unreadable = vec![other.encode_to_vec().into(), b"?".to_vec().into()];
    let mut watch = follow(&mut harness, WatchRequest { unreadable, ..reader(&job) }).await;
    assert!(!watch.message().await.unwrap().unwrap().more_come);

    let request = WatchRequest { unreadable: vec![ticket], ..reader(&job) };
    let mut watch = follow(&mut harness, request).await;
    assert!(watch.message().await.unwrap().unwrap().more_come);
    let launch = executor.launch().await;
    assert_eq!(executor.deleted, [attempt]);
    executor.complete(&launch, 0, 3).await;
    let mut update = watch.message().await.unwrap().unwrap();
    while update.more_come {
        update = watch.message().await.unwrap().unwrap();
    }
    let now = ShuffleTicket::decode(update.results[0].ticket.clone()).unwrap().attempt;
    assert_eq!(now, launch.tasks[0].attempt);
    harness.stop().await;
}

#[tokio::test]
async fn a_release_ends_what_is_made_again() {
    let mut harness = Harness::start().await;
    let (job, executor, _) = succeeded(&mut harness).await;
    drop(executor);
    lost(&mut harness, &job).await;
    let mut watch = follow(&mut harness, reader(&job)).await;
    assert!(watch.message().await.unwrap().unwrap().more_come);
    let mut executor = FakeExecutor::attach(&harness, "e2", 1).await;
    executor.launch().await;
    harness.query.release(ReleaseRequest { job_id: job.clone() }).await.unwrap();
    while executor.released().await != job {}
    let mut update = watch.message().await.unwrap().unwrap();
    while update.more_come {
        update = watch.message().await.unwrap().unwrap();
    }
    assert!(update.error.unwrap().message.contains("given back"), "its rows are not there");
    harness.stop().await;
}
