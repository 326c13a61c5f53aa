//! A leader that is lost, hangs, or has lost its majority.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use polybolos_proto::v1::{JobState, error_detail::Reason};
use tokio::time::{sleep, timeout};

use super::fake::{
    Executor, OnSubmit,
    OnWatch::{Until, Update},
    Scheduler, accepted, client, env, nowhere, refusal, update,
};
use crate::{Answer, Client, ClientError, SubmitOptions};

/// Longer than it takes to notice another leader, much shorter than an attempt.
const SOON: Duration = Duration::from_secs(3);

async fn three() -> ([Scheduler; 3], Client) {
    let replicas = [Scheduler::start().await, Scheduler::start().await, Scheduler::start().await];
    let client = client(&[&replicas[0].address, &replicas[1].address, &replicas[2].address]);
    (replicas, client)
}

fn within(deadline: Duration) -> SubmitOptions {
    SubmitOptions { deadline: Some(deadline), ..Default::default() }
}

#[tokio::test]
async fn a_submit_to_a_leader_that_hangs_is_repeated_at_the_next_one() {
    let ([old, new, third], client) = three().await;
    old.on_submit(OnSubmit::Answer(accepted(false))).on_submit(OnSubmit::Hang);
    client.submit("SELECT 1", SubmitOptions::default()).await.unwrap();
    new.on_submit(OnSubmit::Answer(accepted(false)));
    // One that was cut off together with it would have the client wait on.
    third.says_leader(&old.address, 4);
    new.says_leader(&new.address, 5);
    timeout(SOON, client.submit("SELECT 1", SubmitOptions::default())).await.unwrap().unwrap();
    let key = |log: Vec<String>| log.into_iter().rfind(|line| line.starts_with("submit")).unwrap();
    assert_eq!(key(old.log()), key(new.log()), "it is the same submit");
    assert!(third.log().iter().all(|line| line == "leader"), "{:?}", third.log());
}

#[tokio::test]
async fn a_leader_that_is_only_slow_is_waited_for() {
    let ([leader, other, third], client) = three().await;
    leader.on_submit(OnSubmit::Hang);
    for replica in [&leader, &other, &third] {
        replica.says_leader(&leader.address, 4);
    }
    let error = client.submit("SELECT 1", within(Duration::from_millis(1_800))).await.unwrap_err();
    assert!(matches!(error, ClientError::Deadline { .. }), "{error}");
    let submits = |of: &Scheduler| of.log().iter().filter(|line| line.starts_with("submit")).count();
    assert_eq!((submits(&leader), submits(&other), submits(&third)), (1, 0, 0));
    let asked = other.log().len();
    assert!((2..=4).contains(&asked), "every half second, not {asked} times");
    // The question dies with the call.
    sleep(Duration::from_millis(700)).await;
    assert_eq!(other.log().len(), asked);
}

#[tokio::test]
async fn a_single_replica_is_asked_nothing_while_it_works() {
    let only = Scheduler::start().await;
    only.on_submit(OnSubmit::Hang);
    let options = within(Duration::from_millis(1_300));
    client(&[&only.address]).submit("SELECT 1", options).await.unwrap_err();
    assert_eq!(only.log().len(), 1, "{:?}", only.log());
}

#[tokio::test]
async fn many_who_wait_share_their_questions() {
    let ([leader, other, _third], client) = three().await;
    other.says_leader(&leader.address, 4);
    let waiting = (0..20).map(|_| {
        leader.on_submit(OnSubmit::Hang);
        client.submit("SELECT 1", within(Duration::from_millis(1_300)))
    });
    futures::future::join_all(waiting).await;
    let asked = other.log().len();
    assert!((1..=4).contains(&asked), "{asked} questions");
}

