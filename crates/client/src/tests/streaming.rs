//! Watching a job and reading its rows.

use std::time::Duration;

use arrow::{array::AsArray, datatypes::Int32Type, record_batch::RecordBatch};
use futures::{StreamExt, TryStreamExt};
use polybolos_model::{ErrorClass, StageId};
use polybolos_proto::v1::{self, JobState, error_detail::Reason};

use super::fake::{
    Executor, OnFetch, OnSubmit,
    OnWatch::{Break, Until, Update},
    Scheduler, accepted, client, refusal, update,
};
use crate::{Answer, Client, ClientError, JobHandle, SubmitOptions, limits};

pub(super) async fn job(client: &Client) -> JobHandle {
    match client.submit("SELECT 1", SubmitOptions::default()).await.unwrap() {
        Answer::Job(job) => job,
        Answer::Inline(_) => panic!("no job"),
    }
}

pub(super) fn values(batches: &[RecordBatch]) -> Vec<i32> {
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int32Type>().values().to_vec()).collect()
}

pub(super) async fn setting(ordered: bool) -> (Scheduler, Executor, Client) {
    let (scheduler, executor) = (Scheduler::start().await, Executor::start().await);
    scheduler.on_submit(OnSubmit::Answer(accepted(ordered)));
    let client = client(&[&scheduler.address]);
    (scheduler, executor, client)
}

#[tokio::test]
async fn all_partitions_of_an_unordered_result_arrive() {
    let (scheduler, executor, client) = setting(false).await;
    let results: Vec<_> =
        (0..20).map(|p| executor.holds_rows(p, &[p as i32 * 10, p as i32 * 10 + 1])).collect();
    scheduler.on_watch(vec![Update(update(JobState::Succeeded, results))]);
    let result = client.query("SELECT 1").await.unwrap();
    let mut got = values(&result.batches);
    got.sort_unstable();
    let expected: Vec<i32> = (0..20).flat_map(|p| [p * 10, p * 10 + 1]).collect();
    assert_eq!(got, expected);
    scheduler.noted("release").await;
    assert!(!scheduler.log().iter().any(|line| line.starts_with("cancel")));
}

#[tokio::test]
async fn a_query_that_had_ended_when_it_was_answered_needs_no_watch() {
    let (scheduler, executor) = (Scheduler::start().await, Executor::start().await);
    let mut answer = accepted(false);
    let Some(v1::submit_response::Answer::Job(job)) = &mut answer.answer else { panic!("no job") };
    job.ended = Some(update(JobState::Succeeded, vec![executor.holds_rows(0, &[1, 2])]));
    scheduler.on_submit(OnSubmit::Answer(answer));
    let result = client(&[&scheduler.address]).query("SELECT 1").await.unwrap();
    assert_eq!(values(&result.batches), [1, 2]);
    scheduler.noted("release").await;
    assert!(!scheduler.log().iter().any(|line| line.starts_with("watch")), "{:?}", scheduler.log());
}

#[tokio::test]
async fn an_ordered_result_keeps_its_order_though_partitions_become_ready_in_another() {
    let (scheduler, executor, client) = setting(true).await;
    let late = executor.holds_rows(0, &[1, 2]);
    let mut early: Vec<_> = (1..10).map(|p| executor.holds_rows(p, &[p as i32 * 10])).collect();
    early[4].rows = 0; // an empty partition is not read
    let mut all = vec![late];
    all.extend(early.clone());
    scheduler.on_watch(vec![
        Update(update(JobState::Running, early)),
        Update(update(JobState::Running, all.clone())),
        Update(update(JobState::Succeeded, all)),
    ]);
    let result = client.query("SELECT 1 ORDER BY 1").await.unwrap();
    assert_eq!(values(&result.batches), [1, 2, 10, 20, 30, 40, 60, 70, 80, 90]);
    assert!(!executor.reads.lock().unwrap().contains(&"p5".to_owned()));
}

#[tokio::test]
async fn a_partition_is_read_as_soon_as_it_is_ready() {
    let (scheduler, executor, client) = setting(false).await;
    let (first, second) = (executor.holds_rows(0, &[1]), executor.holds_rows(1, &[2]));
    scheduler.on_watch(vec![
        Update(update(JobState::Running, vec![first.clone()])),
        Until(1),
        Update(update(JobState::Succeeded, vec![first, second])),
    ]);
    let mut stream = job(&client).await.stream();
    assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [1]);
    scheduler.go();
    assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [2]);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_broken_watch_is_opened_anew() {
    let (scheduler, executor, client) = setting(false).await;
    let result = executor.holds_rows(0, &[1]);
    scheduler.on_watch(vec![Update(update(JobState::Queued, vec![])), Break]);
    scheduler.on_watch(vec![]);
    scheduler.on_watch(vec![Update(update(JobState::Running, vec![result.clone()])), Break]);
    scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![result]))]);
    let stream = job(&client).await.stream();
    let progress = stream.progress();
    let batches: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(values(&batches), [1]);
    assert_eq!(executor.reads.lock().unwrap().len(), 1);
    assert_eq!(progress.borrow().as_ref().unwrap().state(), JobState::Succeeded);
}

