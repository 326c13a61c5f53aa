//! A real replica on loopback, with scripted executors and a plain tonic client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

#[path = "it/anywhere.rs"]
mod anywhere;
#[path = "it/early.rs"]
mod early;
#[path = "it/executor.rs"]
mod executor;
#[path = "it/failover.rs"]
mod failover;
#[path = "it/harness.rs"]
mod harness;
#[path = "it/inline.rs"]
mod inline;
#[path = "it/loss.rs"]
mod loss;
#[path = "it/operating.rs"]
mod operating;
#[path = "it/reopen.rs"]
mod reopen;
#[path = "it/requests.rs"]
mod requests;
#[path = "it/script.rs"]
mod script;
#[path = "it/standing.rs"]
mod standing;
#[path = "it/writes.rs"]
mod writes;

use std::time::{Duration, Instant};

use executor::FakeExecutor;
use harness::{Harness, reason, sql};
use polybolos_model::limits::{MAX_MESSAGE_BYTES, MAX_SQL_BYTES};
use polybolos_proto::v1::{
    CancelRequest, ClusterStatusRequest, ErrorClass, FetchFailure, GetJobRequest, JobState, ListJobsRequest,
    ListRelationsRequest, ProfileRequest, ReleaseRequest, ShuffleTicket, SubmitRequest, WatchRequest,
    error_detail::Reason, submit_response::Answer,
};
use prost::Message;
use tonic::Code;

