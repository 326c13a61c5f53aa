//! How quickly a lost executor is noticed, and what jobs say while there is none.

use std::time::{Duration, Instant};

use polybolos_proto::v1::{ClusterStatusRequest, GetJobRequest, JobState};
use polybolos_state::limits::STREAM_GRACE_MS;
use tokio::time::sleep;

use crate::{executor::FakeExecutor, harness::Harness};

const GRACE: Duration = Duration::from_millis(STREAM_GRACE_MS);

/// After how long the only executor is lost.
async fn lost_after(harness: &mut Harness) -> Duration {
    let started = Instant::now();
    loop {
        let status =
            harness.query.cluster_status(ClusterStatusRequest::default()).await.unwrap().into_inner();
        if status.executors[0].state == "lost" {
            return started.elapsed();
        }
        assert!(started.elapsed() < 5 * GRACE, "it is never lost: {status:#?}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_broken_stream_to_an_address_where_nothing_listens_is_a_loss_at_once() {
    let mut harness = Harness::start().await;
    let listener = harness.env.net.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let executor = FakeExecutor::attach_at(&harness, "e1", &address, 1).await;
    drop((executor, listener));
    let after = lost_after(&mut harness).await;
    assert!(after < GRACE / 2, "{after:?}");
    harness.stop().await;
}

#[tokio::test]
async fn one_that_still_listens_has_the_whole_grace_to_come_back() {
    let mut harness = Harness::start().await;
    let listener = harness.env.net.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(FakeExecutor::attach_at(&harness, "e1", &address, 1).await);
    let after = lost_after(&mut harness).await;
    assert!(after >= GRACE, "{after:?}");
    drop(listener);
    harness.stop().await;
}

#[tokio::test]
async fn a_job_says_since_when_no_executor_takes_it() {
    let mut harness = Harness::start().await;
    let job = harness.job("SELECT 1").await;
    let mut watch = harness.watch(&job.job_id).await;
    let mut update = watch.message().await.unwrap().unwrap();
    while update.waits_since_ms == 0 {
        update = watch.message().await.unwrap().unwrap();
    }
    assert_eq!(update.state(), JobState::Queued);
    let show = GetJobRequest { job_id: job.job_id.clone(), stale: false };
    let detail = harness.query.get_job(show.clone()).await.unwrap().into_inner();
    assert_eq!(detail.waits_since_ms, update.waits_since_ms);
    let mut executor = FakeExecutor::attach(&harness, "e1", 1).await;
    let launch = executor.launch().await;
    assert_eq!(harness.query.get_job(show).await.unwrap().into_inner().waits_since_ms, 0);
    executor.complete(&launch, 0, 1).await;
    let last = crate::harness::last(&mut watch).await;
    assert_eq!((last.state(), last.waits_since_ms), (JobState::Succeeded, 0));
    harness.stop().await;
}