/// Of a statement that writes, its client must not hear that nothing was done.
#[tokio::test]
async fn what_became_of_an_accepted_query_is_unknown_when_nobody_can_be_asked() {
    let (scheduler, _executor, client) = setting(false).await;
    scheduler.on_watch(vec![Update(update(JobState::Running, vec![])), Break]);
    scheduler.refuses_watches(refusal(Reason::NotLeader, ""));
    let job = job(&client).await;
    let error = job.stream().try_collect::<Vec<_>>().await.unwrap_err();
    let ClientError::Unfollowed { job: of, source } = &error else { panic!("{error}") };
    assert!(*of == job.id() && matches!(**source, ClientError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("was accepted, and whether it has ended is unknown"), "{error}");
}

#[tokio::test]
async fn a_fetch_that_breaks_before_its_first_row_is_repeated() {
    let (scheduler, executor, client) = setting(true).await;
    let good = vec![OnFetch::Rows(vec![1]), OnFetch::Rows(vec![2])];
    let first = executor.holds(0, vec![vec![OnFetch::Break], good]);
    // The second one's rows are not handed out before the first one's, so they may be read again too.
    let second =
        executor.holds(1, vec![vec![OnFetch::Rows(vec![3]), OnFetch::Break], vec![OnFetch::Rows(vec![3])]]);
    scheduler.on_watch(vec![
        Update(update(JobState::Running, vec![second.clone()])),
        Update(update(JobState::Succeeded, vec![first, second])),
    ]);
    assert_eq!(values(&client.query("SELECT 1").await.unwrap().batches), [1, 2, 3]);
}

#[tokio::test]
async fn a_fetch_that_breaks_after_a_row_ends_in_an_error_and_gives_the_job_back() {
    let (scheduler, executor, client) = setting(false).await;
    let steps = vec![OnFetch::Rows(vec![1]), OnFetch::Break];
    let result = executor.holds(3, vec![steps, vec![OnFetch::Rows(vec![1])]]);
    scheduler.on_watch(vec![Update(update(JobState::Running, vec![result])), Until(1)]);
    let items: Vec<_> = job(&client).await.stream().collect().await;
    assert_eq!(items.len(), 2);
    let Err(ClientError::Fetch { partition: 3, batches: 1, .. }) = &items[1] else { panic!("{items:?}") };
    scheduler.noted("cancel: its client could not read the result").await;
    scheduler.noted("release").await;
    assert_eq!(executor.reads.lock().unwrap().len(), 1, "no row is handed out twice");
}

#[tokio::test]
async fn a_partition_that_moved_is_read_where_it_is_now() {
    let (scheduler, executor, client) = setting(false).await;
    let mut gone = executor.holds_rows(0, &[1]);
    let here = gone.clone();
    gone.ticket = "gone".into();
    scheduler.on_watch(vec![
        Update(update(JobState::Running, vec![gone])),
        Until(1),
        Update(update(JobState::Succeeded, vec![here])),
    ]);
    let stream = job(&client).await.stream();
    tokio::time::sleep(Duration::from_millis(50)).await;
    scheduler.go();
    let batches: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(values(&batches), [1]);
}

pub(super) fn of_generation(result_generation: u32, update: v1::JobUpdate) -> v1::JobUpdate {
    v1::JobUpdate { result_generation, ..update }
}

#[tokio::test]
async fn a_roll_back_before_the_first_row_is_not_seen() {
    for ordered in [false, true] {
        let (scheduler, executor, client) = setting(ordered).await;
        // Of the first generation: one partition is empty, another one does not answer.
        let mut empty = executor.holds_rows(0, &[]);
        empty.rows = 0;
        let mut gone = executor.holds_rows(1, &[9]);
        gone.ticket = "gone".into();
        let (first, second) = (executor.holds_rows(0, &[1]), executor.holds_rows(1, &[2]));
        scheduler.on_watch(vec![
            Update(update(JobState::Running, vec![empty, gone])),
            Until(1),
            Update(of_generation(1, update(JobState::Running, vec![]))),
            Update(of_generation(1, update(JobState::Succeeded, vec![first, second]))),
        ]);
        let stream = job(&client).await.stream();
        tokio::time::sleep(Duration::from_millis(50)).await;
        scheduler.go();
        let batches: Vec<_> = stream.try_collect().await.unwrap();
        let mut got = values(&batches);
        got.sort_unstable();
        assert_eq!(got, [1, 2], "ordered: {ordered}");
    }
}

#[tokio::test]
async fn a_roll_back_after_a_row_was_handed_out_ends_in_an_error() {
    let (scheduler, executor, client) = setting(false).await;
    let (first, second) = (executor.holds_rows(0, &[1]), executor.holds_rows(1, &[2]));
    scheduler.on_watch(vec![
        Update(of_generation(3, update(JobState::Running, vec![first.clone()]))),
        Until(1),
        Update(of_generation(4, update(JobState::Running, vec![]))),
        Update(of_generation(4, update(JobState::Succeeded, vec![first, second]))),
    ]);
    let mut stream = job(&client).await.stream();
    assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [1]);
    scheduler.go();
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::RolledBack { .. }), "{error}");
    assert!(stream.next().await.is_none());
    scheduler.noted("cancel: its client could not read the result").await;
    assert!(!executor.reads.lock().unwrap().contains(&"p1".to_owned()));
}

