//! Ending queries before their end.

use std::time::{Duration, Instant};

use futures::StreamExt;
use polybolos::Client;
use polybolos_client::{Answer, ClientError, JobHandle, JobState, SubmitOptions};

use crate::support::{Shop, shop, value};

/// Runs for hours if it is let.
const LONG: &str = "SELECT sum(a.id * b.id % 7 + c.id) FROM orders a, orders b, orders c";

async fn start(client: &Client, options: SubmitOptions) -> JobHandle {
    let Answer::Job(job) = client.submit(LONG, options).await.unwrap() else { panic!("no job") };
    until(client, "runs", |busy| busy > 0).await;
    // Until it is beyond its planning and its scans, in a loop that reads nothing for hours.
    tokio::time::sleep(Duration::from_millis(700)).await;
    job
}

/// The threads of the executors are free, and not only said to be: a task that goes on would hold the shutdown up.
async fn stopped(shop: Shop) {
    let start = Instant::now();
    shop.cluster.shutdown().await;
    assert!(start.elapsed() < Duration::from_secs(2), "a cancelled task went on for {:?}", start.elapsed());
}

async fn until(client: &Client, what: &str, done: impl Fn(u32) -> bool) -> Duration {
    let start = Instant::now();
    loop {
        let status = client.status().await.unwrap();
        if done(status.executors.iter().map(|executor| executor.busy_slots).sum()) {
            return start.elapsed();
        }
        assert!(start.elapsed() < Duration::from_secs(10), "it never {what}: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_frees_its_slots_within_a_second() {
    let shop = shop().await;
    let client = &shop.client;
    let job = start(client, SubmitOptions::default()).await;
    let mut stream = job.stream();
    job.cancel("enough").await.unwrap();
    let Some(Err(ClientError::Cancelled { reason, .. })) = stream.next().await else {
        panic!("not cancelled")
    };
    assert!(reason.contains("enough"), "{reason}");
    assert!(until(client, "ends", |busy| busy == 0).await < Duration::from_secs(1));
    let next =
        tokio::time::timeout(Duration::from_secs(5), value(client, "SELECT count(*) FROM orders")).await;
    assert_eq!(next.expect("the next task waits for one that was cancelled"), "10000");
    job.cancel("again").await.unwrap();
    assert_eq!(client.job(job.id()).await.unwrap().summary.unwrap().state(), JobState::Cancelled);
    stopped(shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_is_left_cancels_its_query() {
    let shop = shop().await;
    let client = &shop.client;
    let job = start(client, SubmitOptions::default()).await;
    drop(job.stream());
    assert!(until(client, "ends", |busy| busy == 0).await < Duration::from_secs(1));
    client.settle().await;
    let detail = client.job(job.id()).await.unwrap();
    assert_eq!(detail.summary.unwrap().state(), JobState::Cancelled);
    assert!(detail.error.unwrap().message.contains("left"));
    stopped(shop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_nobody_watches_ends_if_its_client_wants_that() {
    let shop = shop().await;
    let client = &shop.client;
    let options =
        SubmitOptions { cancel_when_unwatched: Some(Duration::from_millis(500)), ..Default::default() };
    let job = start(client, options).await;
    {
        let mut watch = job.watch();
        let _watched = tokio::time::timeout(Duration::from_millis(1_000), async {
            while watch.next().await.is_some() {}
        });
        assert!(_watched.await.is_err(), "it ended although it was watched");
    }
    assert!(until(client, "ends", |busy| busy == 0).await < Duration::from_secs(3));
    assert_eq!(client.job(job.id()).await.unwrap().summary.unwrap().state(), JobState::Cancelled);
    stopped(shop).await;
}
