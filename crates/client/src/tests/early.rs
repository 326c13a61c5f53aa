//! Partitions that are read while their tasks run.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use polybolos_proto::v1::{self, JobState, ResultPartition};
use tokio::time::timeout;

use super::{
    fake::{
        Executor,
        OnFetch::{self, Break, Rows},
        OnWatch::{Until, Update},
        update,
    },
    streaming::{job, setting, values},
};
use crate::{ClientError, limits};

const SOON: Duration = Duration::from_secs(8);

/// Partition 0 as an attempt makes it, whose reads get `scripts`.
fn made(executor: &Executor, attempt: &str, scripts: Vec<Vec<OnFetch>>) -> ResultPartition {
    made_of(executor, 0, attempt, scripts)
}

fn made_of(
    executor: &Executor,
    partition: u32,
    attempt: &str,
    scripts: Vec<Vec<OnFetch>>,
) -> ResultPartition {
    // A name of its own among the scripts.
    let number: u32 = attempt.bytes().map(u32::from).sum::<u32>() * 100 + partition;
    let held = executor.holds(number, scripts);
    let attempt = attempt.to_owned();
    ResultPartition { partition, attempt, rows: 0, bytes: 0, unfinished: true, repeatable: true, ..held }
}

/// The same partition, of `rows` rows, once that attempt has won.
fn won(made: &ResultPartition, rows: u64) -> ResultPartition {
    let ticket = [&made.ticket[..], b" whole"].concat().into();
    ResultPartition { ticket, rows, bytes: 1, unfinished: false, ..made.clone() }
}

/// A whole partition 0 of another attempt.
fn other(executor: &Executor, values: &[i32]) -> ResultPartition {
    let held = executor.holds_rows(7, values);
    let attempt = "1.9".to_owned();
    ResultPartition { partition: 0, attempt, rows: values.len() as u64, repeatable: true, ..held }
}

fn reads(executor: &Executor, ticket: &str) -> usize {
    executor.reads.lock().unwrap().iter().filter(|read| *read == ticket).count()
}

#[tokio::test]
async fn rows_come_before_their_task_is_done_and_are_not_read_again_then() {
    for ordered in [false, true] {
        let (scheduler, executor, client) = setting(ordered).await;
        let script = vec![Rows(vec![1]), OnFetch::Until(1), Rows(vec![2, 3])];
        let running = made(&executor, "1.1", vec![script]);
        let whole = won(&running, 3);
        scheduler.on_watch(vec![
            Update(update(JobState::Running, vec![running])),
            Until(1),
            Update(update(JobState::Succeeded, vec![whole.clone()])),
        ]);
        let mut stream = job(&client).await.stream();
        assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [1], "ordered: {ordered}");
        scheduler.go();
        executor.go();
        let rest: Vec<_> = stream.try_collect().await.unwrap();
        assert_eq!(values(&rest), [2, 3], "ordered: {ordered}");
        assert_eq!(executor.reads.lock().unwrap().len(), 1, "the whole one is not read");
        scheduler.noted("release").await;
    }
}

/// Its last rows come before anybody knows that it has won.
#[tokio::test]
async fn the_end_of_an_attempt_is_no_end_before_it_has_won() {
    let (scheduler, executor, client) = setting(false).await;
    let running = made(&executor, "1.1", vec![vec![Rows(vec![1, 2])]]);
    let whole = other(&executor, &[1, 2]);
    scheduler.on_watch(vec![
        Update(update(JobState::Running, vec![running])),
        Until(1),
        Update(update(JobState::Succeeded, vec![whole])),
    ]);
    let mut stream = job(&client).await.stream();
    assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [1, 2]);
    assert!(timeout(Duration::from_millis(200), stream.next()).await.is_err());
    // Another one does, and has the same rows.
    scheduler.go();
    assert!(stream.next().await.is_none());
    assert_eq!(reads(&executor, "p7"), 0);
}