#[tokio::test]
async fn a_partition_that_is_lost_alone_after_it_was_read_costs_nothing() {
    let (scheduler, executor, client) = setting(false).await;
    let (first, second) = (executor.holds_rows(0, &[1]), executor.holds_rows(1, &[2]));
    let again = v1::ResultPartition { ticket: "again".into(), ..first.clone() };
    scheduler.on_watch(vec![
        Update(update(JobState::Running, vec![first])),
        Until(1),
        Update(update(JobState::Running, vec![])),
        Update(update(JobState::Succeeded, vec![again, second])),
    ]);
    let mut stream = job(&client).await.stream();
    assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [1]);
    scheduler.go();
    assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [2]);
    assert!(stream.next().await.is_none());
}

/// A partition of one attempt, which breaks after two of its four rows, and where the leader says that it is then.
async fn broken_and_moved(attempt: &str) -> Result<Vec<i32>, ClientError> {
    let (scheduler, executor, client) = setting(false).await;
    let other = Executor::start().await;
    let of = |attempt: &str, place| v1::ResultPartition { attempt: attempt.into(), rows: 4, ..place };
    let first = of("1.5", executor.holds(0, vec![vec![OnFetch::Rows(vec![1, 2]), OnFetch::Break]]));
    let moved = of(attempt, other.holds_rows(0, &[1, 2, 3, 4]));
    scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![first]))]);
    scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![moved]))]);
    client.query("SELECT 1").await.map(|result| values(&result.batches))
}

#[tokio::test]
async fn a_result_that_was_handed_over_goes_on_from_the_same_row() {
    assert_eq!(broken_and_moved("1.5").await.unwrap(), [1, 2, 3, 4]);
    let error = broken_and_moved("1.6").await.unwrap_err();
    assert!(matches!(error, ClientError::Fetch { batches: 1, .. }), "another attempt's rows: {error}");
}

#[tokio::test]
async fn a_partition_that_nobody_has_begun_to_read_is_found_where_it_has_moved_to() {
    let (scheduler, executor, client) = setting(false).await;
    let other = Executor::start().await;
    let first = executor.holds(0, vec![vec![OnFetch::Break]]);
    let moved = other.holds_rows(0, &[1, 2]);
    assert_eq!(first.ticket, moved.ticket);
    scheduler.on_watch(vec![
        Update(update(JobState::Running, vec![first])),
        Until(1),
        Update(update(JobState::Succeeded, vec![moved])),
    ]);
    let stream = job(&client).await.stream();
    tokio::time::sleep(Duration::from_millis(50)).await;
    scheduler.go();
    let batches: Vec<_> = stream.try_collect().await.unwrap();
    assert_eq!(values(&batches), [1, 2]);
}

#[tokio::test]
async fn a_stream_that_is_dropped_cancels_and_releases_its_job() {
    let (scheduler, executor, client) = setting(false).await;
    let result = executor.holds(0, vec![vec![OnFetch::Endless]]);
    scheduler.on_watch(vec![Update(update(JobState::Running, vec![result])), Until(1)]);
    let mut stream = job(&client).await.stream();
    stream.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let sent = *executor.sent.lock().unwrap();
    assert!(sent < 1_000, "a reader that waits holds the executor back, but it sent {sent} batches");
    drop(stream);
    scheduler.noted("cancel: its client has left the result").await;
    scheduler.noted("release").await;
    client.settle().await;
}

