//! Submits that another replica than the leader plans.

use polybolos_proto::v1::{self, error_detail::Reason};

use super::fake::{OnSubmit, OnWatch, Scheduler, accepted, client, elsewhere, nowhere, refusal, update};
use crate::{Answer, Client, ClientError, SubmitOptions};

fn keyed(key: &str, any_replica: bool) -> SubmitOptions {
    SubmitOptions { key: Some(key.parse().unwrap()), any_replica, ..SubmitOptions::default() }
}

async fn submit(client: &Client, options: SubmitOptions) -> Answer {
    client.submit("SELECT 1", options).await.unwrap()
}

/// As a follower answers that has served through the leader.
fn through(leader: &Scheduler) -> OnSubmit {
    OnSubmit::Answer(v1::SubmitResponse { leader: leader.address.clone(), ..accepted(false) })
}

#[tokio::test]
async fn a_busy_leader_has_another_replica_plan() {
    let (leader, follower) = (Scheduler::start().await, Scheduler::start().await);
    leader.on_submit(OnSubmit::Answer(elsewhere())).on_submit(OnSubmit::Answer(accepted(false)));
    follower.on_submit(through(&leader));
    follower.says_leader(&leader.address, 1);
    let client = client(&[&leader.address, &follower.address]);
    submit(&client, keyed("a", false)).await;
    submit(&client, keyed("b", false)).await;
    assert_eq!(leader.log(), ["submit a", "submit b"], "the leader is asked first again");
    assert_eq!(follower.log(), ["submit a at any"]);
}

#[tokio::test]
async fn what_another_replica_can_not_do_the_leader_does() {
    let (leader, follower) = (Scheduler::start().await, Scheduler::start().await);
    for what in [
        OnSubmit::Refuse(refusal(Reason::NotLeader, &leader.address)),
        OnSubmit::Refuse(refusal(Reason::Busy, "")),
        OnSubmit::Silence,
        OnSubmit::Hang,
    ] {
        let (leader, follower) = (Scheduler::start().await, Scheduler::start().await);
        leader.on_submit(OnSubmit::Answer(elsewhere())).on_submit(OnSubmit::Answer(accepted(false)));
        follower.on_submit(what);
        let client = client(&[&leader.address, &follower.address]);
        submit(&client, keyed("a", false)).await;
        assert_eq!(leader.log().iter().filter(|line| line.starts_with("submit")).count(), 2);
        assert_eq!(leader.log().last().map(String::as_str), Some("submit a at the leader"));
    }
    let dead = nowhere().await;
    leader.on_submit(OnSubmit::Answer(elsewhere())).on_submit(OnSubmit::Answer(accepted(false)));
    submit(&client(&[&leader.address, &dead]), keyed("a", false)).await;
    // A statement that is wrong is wrong everywhere.
    leader.on_submit(OnSubmit::Answer(elsewhere()));
    follower.on_submit(OnSubmit::Refuse(refusal(Reason::Statement, "")));
    let wrong = client(&[&leader.address, &follower.address]).submit("SELEC", keyed("b", false)).await;
    assert!(matches!(wrong, Err(ClientError::Statement { .. })), "{wrong:?}");
}

#[tokio::test]
async fn replicas_plan_in_turn_if_the_submit_says_so_and_one_that_fails_is_passed_over() {
    let (first, second) = (Scheduler::start().await, Scheduler::start().await);
    let client = client(&[&first.address, &second.address]);
    first.on_submit(OnSubmit::Answer(accepted(false)));
    second.on_submit(through(&first)).on_submit(OnSubmit::Refuse(refusal(Reason::NotLeader, &first.address)));
    for key in ["a", "b"] {
        submit(&client, keyed(key, true)).await;
    }
    assert_eq!(
        (first.log(), second.log()),
        (vec!["submit a at any".to_owned()], vec!["submit b at any".to_owned()])
    );
    for _ in 0..4 {
        first.on_submit(OnSubmit::Answer(accepted(false)));
    }
    for key in ["c", "d", "e"] {
        submit(&client, keyed(key, true)).await;
    }
    assert_eq!(second.log().len(), 2, "{:?}", second.log());
    assert_eq!(first.log()[1..], ["submit c at any", "submit d at the leader", "submit e at any"]);
}

#[tokio::test]
async fn one_address_is_enough_and_the_leader_that_it_names_is_used() {
    let (leader, follower) = (Scheduler::start().await, Scheduler::start().await);
    follower.on_submit(through(&leader));
    leader.on_watch(vec![OnWatch::Update(update(v1::JobState::Succeeded, vec![]))]);
    let client = client(&[&follower.address]);
    let Answer::Job(job) = submit(&client, keyed("a", false)).await else { panic!("no job") };
    let _rows = futures::StreamExt::collect::<Vec<_>>(job.stream()).await;
    assert_eq!(follower.log(), ["submit a at any"]);
    assert!(leader.log().iter().any(|line| line.starts_with("watch")), "{:?}", leader.log());
}