#[tokio::test]
async fn a_query_is_submitted_watched_completed_and_released() {
    let mut harness = Harness::start().await;
    let mut executor = FakeExecutor::attach(&harness, "e1", 1).await;
    let job = harness.job("SELECT 1").await;
    let mut watch = harness.watch(&job.job_id).await;
    let launch = executor.launch().await;
    assert_eq!(launch.job_id, job.job_id);
    assert_eq!(
        executor.prepared[&(job.job_id.clone(), 0)].options["datafusion.optimizer.enable_round_robin_repartition"],
        "false"
    );
    assert!(!executor.prepared[&(job.job_id.clone(), 0)].plan.is_empty());
    executor.complete(&launch, 0, 3).await;
    let last = harness::last(&mut watch).await;
    assert_eq!(last.state(), JobState::Succeeded);
    let ticket = ShuffleTicket::decode(last.results[0].ticket.clone()).unwrap();
    assert_eq!((ticket.job_id, ticket.attempt), (job.job_id.clone(), launch.tasks[0].attempt));
    assert_eq!((last.results[0].address.as_str(), last.results[0].rows), ("e1:1", 3));
    assert_eq!(executor.committed().await, vec![1]);
    harness.query.release(ReleaseRequest { job_id: job.job_id.clone() }).await.unwrap();
    assert_eq!(executor.released().await, job.job_id);
    let detail = harness
        .query
        .get_job(GetJobRequest { job_id: job.job_id.clone(), stale: false })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(detail.stages[0].tasks[0].state, "done");
    assert_eq!(detail.stages[0].tasks[0].executor_id, "e1");
    let jobs = harness.query.list_jobs(ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!((jobs.len(), jobs[0].sql.as_str()), (1, "SELECT 1"));
    harness.stop().await;
}

#[tokio::test]
async fn the_first_update_comes_at_once_and_tells_what_waits() {
    let mut harness = Harness::start().await;
    let job = harness.job("SELECT 1").await;
    let mut watch = harness.watch(&job.job_id).await;
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!((first.state(), first.stages[0].running), (JobState::Queued, 0));
    let mut executor = FakeExecutor::attach(&harness, "e1", 1).await;
    executor.launch().await;
    let mut next = watch.message().await.unwrap().unwrap();
    // Meanwhile it may have been told that no executor takes it.
    while next.state() == JobState::Queued {
        next = watch.message().await.unwrap().unwrap();
    }
    assert_eq!((next.state(), next.stages[0].running), (JobState::Running, 1));
    harness.stop().await;
}

#[tokio::test]
async fn the_same_key_is_the_same_job() {
    let mut harness = Harness::start().await;
    let request = SubmitRequest { idempotency_key: "k".to_owned(), ..sql("SELECT 1") };
    let first = harness.submit_job(request.clone()).await;
    assert_eq!(harness.submit_job(request.clone()).await, first);
    let (one, two) = (harness.query.clone(), harness.query.clone());
    let other = SubmitRequest { idempotency_key: "l".to_owned(), ..sql("SELECT 2") };
    let (one, two) = tokio::join!(submit(one, other.clone()), submit(two, other));
    assert_eq!(one, two);
    assert_eq!(harness.query.list_jobs(ListJobsRequest::default()).await.unwrap().into_inner().jobs.len(), 2);
    harness.stop().await;
}

async fn submit(mut query: harness::Query, request: SubmitRequest) -> Option<Answer> {
    query.submit(request).await.unwrap().into_inner().answer
}

#[tokio::test]
async fn a_cancelled_job_stops_its_tasks_and_frees_their_slot() {
    let mut harness = Harness::start().await;
    let mut executor = FakeExecutor::attach(&harness, "e1", 1).await;
    let job = harness.job("SELECT 1").await;
    let launch = executor.launch().await;
    let cancel = CancelRequest { job_id: job.job_id.clone(), reason: "enough".to_owned() };
    harness.query.cancel(cancel.clone()).await.unwrap();
    assert_eq!(executor.released().await, job.job_id);
    let last = harness::last(&mut harness.watch(&job.job_id).await).await;
    assert_eq!(last.state(), JobState::Cancelled);
    assert_eq!(last.error.unwrap().message, "enough");
    // The slot is free, and a late report of the old attempt is acknowledged and thrown away.
    let next = harness.job("SELECT 2").await;
    assert_eq!(executor.launch().await.job_id, next.job_id);
    executor.complete(&launch, 0, 1).await;
    assert_eq!(executor.committed().await, vec![1]);
    assert_eq!(executor.deleted, vec![launch.tasks[0].attempt.unwrap()]);
    harness.query.cancel(cancel).await.unwrap();
    harness.stop().await;
}

#[tokio::test]
async fn jobs_share_the_slots_fairly() {
    let mut harness = Harness::start().await;
    let table = harness.partitioned_table("t", 4).await;
    harness.session_job(&format!("SELECT * FROM {table}")).await;
    harness.session_job(&format!("SELECT a FROM {table}")).await;
    let mut executor = FakeExecutor::attach(&harness, "e1", 2).await;
    let (one, two) = (executor.launch().await, executor.launch().await);
    assert_eq!((one.tasks.len(), two.tasks.len()), (1, 1), "one slot for each job");
    assert_ne!(one.job_id, two.job_id);
    executor.complete(&one, 0, 1).await;
    let next = executor.launch().await;
    assert_eq!(
        (next.job_id, next.tasks.len()),
        (one.job_id, 1),
        "the freed slot goes to the job that has none"
    );
    harness.stop().await;
}

#[tokio::test]
async fn a_failed_task_is_tried_again_and_a_user_error_ends_the_job() {
    let mut harness = Harness::start().await;
    let mut executor = FakeExecutor::attach(&harness, "e1", 1).await;
    let job = harness.job("SELECT 1").await;
    let launch = executor.launch().await;
    executor.fail(&launch, 0, ErrorClass::Retryable, "connection reset", None).await;
    let again = executor.launch().await;
    assert_ne!(again.tasks[0].attempt, launch.tasks[0].attempt);
    executor.fail(&again, 0, ErrorClass::User, "Divide by zero", None).await;
    let last = harness::last(&mut harness.watch(&job.job_id).await).await;
    let error = last.error.unwrap();
    assert_eq!((last.state, error.message.as_str()), (JobState::Failed.into(), "Divide by zero"));
    assert_eq!((error.stage_id, error.partition, error.executor_id.as_str()), (Some(0), Some(0), "e1"));
    assert_eq!(error.attempt, again.tasks[0].attempt);
    harness.stop().await;
}

#[tokio::test]
async fn a_stage_runs_when_its_inputs_are_complete_and_again_when_they_are_lost() {
    let mut harness = Harness::start().await;
    let table = harness.partitioned_table("t", 2).await;
    let job = harness.session_job(&format!("SELECT a, count(*) FROM {table} GROUP BY a")).await;
    let mut executor = FakeExecutor::attach(&harness, "e1", 4).await;
    let maps = executor.launch().await;
    assert_eq!((maps.stage_id, maps.tasks.len()), (0, 2));
    executor.complete_wide(&maps, 0, 5, 2).await;
    executor.complete_wide(&maps, 1, 5, 2).await;
    let reduces = executor.launch().await;
    assert_eq!((reduces.stage_id, reduces.epoch, reduces.tasks.len()), (1, 0, 2));
    let inputs = &executor.prepared[&(job.job_id.clone(), 1)].inputs[0];
    assert_eq!((inputs.stage_id, inputs.maps.len()), (0, 2));
    assert_eq!(inputs.maps[1].attempt, maps.tasks[1].attempt);
    assert_eq!(inputs.maps[1].outputs.len(), 2);
    let lost = FetchFailure {
        executor_id: "e1".to_owned(),
        stage_id: 0,
        map_partition: 1,
        attempt: maps.tasks[1].attempt,
    };
    executor.fail(&reduces, 0, ErrorClass::Retryable, "gone", Some(lost)).await;
    let rerun = executor.launch().await;
    assert_eq!(rerun.stage_id, 0);
    for index in 0..rerun.tasks.len() {
        executor.complete_wide(&rerun, index, 5, 2).await;
    }
    let again = executor.launch().await;
    assert_eq!(again.stage_id, 1);
    assert!(again.epoch > 0, "inputs moved");
    let told = &executor.prepared[&(job.job_id.clone(), 1)];
    assert_eq!(told.epoch, again.epoch);
    assert_eq!(told.inputs[0].maps[1].attempt, rerun.tasks.last().unwrap().attempt);
    harness.stop().await;
}

#[tokio::test]
async fn readers_of_rows_that_a_second_run_does_not_repeat_run_again() {
    let mut harness = Harness::start().await;
    let table = harness.partitioned_table("t", 2).await;
    let sql = format!("SELECT r, count(*) FROM (SELECT a + random() AS r FROM {table}) GROUP BY r");
    let job = harness.session_job(&sql).await;
    let mut executor = FakeExecutor::attach(&harness, "e1", 4).await;
    let maps = executor.launch().await;
    executor.complete_wide(&maps, 0, 5, 2).await;
    executor.complete_wide(&maps, 1, 5, 2).await;
    let reduces = executor.launch().await;
    assert_eq!((reduces.stage_id, reduces.epoch, reduces.tasks.len()), (1, 0, 2));
    let attempt = maps.tasks[1].attempt;
    let lost = FetchFailure { executor_id: "e1".to_owned(), stage_id: 0, map_partition: 1, attempt };
    executor.fail(&reduces, 0, ErrorClass::Retryable, "gone", Some(lost)).await;
    // It has read all that it wanted, and comes too late.
    executor.complete(&reduces, 1, 5).await;
    let rerun = executor.launch().await;
    assert_eq!((rerun.stage_id, rerun.tasks.len()), (0, 2));
    executor.complete_wide(&rerun, 0, 5, 2).await;
    executor.complete_wide(&rerun, 1, 5, 2).await;
    let mut again = executor.launch().await;
    // The one that failed waits a moment longer, perhaps.
    while again.tasks.len() < 2 {
        let more = executor.launch().await;
        again.tasks.extend(more.tasks);
    }
    assert_eq!((again.stage_id, again.epoch), (1, 1));
    executor.complete(&again, 0, 5).await;
    executor.complete(&again, 1, 5).await;
    let last = harness::last(&mut harness.watch(&job.job_id).await).await;
    assert_eq!((last.state(), last.result_generation), (JobState::Succeeded, 1));
    harness.stop().await;
}

#[tokio::test]
async fn a_report_that_makes_no_sense_fails_the_job_instead_of_repeating_it() {
    let mut harness = Harness::start().await;
    let mut executor = FakeExecutor::attach(&harness, "e1", 1).await;
    let job = harness.job("SELECT 1").await;
    let launch = executor.launch().await;
    executor.complete_wide(&launch, 0, 1, 3).await;
    let last = harness::last(&mut harness.watch(&job.job_id).await).await;
    let error = last.error.unwrap();
    assert_eq!((error.class(), last.state), (ErrorClass::Internal, JobState::Failed.into()));
    assert!(error.message.contains("3 output partitions instead of 1"), "{}", error.message);
    harness.stop().await;
}

#[tokio::test]
async fn an_executor_that_comes_back_keeps_its_attempts() {
    let mut harness = Harness::start().await;
    let mut executor = FakeExecutor::attach(&harness, "e1", 1).await;
    let job = harness.job("SELECT 1").await;
    let launch = executor.launch().await;
    let incarnation = executor.incarnation;
    let mut executor = executor.reattach(&harness, &[&launch]).await;
    assert_eq!(executor.incarnation, incarnation);
    executor.complete(&launch, 0, 1).await;
    let last = harness::last(&mut harness.watch(&job.job_id).await).await;
    assert_eq!(last.state(), JobState::Succeeded);
    harness.stop().await;
}

#[tokio::test]
async fn a_silent_executor_is_lost_and_its_task_runs_elsewhere() {
    let mut harness = Harness::start().await;
    let mut first = FakeExecutor::attach(&harness, "e1", 1).await;
    let job = harness.job("SELECT 1").await;
    first.launch().await;
    drop(first);
    let mut second = FakeExecutor::attach(&harness, "e2", 1).await;
    let launch = second.launch().await;
    assert_eq!(launch.job_id, job.job_id);
    let status = harness.query.cluster_status(ClusterStatusRequest::default()).await.unwrap().into_inner();
    let states: Vec<_> =
        status.executors.iter().map(|e| (e.executor_id.as_str(), e.state.as_str())).collect();
    assert_eq!(states, [("e1", "lost"), ("e2", "live")]);
    assert_eq!((status.executors[1].busy_slots, status.replicas[0].leader), (1, true));
    harness.stop().await;
}

#[tokio::test]
async fn a_second_process_of_one_name_is_refused_while_the_first_lives() {
    let harness = Harness::start().await;
    let _first = FakeExecutor::attach(&harness, "e1", 1).await;
    let refused = FakeExecutor::refused(&harness, "e1", "elsewhere:1").await;
    assert!(refused.retry && refused.reason.contains("e1"), "{refused:?}");
    let refused = FakeExecutor::refused(&harness, "bad name", "x:1").await;
    assert!(!refused.retry && refused.reason.contains("bad name"), "{refused:?}");
    harness.stop().await;
}