#[tokio::test]
async fn readers_that_wait_do_not_hold_up_others_on_the_same_connection() {
    let (scheduler, executor) = (Scheduler::start().await, Executor::start().await);
    let client = client(&[&scheduler.address]);
    let endless = executor.holds(0, vec![vec![OnFetch::Endless]]);
    let mut waiting = Vec::new();
    for _ in 0..8 {
        scheduler.on_submit(OnSubmit::Answer(accepted(false)));
        scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![endless.clone()]))]);
        let mut stream = job(&client).await.stream();
        stream.next().await.unwrap().unwrap();
        waiting.push(stream);
    }
    // Until each has all that its windows take.
    tokio::time::sleep(Duration::from_millis(500)).await;
    scheduler.on_submit(OnSubmit::Answer(accepted(false)));
    let small = executor.holds_rows(1, &[1]);
    scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![small]))]);
    let result = tokio::time::timeout(Duration::from_secs(5), client.query("SELECT 1")).await;
    assert_eq!(values(&result.expect("held up").unwrap().batches), [1]);
}

#[tokio::test]
async fn a_stream_that_is_dropped_after_the_jobs_end_only_releases_it() {
    let (scheduler, executor, client) = setting(false).await;
    let result = executor.holds(0, vec![vec![OnFetch::Endless]]);
    scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![result]))]);
    let mut stream = job(&client).await.stream();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    scheduler.noted("release").await;
    client.settle().await;
    assert!(!scheduler.log().iter().any(|line| line.starts_with("cancel")));
}

#[tokio::test]
async fn a_failed_job_says_what_failed_and_where() {
    let (scheduler, _, client) = setting(false).await;
    let error = v1::JobError {
        class: v1::ErrorClass::User.into(),
        message: "Divide by zero".to_owned(),
        stage_id: Some(2),
        partition: Some(3),
        attempt: Some(v1::AttemptId { term: 1, counter: 9 }),
        executor_id: "e1".to_owned(),
    };
    scheduler
        .on_watch(vec![Update(v1::JobUpdate { error: Some(error), ..update(JobState::Failed, vec![]) })]);
    let error = client.query("SELECT 1/0").await.unwrap_err();
    let text = "query 0000000000000007 failed: Divide by zero \
        (user error, stage 2, task 3, attempt 1.9, executor e1)";
    assert_eq!(error.to_string(), text);
    let ClientError::JobFailed { error, .. } = error else { panic!("{error}") };
    assert_eq!((error.class, error.stage, error.task), (ErrorClass::User, Some(StageId(2)), Some(3)));
}

#[tokio::test]
async fn a_fetch_that_breaks_because_the_job_failed_shows_the_jobs_error() {
    let (scheduler, executor, client) = setting(false).await;
    let lost = executor.holds(0, vec![vec![OnFetch::Rows(vec![1]), OnFetch::Break]]);
    let error = v1::JobError { message: "the real one".to_owned(), ..Default::default() };
    scheduler.on_watch(vec![
        Update(update(JobState::Running, vec![lost])),
        Until(1),
        Update(v1::JobUpdate { error: Some(error), ..update(JobState::Failed, vec![]) }),
    ]);
    let mut stream = job(&client).await.stream();
    stream.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    scheduler.go();
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::JobFailed { .. }), "{error}");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_cancelled_job_says_why() {
    let (scheduler, _, client) = setting(false).await;
    let error = v1::JobError { message: "by request".to_owned(), ..Default::default() };
    scheduler
        .on_watch(vec![Update(v1::JobUpdate { error: Some(error), ..update(JobState::Cancelled, vec![]) })]);
    let error = client.query("SELECT 1").await.unwrap_err();
    assert!(matches!(error, ClientError::Cancelled { ref reason, .. } if reason == "by request"), "{error}");
}

#[tokio::test]
async fn a_forgotten_job_ends_the_watch() {
    let (_, _, client) = setting(false).await;
    let mut watch = job(&client).await.watch();
    assert!(matches!(watch.next().await, Some(Err(ClientError::NotFound { .. }))));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn explain_analyze_gets_its_profile_instead_of_the_rows() {
    let (scheduler, executor) = (Scheduler::start().await, Executor::start().await);
    let mut answer = accepted(false);
    if let Some(v1::submit_response::Answer::Job(job)) = &mut answer.answer {
        job.explain_analyze = true;
    }
    scheduler.on_submit(OnSubmit::Answer(answer));
    scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![executor.holds_rows(0, &[1])]))]);
    let client = super::fake::client(&[&scheduler.address]);
    assert_eq!(values(&client.query("EXPLAIN ANALYZE SELECT 1").await.unwrap().batches), [99]);
    assert!(executor.reads.lock().unwrap().is_empty());
    scheduler.noted("release").await;
}

#[test]
fn the_waits_fit_into_each_other() {
    assert!(limits::CALL_ATTEMPT_TIMEOUT < limits::CALL_DEADLINE);
    assert!(limits::SUBMIT_ATTEMPT_TIMEOUT < limits::SUBMIT_DEADLINE);
    assert!(limits::BACKOFF_MIN < limits::BACKOFF_MAX);
    assert!(limits::WATCH_SILENCE < limits::WATCH_PATIENCE);
}
