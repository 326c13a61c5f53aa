//! Who may answer: leaders, followers, replicas without a leader or a majority; how fresh answers are.

use std::{sync::atomic::Ordering, time::Duration};

use polybolos_proto::{
    detail_of,
    v1::{
        CancelRequest, ClusterStatusRequest, Freshness, GetJobRequest, LeaderRequest, ListJobsRequest,
        ListRelationsRequest, ProfileRequest, WatchRequest, error_detail::Reason,
    },
};
use tonic::{Code, Status};

use crate::{
    executor::FakeExecutor,
    harness::{self, reason, sql},
    script::{Cluster, Replica},
};

fn hint(status: &Status) -> String {
    assert_eq!((status.code(), reason(status)), (Code::Unavailable, Reason::NotLeader), "{status:?}");
    detail_of(status).unwrap().leader
}

/// The error of each kind of request that only a leader answers.
async fn refusals(replica: &mut Replica) -> Vec<Status> {
    let job_id = "00000000000000ab".to_owned();
    let query = &mut replica.query;
    vec![
        query.submit(sql("SELECT 1")).await.unwrap_err(),
        query.watch(WatchRequest { job_id: job_id.clone(), ..WatchRequest::default() }).await.unwrap_err(),
        query.cancel(CancelRequest { job_id: job_id.clone(), reason: String::new() }).await.unwrap_err(),
        query.list_jobs(ListJobsRequest::default()).await.unwrap_err(),
        query.get_job(GetJobRequest { job_id: job_id.clone(), stale: false }).await.unwrap_err(),
        query.profile(ProfileRequest { job_id }).await.unwrap_err(),
        query.cluster_status(ClusterStatusRequest::default()).await.unwrap_err(),
        query.list_relations(ListRelationsRequest::default()).await.unwrap_err(),
    ]
}

#[tokio::test]
async fn a_follower_names_the_leader_and_answers_stale_reads() {
    let mut cluster = Cluster::start(2).await;
    cluster.lead(0, 1);
    let leader = cluster.replicas[0].address.clone();
    let job = harness::job_of(&mut cluster.replicas[0].query, "SELECT 1").await;
    let follower = &mut cluster.replicas[1];
    for refusal in refusals(follower).await {
        assert_eq!(hint(&refusal), leader);
    }
    let refused = FakeExecutor::refused(follower, "e1", "e1:1").await;
    assert_eq!((refused.leader.as_str(), refused.retry), (leader.as_str(), true));
    assert_eq!(follower.log.confirms.load(Ordering::Relaxed), 0, "it does not lead");

    let stale = |age_ms| Some(Freshness { linearizable: false, age_ms, replica: 2 });
    let listed = follower.query.list_jobs(ListJobsRequest { stale: true }).await.unwrap().into_inner();
    assert_eq!((listed.jobs[0].job_id.as_str(), listed.freshness), (job.as_str(), stale(u64::MAX)));
    *follower.log.age.lock().unwrap() = Some(Duration::from_millis(70));
    let request = GetJobRequest { job_id: job.clone(), stale: true };
    let detail = follower.query.get_job(request).await.unwrap().into_inner();
    assert_eq!(detail.freshness, stale(70));
    let request = ClusterStatusRequest { stale: true };
    let status = follower.query.cluster_status(request).await.unwrap().into_inner();
    assert_eq!((status.freshness, status.active_jobs), (stale(70), 1));
    follower.query.list_relations(ListRelationsRequest { stale: true }).await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_leader_confirms_before_it_answers() {
    let mut cluster = Cluster::start(1).await;
    cluster.lead(0, 1);
    let job_id = harness::job_of(&mut cluster.replicas[0].query, "EXPLAIN ANALYZE SELECT 1").await;
    let replica = &mut cluster.replicas[0];
    let confirms = || replica.log.confirms.load(Ordering::Relaxed);
    assert_eq!(confirms(), 1, "the submit");
    let query = &mut replica.query;
    let freshness = query.list_jobs(ListJobsRequest::default()).await.unwrap().into_inner().freshness;
    assert_eq!(freshness, Some(Freshness { linearizable: true, age_ms: 0, replica: 1 }));
    query.get_job(GetJobRequest { job_id: job_id.clone(), stale: false }).await.unwrap();
    query.watch(WatchRequest { job_id: job_id.clone(), ..WatchRequest::default() }).await.unwrap();
    query.profile(ProfileRequest { job_id }).await.unwrap_err();
    query.cluster_status(ClusterStatusRequest::default()).await.unwrap();
    query.list_relations(ListRelationsRequest::default()).await.unwrap();
    assert_eq!(confirms(), 7);
    query.list_jobs(ListJobsRequest { stale: true }).await.unwrap();
    assert_eq!(confirms(), 7, "nobody is asked for a stale read");
    cluster.stop().await;
}

#[tokio::test]
async fn every_replica_says_who_leads() {
    let mut cluster = Cluster::start(2).await;
    let ask =
        async |replica: &mut Replica| replica.query.leader(LeaderRequest {}).await.unwrap().into_inner();
    let nobody = ask(&mut cluster.replicas[0]).await;
    assert_eq!((nobody.leader.as_str(), nobody.term, nobody.is_self), ("", 0, false));
    cluster.lead(1, 3);
    let address = cluster.replicas[1].address.clone();
    for (index, is_self) in [(0, false), (1, true)] {
        let known = ask(&mut cluster.replicas[index]).await;
        assert_eq!((known.leader, known.term, known.is_self), (address.clone(), 3, is_self));
    }
    cluster.replicas[1].majority(false);
    assert!(!ask(&mut cluster.replicas[1]).await.is_self, "it can't commit");
    cluster.stop().await;
}

#[tokio::test]
async fn without_a_majority_requests_say_so_with_the_replicas_states() {
    let mut cluster = Cluster::start(1).await;
    cluster.lead(0, 1);
    let job_id = harness::job_of(&mut cluster.replicas[0].query, "SELECT 1").await;
    let replica = &mut cluster.replicas[0];
    let mut watch =
        replica.query.watch(WatchRequest { job_id, ..WatchRequest::default() }).await.unwrap().into_inner();
    watch.message().await.unwrap();
    replica.majority(false);
    let ended = watch.message().await.unwrap_err();
    assert_eq!(reason(&ended), Reason::NoQuorum, "watchers look for another replica: {ended:?}");
    for refusal in refusals(replica).await {
        assert_eq!((refusal.code(), reason(&refusal)), (Code::Unavailable, Reason::NoQuorum), "{refusal:?}");
        assert!(refusal.message().contains("replica 2 at b:1 is unreachable"), "{refusal:?}");
    }
    let refused = FakeExecutor::refused(replica, "e1", "e1:1").await;
    assert!(refused.retry && refused.leader.is_empty(), "{refused:?}");
    assert_eq!(
        replica.query.list_jobs(ListJobsRequest { stale: true }).await.unwrap().into_inner().jobs.len(),
        1
    );
    replica.majority(true);
    replica.query.submit(sql("SELECT 1")).await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_replica_that_knows_no_leader_for_a_second_has_no_majority() {
    let mut cluster = Cluster::start(1).await;
    let replica = &mut cluster.replicas[0];
    let first = replica.query.submit(sql("SELECT 1")).await.unwrap_err();
    assert_eq!(hint(&first), "", "an election may be under way");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let later = replica.query.submit(sql("SELECT 1")).await.unwrap_err();
    assert_eq!(reason(&later), Reason::NoQuorum, "{later:?}");
    cluster.lead(0, 1);
    cluster.replicas[0].query.submit(sql("SELECT 1")).await.unwrap();
    cluster.stop().await;
}
