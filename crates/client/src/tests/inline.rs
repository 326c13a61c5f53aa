//! Rows that come with the place of their partition.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int32Array},
    record_batch::RecordBatch,
};
use arrow_ipc::writer::StreamWriter;
use futures::{StreamExt, TryStreamExt};
use polybolos_proto::v1::{self, JobState, ResultPartition};

use super::{
    fake::{
        OnFetch, OnSubmit,
        OnWatch::{Until, Update},
        Scheduler, accepted, client, hangs, ipc, rows, update,
    },
    streaming::{job, of_generation, setting, values},
};

fn with_rows(place: ResultPartition, numbers: &[i32]) -> ResultPartition {
    let stream = ipc(&[rows(numbers)]).into();
    ResultPartition { arrow_stream: Some(stream), rows: numbers.len() as u64, ..place }
}

/// A place that nobody serves.
fn only_rows(partition: u32, numbers: &[i32]) -> ResultPartition {
    let (address, ticket) = ("127.0.0.1:1".to_owned(), format!("p{partition}").into());
    with_rows(ResultPartition { partition, address, ticket, ..Default::default() }, numbers)
}

#[tokio::test]
async fn rows_that_come_with_the_answer_are_neither_watched_for_nor_fetched() {
    let scheduler = Scheduler::start().await;
    let mut answer = accepted(false);
    let Some(v1::submit_response::Answer::Job(job)) = &mut answer.answer else { panic!("no job") };
    job.ended = Some(update(JobState::Succeeded, vec![only_rows(0, &[1, 2])]));
    scheduler.on_submit(OnSubmit::Answer(answer));
    let result = client(&[&scheduler.address]).query("SELECT 1").await.unwrap();
    assert_eq!(values(&result.batches), [1, 2]);
    scheduler.noted("release").await;
    assert!(!scheduler.log().iter().any(|line| line.starts_with("watch")), "{:?}", scheduler.log());
}

#[tokio::test]
async fn some_partitions_come_and_others_are_fetched_in_order() {
    let (scheduler, executor, client) = setting(true).await;
    let results = vec![only_rows(0, &[1, 2]), executor.holds_rows(1, &[3, 4]), only_rows(2, &[5])];
    scheduler.on_watch(vec![Update(update(JobState::Succeeded, results))]);
    assert_eq!(values(&client.query("SELECT 1 ORDER BY 1").await.unwrap().batches), [1, 2, 3, 4, 5]);
    assert_eq!(*executor.reads.lock().unwrap(), ["p1"]);
}

/// Each watch tells them once, also of a partition that has to wait for its turn.
#[tokio::test]
async fn rows_are_kept_though_a_later_update_does_not_tell_them_again() {
    let (scheduler, executor, client) = setting(true).await;
    let (late, early) = (executor.holds_rows(0, &[1]), only_rows(1, &[2]));
    let bare = ResultPartition { arrow_stream: None, ..early.clone() };
    scheduler.on_watch(vec![
        Update(update(JobState::Running, vec![early])),
        Update(update(JobState::Running, vec![bare.clone()])),
        Until(1),
        Update(update(JobState::Succeeded, vec![late, bare])),
    ]);
    let mut stream = job(&client).await.stream();
    scheduler.go();
    assert_eq!(values(&[stream.next().await.unwrap().unwrap()]), [1]);
    assert_eq!(values(&stream.try_collect::<Vec<_>>().await.unwrap()), [2]);
}

#[tokio::test]
async fn rows_that_are_not_right_are_fetched() {
    let whole = ipc(&[rows(&[1, 2])]);
    let column: ArrayRef = Arc::new(Int32Array::from(vec![7, 8]));
    let other = RecordBatch::try_from_iter([("n", Arc::clone(&column)), ("m", column)]).unwrap();
    let mut two_columns = StreamWriter::try_new(vec![], &other.schema()).unwrap();
    two_columns.write(&other).unwrap();
    let broken = [
        vec![],
        b"no stream of Arrow's".to_vec(),
        whole[..whole.len() / 2].to_vec(),
        ipc(&[rows(&[7])]),
        ipc(&[rows(&[7, 8, 9])]),
        two_columns.into_inner().unwrap(),
    ];
    for stream in broken {
        let (scheduler, executor, client) = setting(false).await;
        let place = executor.holds(0, vec![vec![OnFetch::Rows(vec![1]), OnFetch::Rows(vec![2])]]);
        let place = ResultPartition { rows: 2, arrow_stream: Some(stream.into()), ..place };
        scheduler.on_watch(vec![Update(update(JobState::Succeeded, vec![place]))]);
        assert_eq!(values(&client.query("SELECT 1").await.unwrap().batches), [1, 2]);
        assert_eq!(executor.reads.lock().unwrap().len(), 1);
    }
}

/// The second partition waits for the first one, which hangs, and both are made anew.
#[tokio::test]
async fn of_rows_that_were_rolled_back_nothing_is_handed_out() {
    let (scheduler, executor, client) = setting(true).await;
    let (_listener, address) = hangs().await;
    let stuck = ResultPartition { address, ..executor.holds_rows(0, &[1]) };
    let anew = vec![
        ResultPartition { partition: 0, ..executor.holds_rows(2, &[10]) },
        ResultPartition { ticket: "again".into(), ..only_rows(1, &[20]) },
    ];
    scheduler.on_watch(vec![
        Update(update(JobState::Running, vec![stuck, only_rows(1, &[2])])),
        Until(1),
        Update(of_generation(1, update(JobState::Succeeded, anew))),
    ]);
    let stream = job(&client).await.stream();
    scheduler.noted("watch").await;
    scheduler.go();
    assert_eq!(values(&stream.try_collect::<Vec<_>>().await.unwrap()), [10, 20]);
}
