//! Results of which partitions are lost after their job has succeeded.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use polybolos_proto::v1::{self, JobState, ResultPartition};
use tokio::time::timeout;

use super::{
    fake::{
        OnFetch,
        OnWatch::{Until, Update},
        hangs, nowhere, update,
    },
    streaming::{job, of_generation, setting, values},
};
use crate::ClientError;

/// The job has succeeded, and only these partitions are there.
fn reopened(results: Vec<ResultPartition>) -> v1::JobUpdate {
    v1::JobUpdate { more_come: true, ..update(JobState::Succeeded, results) }
}

fn sorted(mut values: Vec<i32>) -> Vec<i32> {
    values.sort_unstable();
    values
}

#[tokio::test]
async fn a_partition_that_is_gone_is_waited_for_until_it_is_made_again() {
    for ordered in [false, true] {
        let (scheduler, executor, client) = setting(ordered).await;
        let (first, second) = (executor.holds_rows(0, &[1]), executor.holds_rows(1, &[2]));
        let gone = ResultPartition { ticket: "gone".into(), ..second.clone() };
        scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![first.clone(), gone]))]);
        scheduler.on_watch(vec![
            Update(reopened(vec![first.clone()])),
            Until(1),
            Update(update(JobState::Succeeded, vec![first, second])),
        ]);
        let mut stream = job(&client).await.stream();
        assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [1], "ordered: {ordered}");
        scheduler.noted("watch to read without gone").await;
        scheduler.go();
        assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [2], "ordered: {ordered}");
        assert!(stream.next().await.is_none());
        scheduler.noted("release").await;
        assert_eq!(scheduler.log()[1], "watch to read");
    }
}

#[tokio::test]
async fn a_result_that_is_being_made_again_is_followed_from_the_start() {
    let (scheduler, executor, client) = setting(false).await;
    let (first, second) = (executor.holds_rows(0, &[1]), executor.holds_rows(1, &[2]));
    scheduler.on_watch(vec![
        Update(reopened(vec![second.clone()])),
        Update(update(JobState::Succeeded, vec![first, second])),
    ]);
    assert_eq!(sorted(values(&client.query("SELECT 1").await.unwrap().batches)), [1, 2]);
}

#[tokio::test]
async fn a_loss_that_the_leader_has_not_noticed_is_asked_for_again() {
    let (scheduler, executor, client) = setting(false).await;
    let here = executor.holds_rows(0, &[1]);
    let lost = ResultPartition { address: nowhere().await, ticket: "lost".into(), ..here.clone() };
    for _ in 0..2 {
        scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![lost.clone()]))]);
    }
    scheduler.on_watch(vec![Update(reopened(vec![])), Update(update(JobState::Succeeded, vec![here]))]);
    assert_eq!(values(&client.query("SELECT 1").await.unwrap().batches), [1]);
    // That an executor does not answer says nothing of what it holds.
    assert!(!scheduler.log().iter().any(|line| line.contains("without")), "{:?}", scheduler.log());
}

/// Below any time-out of a fetch.
const SOON: Duration = Duration::from_secs(8);

#[tokio::test]
async fn a_partition_on_an_executor_that_hangs_is_given_up_when_that_is_lost() {
    let (hanging, address) = hangs().await;
    // While the query runs its updates tell, afterwards the leader is asked.
    for state in [JobState::Running, JobState::Succeeded] {
        let (scheduler, executor, client) = setting(true).await;
        let here = executor.holds_rows(0, &[1]);
        let stuck = ResultPartition { address: address.clone(), ticket: "stuck".into(), ..here.clone() };
        let before = vec![Update(update(state, vec![stuck.clone()]))];
        let after = vec![Update(reopened(vec![])), Update(update(JobState::Succeeded, vec![here]))];
        if state == JobState::Running {
            scheduler.on_watch(before.into_iter().chain(after).collect());
        } else {
            scheduler.on_watch(before);
            // It has not noticed yet.
            scheduler.on_watch(vec![Update(update(state, vec![stuck]))]);
            scheduler.on_watch(after);
        }
        let result = timeout(SOON, client.query("SELECT 1")).await.unwrap().unwrap();
        assert_eq!(values(&result.batches), [1], "{state:?}");
    }
    drop(hanging);
}