#[tokio::test]
async fn a_watch_goes_on_at_the_next_leader_and_hands_out_each_row_once() {
    let ([old, new, third], client) = three().await;
    let executor = Executor::start().await;
    let (first, second) = (executor.holds_rows(0, &[1]), executor.holds_rows(1, &[2]));
    old.on_submit(OnSubmit::Answer(accepted(false)));
    old.on_watch(vec![Update(update(JobState::Running, vec![first.clone()])), Until(1)]);
    new.on_watch(vec![Update(update(JobState::Succeeded, vec![first, second]))]);
    for replica in [&new, &third] {
        replica.says_leader(&old.address, 4);
    }
    let Answer::Job(job) = client.submit("SELECT 1", SubmitOptions::default()).await.unwrap() else {
        panic!("no job")
    };
    let mut stream = job.stream();
    stream.next().await.unwrap().unwrap();
    // A query whose tasks are long is silent too.
    let silent = timeout(Duration::from_millis(1_200), stream.next()).await;
    assert!(silent.is_err(), "{silent:?}");
    assert!(new.log().iter().all(|line| line == "leader"), "{:?}", new.log());
    for replica in [&new, &third] {
        replica.says_leader(&new.address, 5);
    }
    let rest: Vec<_> = timeout(SOON, stream.try_collect()).await.unwrap().unwrap();
    assert_eq!(rest.len(), 1);
    new.noted("release").await;
    assert_eq!(executor.reads.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn without_a_quorum_a_submit_waits_until_its_deadline_and_says_why() {
    let (leader, dead, gone) = (Scheduler::start().await, nowhere().await, nowhere().await);
    for _ in 0..200 {
        leader.on_submit(OnSubmit::Refuse(refusal(Reason::NoQuorum, "")));
    }
    // Longer than the time after which a cluster without a leader is unreachable.
    let deadline = Duration::from_millis(900);
    let clock = env().clock;
    let started = clock.now();
    let error = client(&[&dead, &leader.address, &gone]).submit("SELECT 1", within(deadline)).await;
    let error = error.unwrap_err();
    let ClientError::NoQuorum { what: "the submit", waited, states, may_be_done: false } = &error else {
        panic!("{error}")
    };
    assert!(*waited >= deadline && clock.now() - started < SOON, "{waited:?}");
    assert_eq!(states, "NoQuorum");
    assert!(error.to_string().contains("nothing was done"), "{error}");
    let keys = leader.log();
    assert!(keys.len() > 3 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn a_submit_goes_through_when_the_quorum_returns() {
    let (leader, dead) = (Scheduler::start().await, nowhere().await);
    for _ in 0..5 {
        leader.on_submit(OnSubmit::Refuse(refusal(Reason::NoQuorum, "")));
    }
    leader.on_submit(OnSubmit::Answer(accepted(false)));
    client(&[&dead, &leader.address]).submit("SELECT 1", SubmitOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_without_a_quorum_may_have_been_done() {
    let leader = Scheduler::start().await;
    leader.on_submit(OnSubmit::Silence);
    for _ in 0..50 {
        leader.on_submit(OnSubmit::Refuse(refusal(Reason::NoQuorum, "")));
    }
    let error = client(&[&leader.address]).submit("SELECT 1", within(Duration::from_millis(300))).await;
    let error = error.unwrap_err();
    assert!(matches!(error, ClientError::NoQuorum { may_be_done: true, .. }), "{error}");
}

#[tokio::test]
async fn the_first_second_after_a_loss_is_searched_quickly() {
    let ([old, new, third], client) = three().await;
    old.on_submit(OnSubmit::Answer(accepted(false))).on_submit(OnSubmit::Silence);
    client.submit("SELECT 1", SubmitOptions::default()).await.unwrap();
    for replica in [&old, &new, &third] {
        for _ in 0..200 {
            replica.on_submit(OnSubmit::Refuse(refusal(Reason::NotLeader, "")));
        }
    }
    let error = client.submit("SELECT 1", within(Duration::from_secs(1))).await.unwrap_err();
    assert!(matches!(error, ClientError::Deadline { .. }), "{error}");
    let asked = new.log().len();
    assert!((9..60).contains(&asked), "asked {asked} times within a second");
}
