//! Reads that may be out of date.

use std::time::Duration;

use polybolos_model::JobId;

use super::fake::{Scheduler, client, nowhere};
use crate::{ClientError, Consistency};

#[tokio::test]
async fn a_stale_read_is_answered_by_a_follower_and_says_so() {
    let (dead, follower) = (nowhere().await, Scheduler::start().await);
    let client = client(&[&dead, &follower.address]);
    let jobs = client.jobs_with(Consistency::Stale).await.unwrap();
    assert_eq!((jobs.jobs.len(), jobs.freshness.unwrap().age_ms), (1, 70));
    assert_eq!(follower.log(), ["list jobs, stale: true"]);
    assert_eq!(client.relations_with(Consistency::Stale).await.unwrap(), ["t"]);
    assert_eq!(client.status_with(Consistency::Stale).await.unwrap().cluster_id, "fake");
    let error = client.job_with(JobId(7), Consistency::Stale).await.unwrap_err();
    assert!(matches!(error, ClientError::NotFound { .. }), "what it does not know is an answer: {error}");
}

#[tokio::test]
async fn a_fresh_read_says_so_too() {
    let leader = Scheduler::start().await;
    let jobs = client(&[&leader.address]).jobs_with(Consistency::Linearizable).await.unwrap();
    assert!(jobs.freshness.unwrap().linearizable);
}

#[tokio::test]
async fn a_replica_that_is_slow_is_not_waited_for() {
    // It accepts connections and says nothing.
    let silent = super::fake::env().net.listen("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let follower = Scheduler::start().await;
    for _ in 0..5 {
        let client = client(&[&address, &follower.address]);
        let answer = tokio::time::timeout(Duration::from_secs(1), client.jobs_with(Consistency::Stale));
        answer.await.expect("the other one answers").unwrap();
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable_for_a_stale_read_too() {
    let (a, b) = (nowhere().await, nowhere().await);
    let error = client(&[&a, &b]).status_with(Consistency::Stale).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}
