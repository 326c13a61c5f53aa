//! Calls that change the set of replicas, let an executor go, or take something out of a cluster.

use std::time::Duration;

use polybolos_model::{ExecutorId, Incarnation, JobId, ReplicaId, Term};
use polybolos_proto::v1::error_detail::Reason;
use tonic::Status;

use super::fake::{BACKUP, Scheduler, client, refusal};
use crate::{ClientError, Consistency};

#[tokio::test]
async fn an_operation_follows_the_hint_and_is_repeated_when_its_answer_is_lost() {
    let (follower, leader) = (Scheduler::start().await, Scheduler::start().await);
    follower.on_operation(Err(refusal(Reason::NotLeader, &leader.address)));
    leader.on_operation(Err(Status::unavailable("the connection was reset"))).on_operation(Ok(()));
    let client = client(&[&follower.address]);
    client.add_replica(ReplicaId(4), "h:4").await.unwrap();
    client.remove_replica(ReplicaId(1)).await.unwrap();
    assert_eq!(client.transfer_leadership(Some(ReplicaId(2))).await.unwrap(), (ReplicaId(2), Term(9)));
    assert_eq!(client.transfer_leadership(None).await.unwrap().0, ReplicaId(0));
    // Once anew by the hint of the follower, which is asked when the leader was lost.
    assert_eq!(follower.log(), ["add 4 at h:4", "add 4 at h:4"]);
    let done = ["add 4 at h:4", "add 4 at h:4", "remove 1", "transfer to 2", "transfer to 0"];
    assert_eq!(leader.log(), done);
}

#[tokio::test]
async fn whoever_was_elected_instead_of_the_successor_is_asked_to_hand_over_too() {
    let leader = Scheduler::start().await;
    leader.on_transfer(1);
    let client = client(&[&leader.address]);
    assert_eq!(client.transfer_leadership(Some(ReplicaId(4))).await.unwrap().0, ReplicaId(4));
    assert_eq!(leader.log(), ["transfer to 4", "transfer to 4"]);
    // Not for ever, and whoever leads is named.
    leader.on_transfer(1).on_transfer(2).on_transfer(3);
    assert_eq!(client.transfer_leadership(Some(ReplicaId(4))).await.unwrap().0, ReplicaId(3));
    assert_eq!(leader.log().len(), 5);
    leader.on_transfer(2);
    assert_eq!(client.transfer_leadership(None).await.unwrap().0, ReplicaId(2));
}

#[tokio::test]
async fn a_refusal_is_final_and_in_the_clusters_words() {
    let leader = Scheduler::start().await;
    leader.on_operation(Err(Status::failed_precondition("replica 7 is not a member of this cluster")));
    let error = client(&[&leader.address]).remove_replica(ReplicaId(7)).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error:?}");
    assert_eq!(error.to_string(), "replica 7 is not a member of this cluster");
    assert_eq!(leader.log().len(), 1);
}

#[tokio::test]
async fn a_change_waits_for_another_one_that_is_under_way() {
    let leader = Scheduler::start().await;
    leader.on_operation(Err(Status::aborted("another change is under way"))).on_operation(Ok(()));
    client(&[&leader.address]).remove_replica(ReplicaId(7)).await.unwrap();
    assert_eq!(leader.log(), ["remove 7", "remove 7"]);
}

#[tokio::test]
async fn a_backup_is_whole_or_asked_for_again() {
    let leader = Scheduler::start().await;
    leader.on_operation(Err(Status::unavailable("the connection was reset"))).on_operation(Ok(()));
    assert_eq!(client(&[&leader.address]).backup().await.unwrap(), BACKUP);
    assert_eq!(leader.log(), ["backup", "backup"]);
}

#[tokio::test]
async fn a_drain_tells_whose_life_ends() {
    let leader = Scheduler::start().await;
    leader.on_operation(Err(Status::unavailable("the connection was reset"))).on_operation(Ok(()));
    let executor = ExecutorId::new("e1").unwrap();
    let drained = client(&[&leader.address]).drain_executor(&executor, Duration::from_secs(5)).await;
    assert_eq!(drained.unwrap(), Incarnation(3));
    assert_eq!(leader.log(), ["drain e1 within 5000 ms"; 2]);
}

#[tokio::test]
async fn an_export_is_what_the_cluster_recorded() {
    let leader = Scheduler::start().await;
    let client = client(&[&leader.address]);
    for consistency in [Consistency::Linearizable, Consistency::Stale] {
        assert_eq!(client.export_job(JobId(0xa1), consistency).await.unwrap(), "{}");
    }
    let asked = ["export 00000000000000a1, stale: false", "export 00000000000000a1, stale: true"];
    assert_eq!(leader.log(), asked);
}