#[tokio::test]
async fn an_attempt_that_breaks_is_gone_on_with_by_another_one_behind_the_rows() {
    // One that runs, or one that is whole; the first one breaks, or hangs.
    for (is_whole, hangs) in [(true, false), (true, true), (false, false), (false, true)] {
        let (scheduler, executor, client) = setting(true).await;
        let end = if hangs { OnFetch::Until(9) } else { Break };
        let first = made(&executor, "1.1", vec![vec![Rows(vec![1, 2]), end]]);
        let again = vec![vec![Rows(vec![1]), Rows(vec![2, 3]), Rows(vec![4])]];
        let (next, last) = if is_whole {
            let whole = other(&executor, &[1, 2, 3, 4]);
            (whole.clone(), whole)
        } else {
            let second = made(&executor, "1.2", again);
            (second.clone(), won(&second, 4))
        };
        scheduler.on_watch(vec![
            Update(update(JobState::Running, vec![first])),
            Until(1),
            Update(update(JobState::Running, vec![])),
            Update(update(JobState::Running, vec![next])),
            Until(2),
            Update(update(JobState::Succeeded, vec![last])),
        ]);
        let mut stream = job(&client).await.stream();
        assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [1, 2]);
        scheduler.go();
        let mut rest = Vec::new();
        while rest.len() < 2 {
            rest.extend(values(&[timeout(SOON, stream.next()).await.unwrap().unwrap().unwrap()]));
        }
        assert_eq!(rest, [3, 4], "whole: {is_whole}, hangs: {hangs}");
        scheduler.go();
        assert!(timeout(SOON, stream.next()).await.unwrap().is_none());
    }
}

/// It may not have begun, or only its connection was lost.
#[tokio::test]
async fn an_attempt_that_still_runs_is_tried_again_and_again() {
    let (scheduler, executor, client) = setting(false).await;
    let good = vec![Rows(vec![1]), Rows(vec![2])];
    let scripts: Vec<_> = (0..8).map(|_| vec![Break]).chain([vec![Rows(vec![1]), Break], good]).collect();
    let running = made(&executor, "1.1", scripts);
    let whole = won(&running, 2);
    scheduler.on_watch(vec![
        Update(update(JobState::Running, vec![running])),
        Until(1),
        Update(update(JobState::Succeeded, vec![whole])),
    ]);
    let mut stream = job(&client).await.stream();
    for expected in [1, 2] {
        let batch = timeout(SOON, stream.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(values(&[batch]), [expected]);
    }
    scheduler.go();
    assert!(stream.next().await.is_none());
    assert!(!scheduler.log().iter().any(|line| line.contains("without")), "nothing is made again for it");
}

#[tokio::test]
async fn other_rows_of_another_attempt_end_the_stream_in_an_error() {
    // Of the same number, or too few.
    for values_then in [vec![1, 7, 3], vec![1]] {
        let (scheduler, executor, client) = setting(false).await;
        let first = made(&executor, "1.1", vec![vec![Rows(vec![1, 2]), Break]]);
        let changed = other(&executor, &values_then);
        scheduler.on_watch(vec![
            Update(update(JobState::Running, vec![first])),
            Until(1),
            Update(update(JobState::Succeeded, vec![changed])),
        ]);
        let mut stream = job(&client).await.stream();
        assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [1, 2]);
        scheduler.go();
        let error = timeout(SOON, stream.next()).await.unwrap().unwrap().unwrap_err();
        let ClientError::Fetch { partition: 0, batches: 1, ref last, .. } = error else { panic!("{error}") };
        assert!(last.contains("files have changed"), "{last}");
        assert!(stream.next().await.is_none());
    }
}

