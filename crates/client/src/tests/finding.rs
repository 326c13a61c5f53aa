//! Finding the leader, repeating a submit, and telling errors apart.

use std::time::Duration;

use polybolos_model::{JobId, limits::MAX_SQL_BYTES};
use polybolos_proto::v1::{self, error_detail::Reason};
use tonic::Status;

use super::fake::{OnSubmit, Scheduler, accepted, client, env, ipc, nowhere, refusal, rows};
use crate::{Answer, Client, ClientError, SubmitOptions};

#[tokio::test]
async fn a_lost_answer_is_repeated_with_the_same_key() {
    let scheduler = Scheduler::start().await;
    scheduler
        .on_submit(OnSubmit::Silence)
        .on_submit(OnSubmit::Silence)
        .on_submit(OnSubmit::Answer(accepted(false)));
    let answer = client(&[&scheduler.address]).submit("SELECT 1", SubmitOptions::default()).await.unwrap();
    let Answer::Job(job) = answer else { panic!("no job") };
    assert_eq!(job.id(), JobId(7));
    let log = scheduler.log();
    assert_eq!(log.len(), 3);
    assert!(log[0].len() > "submit ".len() + 16, "{log:?}");
    assert!(log.iter().all(|line| *line == log[0]), "{log:?}");
}

#[tokio::test]
async fn two_submits_have_two_keys_and_a_given_key_is_kept() {
    let scheduler = Scheduler::start().await;
    let client = client(&[&scheduler.address]);
    for _ in 0..3 {
        scheduler.on_submit(OnSubmit::Answer(accepted(false)));
    }
    client.submit("SELECT 1", SubmitOptions::default()).await.unwrap();
    client.submit("SELECT 1", SubmitOptions::default()).await.unwrap();
    let key = Some("mine".parse().unwrap());
    client.submit("SELECT 1", SubmitOptions { key, ..Default::default() }).await.unwrap();
    let log = scheduler.log();
    assert_ne!(log[0], log[1]);
    assert_eq!(log[2], "submit mine at any", "there is no other replica");
}

#[tokio::test]
async fn the_named_leader_is_asked_and_remembered() {
    let (follower, leader) = (Scheduler::start().await, Scheduler::start().await);
    let not_me = refusal(Reason::NotLeader, &leader.address);
    follower.on_submit(OnSubmit::Refuse(not_me));
    leader.on_submit(OnSubmit::Answer(accepted(false))).on_submit(OnSubmit::Answer(accepted(false)));
    // The leader is not among the given addresses.
    let dead = nowhere().await;
    let client = client(&[&dead, &follower.address]);
    client.submit("SELECT 1", SubmitOptions::default()).await.unwrap();
    client.submit("SELECT 1", SubmitOptions::default()).await.unwrap();
    assert_eq!(follower.log().len(), 1);
    assert_eq!(leader.log().len(), 2);
}

#[tokio::test]
async fn a_lost_leader_is_searched_among_the_addresses() {
    let (first, second) = (Scheduler::start().await, Scheduler::start().await);
    first.on_submit(OnSubmit::Answer(accepted(false))).on_submit(OnSubmit::Silence);
    // An election is under way when the second is asked first.
    second
        .on_submit(OnSubmit::Refuse(refusal(Reason::NotLeader, "")))
        .on_submit(OnSubmit::Answer(accepted(false)));
    first.on_submit(OnSubmit::Refuse(refusal(Reason::NotLeader, "")));
    first.on_submit(OnSubmit::Refuse(refusal(Reason::NotLeader, "")));
    let client = client(&[&first.address, &second.address]);
    client.submit("SELECT 1", SubmitOptions::default()).await.unwrap();
    client.submit("SELECT 1", SubmitOptions::default()).await.unwrap();
    assert_eq!(second.log().len(), 2);
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let (a, b) = (nowhere().await, nowhere().await);
    let error = client(&[&a, &b]).query("SELECT 1").await.unwrap_err();
    let ClientError::Unreachable { addresses, last } = error else { panic!("{error}") };
    assert_eq!(addresses, [a, b]);
    assert!(last.contains("refused"), "{last}");
    assert!(matches!(Client::connect(vec![], env()), Err(ClientError::Unreachable { .. })));
}