/// Whatever its new attempt is called: the partition was handed out.
#[tokio::test]
async fn what_was_read_is_not_read_again_when_it_is_made_again_with_others() {
    let (scheduler, executor, client) = setting(false).await;
    let (first, second) = (executor.holds_rows(0, &[1]), executor.holds_rows(1, &[2]));
    let gone = ResultPartition { ticket: "gone".into(), ..second.clone() };
    let again = ResultPartition { ticket: "p0 again".into(), ..first.clone() };
    scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![first, gone]))]);
    scheduler.on_watch(vec![
        Update(reopened(vec![])),
        Until(1),
        Update(reopened(vec![again.clone()])),
        Update(update(JobState::Succeeded, vec![again, second])),
    ]);
    let mut stream = job(&client).await.stream();
    assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [1]);
    scheduler.noted("watch to read without gone").await;
    scheduler.go();
    let rest: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(values(&rest), [2]);
    assert!(!executor.reads.lock().unwrap().contains(&"p0 again".to_owned()));
}

#[tokio::test]
async fn rows_of_two_attempts_of_a_partition_are_not_mixed() {
    let (scheduler, executor, client) = setting(false).await;
    let begun = executor.holds(0, vec![vec![OnFetch::Rows(vec![1]), OnFetch::Break]]);
    let again = ResultPartition { ticket: "p1".into(), ..executor.holds_rows(1, &[1, 2]) };
    let again = ResultPartition { partition: 0, attempt: "1.9".to_owned(), ..again };
    scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![begun]))]);
    scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![again]))]);
    let items: Vec<_> = job(&client).await.stream().collect().await;
    let [Ok(_), Err(ClientError::Fetch { partition: 0, batches: 1, .. })] = items.as_slice() else {
        panic!("{items:?}")
    };
    assert!(!executor.reads.lock().unwrap().contains(&"p1".to_owned()));
}

#[tokio::test]
async fn a_new_generation_is_read_anew_or_ends_the_stream_if_rows_were_handed_out() {
    let (scheduler, executor, client) = setting(true).await;
    let (first, second) = (executor.holds_rows(0, &[1]), executor.holds_rows(1, &[2]));
    let gone = |partition: &ResultPartition| ResultPartition { ticket: "gone".into(), ..partition.clone() };
    let anew = vec![
        Update(of_generation(1, reopened(vec![]))),
        Update(of_generation(1, update(JobState::Succeeded, vec![first.clone(), second.clone()]))),
    ];
    scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![gone(&first), second.clone()]))]);
    scheduler.on_watch(anew);
    assert_eq!(values(&client.query("SELECT 1").await.unwrap().batches), [1, 2]);

    let (scheduler, executor, client) = setting(true).await;
    let (first, second) = (executor.holds_rows(0, &[1]), executor.holds_rows(1, &[2]));
    scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![first, gone(&second)]))]);
    scheduler.on_watch(vec![Until(1), Update(of_generation(1, reopened(vec![])))]);
    let mut stream = job(&client).await.stream();
    assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [1]);
    scheduler.go();
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::RolledBack { .. }), "{error}");
}

#[tokio::test]
async fn a_result_that_is_given_up_says_why() {
    let (scheduler, executor, client) = setting(false).await;
    let gone = ResultPartition { ticket: "gone".into(), ..executor.holds_rows(0, &[1]) };
    scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![gone]))]);
    let error = v1::JobError { message: "run the query again".to_owned(), ..Default::default() };
    scheduler.on_watch(vec![
        Update(reopened(vec![])),
        Update(v1::JobUpdate { error: Some(error), ..update(JobState::Failed, vec![]) }),
    ]);
    let error = client.query("SELECT 1").await.unwrap_err();
    assert!(matches!(error, ClientError::JobFailed { .. }), "{error}");
    assert!(error.to_string().contains("run the query again"), "{error}");
}

#[tokio::test]
async fn a_success_that_does_not_say_where_all_rows_are_is_no_empty_result() {
    let (scheduler, _, client) = setting(false).await;
    let stage = v1::StageProgress { tasks: 1, done: 1, rows_out: 3, ..Default::default() };
    let done = v1::JobUpdate { stages: vec![stage], ..update(JobState::Succeeded, vec![]) };
    scheduler.on_watch(vec![Update(done)]);
    let error = client.query("SELECT 1").await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn the_end_of_a_job_without_rows_is_heard_whatever_its_generation() {
    let (scheduler, _, client) = setting(false).await;
    let error = v1::JobError { message: "gave up".to_owned(), ..Default::default() };
    scheduler.on_watch(vec![
        Update(of_generation(1, update(JobState::Running, vec![]))),
        Update(v1::JobUpdate { error: Some(error), ..update(JobState::Failed, vec![]) }),
    ]);
    let error = client.query("SELECT 1").await.unwrap_err().to_string();
    assert!(error.contains("gave up"), "{error}");
}