/// Its executor is lost after the query has succeeded.
#[tokio::test]
async fn what_was_read_early_and_is_made_again_is_gone_on_with() {
    let (scheduler, executor, client) = setting(false).await;
    let running = made(&executor, "1.1", vec![vec![Rows(vec![1, 2]), OnFetch::Until(1), Break]]);
    let whole = won(&running, 4);
    scheduler.on_watch(vec![
        Update(update(JobState::Running, vec![running])),
        Until(1),
        Update(update(JobState::Succeeded, vec![whole.clone()])),
    ]);
    let again = other(&executor, &[1, 2, 3, 4]);
    scheduler.on_watch(vec![
        Update(v1::JobUpdate { more_come: true, ..update(JobState::Succeeded, vec![]) }),
        Update(update(JobState::Succeeded, vec![again])),
    ]);
    let mut stream = job(&client).await.stream();
    assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [1, 2]);
    scheduler.go();
    tokio::time::sleep(Duration::from_millis(100)).await;
    executor.go();
    let rest: Vec<_> = timeout(SOON, stream.try_collect()).await.unwrap().unwrap();
    assert_eq!(values(&rest), [3, 4]);
    let asked = format!("watch to read without {}", String::from_utf8_lossy(&whole.ticket));
    assert!(scheduler.log().contains(&asked), "{:?}", scheduler.log());
}

#[tokio::test]
async fn a_task_that_is_done_soon_is_not_read_before() {
    let (scheduler, executor, client) = setting(false).await;
    let running = made(&executor, "1.1", vec![vec![Rows(vec![9])]]);
    let (done, empty) = (other(&executor, &[1]), ResultPartition { rows: 0, ..won(&running, 0) });
    for (last, expected) in [(done, vec![1]), (empty, vec![])] {
        scheduler.on_watch(vec![
            Update(update(JobState::Running, vec![running.clone()])),
            Update(update(JobState::Succeeded, vec![last])),
        ]);
        let batches: Vec<_> = job(&client).await.stream().try_collect().await.unwrap();
        assert_eq!(values(&batches), expected);
        scheduler.on_submit(super::fake::OnSubmit::Answer(super::fake::accepted(false)));
    }
    let ticket = String::from_utf8_lossy(&running.ticket).into_owned();
    assert_eq!(reads(&executor, &ticket), 0);
}

#[tokio::test]
async fn partitions_that_are_made_keep_no_complete_one_waiting() {
    let (scheduler, executor, client) = setting(false).await;
    let stuck = |partition| made_of(&executor, partition, "1.1", vec![vec![OnFetch::Until(1)]]);
    let mut places: Vec<_> = (0..20).map(stuck).collect();
    let whole: Vec<_> = places.iter().map(|place| won(place, 0)).collect();
    let complete: Vec<_> =
        (20..40).map(|partition| executor.holds_rows(partition, &[partition as i32])).collect();
    places.extend(complete.clone());
    scheduler.on_watch(vec![
        Update(update(JobState::Running, places)),
        Until(1),
        Update(update(JobState::Succeeded, whole.into_iter().chain(complete).collect())),
    ]);
    let mut stream = job(&client).await.stream();
    let mut got = Vec::new();
    for _ in 0..20 {
        got.extend(values(&[timeout(SOON, stream.next()).await.unwrap().unwrap().unwrap()]));
    }
    got.sort_unstable();
    assert_eq!(got, (20..40).collect::<Vec<_>>());
    tokio::time::sleep(2 * limits::EARLY_FETCH_DELAY).await;
    let early = executor.reads.lock().unwrap().len() - 20;
    assert_eq!(early, limits::EARLY_FETCH_CONCURRENCY);
    scheduler.go();
    executor.go();
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_query_that_fails_ends_what_was_begun_in_its_error() {
    let (scheduler, executor, client) = setting(false).await;
    let running = made(&executor, "1.1", vec![vec![Rows(vec![1]), OnFetch::Until(9)]]);
    let error = v1::JobError { message: "the real one".to_owned(), ..Default::default() };
    scheduler.on_watch(vec![
        Update(update(JobState::Running, vec![running])),
        Until(1),
        Update(v1::JobUpdate { error: Some(error), ..update(JobState::Failed, vec![]) }),
    ]);
    let mut stream = job(&client).await.stream();
    stream.next().await.unwrap().unwrap();
    scheduler.go();
    let error = timeout(SOON, stream.next()).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ClientError::JobFailed { .. }), "{error}");
}