#[tokio::test]
async fn a_submit_without_any_answer_has_an_unknown_outcome() {
    let scheduler = Scheduler::start().await;
    for _ in 0..100 {
        scheduler.on_submit(OnSubmit::Silence);
    }
    let options = SubmitOptions { deadline: Some(Duration::from_millis(300)), ..Default::default() };
    let error = client(&[&scheduler.address]).submit("INSERT", options).await.unwrap_err();
    assert!(matches!(error, ClientError::Deadline { .. }), "{error}");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let scheduler = Scheduler::start().await;
    let client = client(&[&scheduler.address]);
    scheduler.on_submit(OnSubmit::Refuse(refusal(Reason::Statement, "")));
    assert!(
        matches!(client.query("SELEC").await, Err(ClientError::Statement { message }) if message == "Statement")
    );
    scheduler.on_submit(OnSubmit::Refuse(refusal(Reason::TooLarge, "")));
    assert!(matches!(client.query("SELECT 1").await, Err(ClientError::TooLarge { .. })));
    scheduler.on_submit(OnSubmit::Refuse(Status::invalid_argument("no statement")));
    assert!(matches!(client.query("SELECT 1").await, Err(ClientError::Protocol { .. })));
    assert!(matches!(client.job(JobId(7)).await, Err(ClientError::NotFound { job: JobId(7) })));
    assert_eq!(scheduler.log().len(), 3, "nothing is tried twice");
}

#[tokio::test]
async fn a_busy_cluster_is_asked_again() {
    let scheduler = Scheduler::start().await;
    scheduler
        .on_submit(OnSubmit::Refuse(refusal(Reason::Busy, "")))
        .on_submit(OnSubmit::Answer(accepted(false)));
    client(&[&scheduler.address]).submit("SELECT 1", SubmitOptions::default()).await.unwrap();
    assert_eq!(scheduler.log().len(), 2);
}

#[tokio::test]
async fn a_cluster_that_stays_busy_is_asked_at_pauses_that_grow() {
    let scheduler = Scheduler::start().await;
    for _ in 0..4 {
        scheduler.on_submit(OnSubmit::Refuse(refusal(Reason::Busy, "")));
    }
    scheduler.on_submit(OnSubmit::Answer(accepted(false)));
    let start = env().clock.now();
    client(&[&scheduler.address]).submit("SELECT 1", SubmitOptions::default()).await.unwrap();
    // At least the half of 80, 160, 320 and 640 ms.
    let waited = env().clock.now() - start;
    assert!(waited >= Duration::from_millis(600), "{waited:?}");
    assert_eq!(scheduler.log().len(), 5);
}

#[tokio::test]
async fn a_text_over_the_limit_is_not_sent() {
    let scheduler = Scheduler::start().await;
    let client = client(&[&scheduler.address]);
    let error = client.query("x".repeat(MAX_SQL_BYTES + 1)).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. }), "{error}");
    let plan = crate::Statement::LogicalPlan(vec![0; 16 * 1024 * 1024].into());
    assert!(matches!(client.query(plan).await, Err(ClientError::TooLarge { .. })));
    assert!(scheduler.log().is_empty());
}

#[tokio::test]
async fn an_inline_answer_and_the_small_calls() {
    let scheduler = Scheduler::start().await;
    let client = client(&[&scheduler.address]);
    let inline = v1::InlineResult { arrow_stream: ipc(&[rows(&[1, 2])]).into() };
    let answer = v1::submit_response::Answer::Inline(inline);
    scheduler.on_submit(OnSubmit::Answer(v1::SubmitResponse { answer: Some(answer), ..Default::default() }));
    assert_eq!(client.query("SHOW TABLES").await.unwrap().num_rows(), 2);
    assert_eq!(client.relations().await.unwrap(), ["t"]);
    assert_eq!(client.jobs().await.unwrap().len(), 1);
    assert_eq!(client.status().await.unwrap().cluster_id, "fake");
    client.close_session(&"s1".parse().unwrap()).await.unwrap();
    client.cancel(JobId(7), "why not").await.unwrap();
    let log = scheduler.log();
    assert_eq!(log[1..], ["list jobs, stale: false", "close s1", "cancel: why not"]);
}
