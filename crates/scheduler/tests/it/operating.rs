//! `ClusterService`, the status of the replicas, counters of refusals, and the end of a replica.

use std::{sync::atomic::Ordering, time::Duration};

use polybolos_env::grpc;
use polybolos_model::{ExecutorId, Incarnation, ReplicaId};
use polybolos_proto::v1::{
    AddReplicaRequest, BackupRequest, ClusterStatusRequest, LeaderRequest, RemoveReplicaRequest,
    TransferLeadershipRequest, cluster_service_client::ClusterServiceClient, error_detail::Reason,
};
use polybolos_state::Command;
use tonic::{Code, transport::Channel};

use crate::{
    executor::FakeExecutor,
    harness::{self, reason, sql},
    script::{self, Cluster},
};

async fn operator(cluster: &Cluster) -> ClusterServiceClient<Channel> {
    let replica = &cluster.replicas[0];
    ClusterServiceClient::new(grpc::connect(&replica.env.net, &replica.address).await.unwrap())
}

#[tokio::test]
async fn the_set_of_replicas_is_operated_by_the_leader_with_typed_errors() {
    let cluster = Cluster::start(1).await;
    let mut operator = operator(&cluster).await;
    let early = operator.remove_replica(RemoveReplicaRequest { id: 5 }).await.unwrap_err();
    assert_eq!(reason(&early), Reason::NotLeader);
    cluster.lead(0, 1);
    let add = |id, address: &str| AddReplicaRequest { id, address: address.to_owned() };
    operator.add_replica(add(5, "e:7701")).await.unwrap();
    for (request, code, text) in [
        (add(1, "a:1"), Code::FailedPrecondition, "a member already"),
        (add(2, "b:1"), Code::FailedPrecondition, "never used again"),
        (add(3, "c:1"), Code::FailedPrecondition, "did not catch up"),
        (add(0, "e:1"), Code::InvalidArgument, "begin with 1"),
        (add(5, "e"), Code::InvalidArgument, "HOST:PORT"),
        (add(5, ":1"), Code::InvalidArgument, "HOST:PORT"),
        (add(5, "e:0"), Code::InvalidArgument, "HOST:PORT"),
        (add(5, &format!("{}:1", "x".repeat(300))), Code::InvalidArgument, "HOST:PORT"),
    ] {
        let status = operator.add_replica(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(text), "{status:?}");
    }
    operator.remove_replica(RemoveReplicaRequest { id: 5 }).await.unwrap();
    for (id, code) in [(1, Code::FailedPrecondition), (2, Code::Aborted), (4, Code::DeadlineExceeded)] {
        let status = operator.remove_replica(RemoveReplicaRequest { id }).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
    }
    let moved = operator.remove_replica(RemoveReplicaRequest { id: 3 }).await.unwrap_err();
    assert_eq!(polybolos_proto::detail_of(&moved).unwrap().leader, "d:1");
    for (to, leader) in [(0, 6), (7, 7)] {
        let answer = operator.transfer_leadership(TransferLeadershipRequest { to }).await.unwrap();
        assert_eq!((answer.get_ref().leader, answer.get_ref().term), (leader, 5));
    }
    let status = operator.transfer_leadership(TransferLeadershipRequest { to: 1 }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_backup_comes_in_pieces() {
    let cluster = Cluster::start(1).await;
    cluster.lead(0, 1);
    let mut pieces = operator(&cluster).await.backup(BackupRequest {}).await.unwrap().into_inner();
    let (mut backup, mut sizes) = (Vec::new(), Vec::new());
    while let Some(piece) = pieces.message().await.unwrap() {
        sizes.push(piece.data.len());
        backup.extend_from_slice(&piece.data);
    }
    assert_eq!(sizes, [1 << 20, 1 << 20, 2_500_000 - (2 << 20)]);
    assert!(backup == script::backup());
    cluster.stop().await;
}

#[tokio::test]
async fn the_status_tells_of_every_replica() {
    let mut cluster = Cluster::start(1).await;
    cluster.lead(0, 1);
    let replica = ReplicaId(1);
    let restart = Command::RestartCluster { cluster_id: None, replica, note: "recovered by hand".to_owned() };
    cluster.apply(1_700_000_000_000, vec![restart]);
    let request = ClusterStatusRequest::default();
    let status = cluster.replicas[0].query.cluster_status(request).await.unwrap().into_inner();
    let rows: Vec<_> = status
        .replicas
        .iter()
        .map(|r| (r.id, r.role.as_str(), r.leader, r.lag, r.disk.as_str(), r.disk_free_bytes, r.version))
        .collect();
    assert_eq!(
        rows,
        [
            (1, "leader", true, 0, "ok", 0, 2),
            (8, "learner", false, 3, "full", 12, 0),
            (9, "leader", false, 3, "full", 12, 0),
            (10, "unreachable", false, 0, "", 0, 0),
        ]
    );
    assert_eq!((status.replicas[3].address.as_str(), status.version), ("gone:1", 1));
    let [past] = &status.history[..] else { panic!("{:?}", status.history) };
    assert!(past.contains("UTC: ") && past.ends_with("recovered by hand"), "{past}");
    cluster.stop().await;
}

#[tokio::test]
async fn refusals_of_the_past_are_counted_and_shown() {
    let mut cluster = Cluster::start(1).await;
    cluster.lead(0, 1);
    let mut executor = FakeExecutor::attach(&cluster.replicas[0], "e1", 1).await;
    harness::job_of(&mut cluster.replicas[0].query, "SELECT 1").await;
    let launch = executor.launch().await;
    // Another leader has given it up.
    let lose = Command::LoseExecutor {
        executor: ExecutorId::new("e1").unwrap(),
        incarnation: Incarnation(executor.incarnation),
        reason: "the test says so".to_owned(),
    };
    let now_ms = cluster.state(|state| state.now_ms());
    cluster.apply(now_ms, vec![lose]);
    executor.complete(&launch, 0, 1).await;
    executor.left().await;
    let status = cluster.replicas[0].query.cluster_status(ClusterStatusRequest::default()).await.unwrap();
    let refused = status.get_ref().replicas[0].refused_reports;
    assert!((1..=2).contains(&refused), "the report, and perhaps a beat: {refused}");
    cluster.stop().await;
}

#[tokio::test]
async fn commands_that_executors_refused_are_shown_once_all_replicas_know_of_them() {
    let mut cluster = Cluster::start(1).await;
    cluster.lead(0, 1);
    let mut executor = FakeExecutor::attach(&cluster.replicas[0], "e1", 1).await;
    executor.refused_commands.store(3, Ordering::Relaxed);
    executor.listen(Duration::from_millis(1_500)).await;
    assert!(executor.answered_beats >= 2, "{}", executor.answered_beats);
    let shown = async |cluster: &mut Cluster| {
        let request = ClusterStatusRequest::default();
        let status = cluster.replicas[0].query.cluster_status(request).await.unwrap().into_inner();
        status.executors[0].refused_commands
    };
    assert_eq!(shown(&mut cluster).await, 0, "version 1 does not know them");
    let register = Command::RegisterReplica { replica: ReplicaId(1), folder: 1, version: 2 };
    let now_ms = cluster.state(|state| state.now_ms());
    cluster.apply(now_ms, vec![register, Command::RaiseVersion { to: 2 }]);
    executor.listen(Duration::from_millis(1_500)).await;
    assert_eq!(shown(&mut cluster).await, 3);
    cluster.stop().await;
}

#[tokio::test]
async fn beats_of_the_whole_fleet_are_one_entry_an_interval() {
    let cluster = Cluster::start(1).await;
    cluster.lead(0, 1);
    let mut executors = Vec::new();
    for name in ["e1", "e2", "e3"] {
        executors.push(FakeExecutor::attach(&cluster.replicas[0], name, 1).await);
    }
    let from = cluster.common.entries.lock().unwrap().len();
    let beats = |entries: &[polybolos_state::Entry]| -> Vec<Vec<String>> {
        let commands = entries.iter().flat_map(|entry| &entry.commands);
        commands
            .filter_map(|command| match command {
                Command::Heartbeats { beats } => {
                    Some(beats.iter().map(|beat| beat.executor.to_string()).collect())
                }
                _ => None,
            })
            .collect()
    };
    executors[0].listen(Duration::from_secs(3)).await;
    let logged = beats(&cluster.common.entries.lock().unwrap()[from..]);
    assert!((4..=8).contains(&logged.len()), "one each 500 ms: {logged:?}");
    assert!(logged[1..].iter().all(|fleet| *fleet == ["e1", "e2", "e3"]), "{logged:?}");

    // Its stream is well, but the log suspects it: the sign of life does not wait for the others.
    executors[1].stop_beating();
    executors[0].listen(Duration::from_millis(1_000)).await;
    let suspect = Command::SuspectExecutor {
        executor: ExecutorId::new("e2").unwrap(),
        incarnation: Incarnation(executors[1].incarnation),
    };
    let now_ms = cluster.state(|state| state.now_ms());
    let from = cluster.common.entries.lock().unwrap().len();
    cluster.apply(now_ms, vec![suspect]);
    executors[1].beat().await;
    executors[0].listen(Duration::from_millis(700)).await;
    let logged = beats(&cluster.common.entries.lock().unwrap()[from..]);
    assert!(logged.contains(&vec!["e2".to_owned()]), "{logged:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_shutdown_refuses_requests_and_hands_over_while_the_server_answers() {
    let mut cluster = Cluster::start(1).await;
    cluster.lead(0, 1);
    let mut executor = FakeExecutor::attach(&cluster.replicas[0], "e1", 1).await;
    let replica = cluster.replicas.remove(0);
    let mut query = harness::query(&replica.env, &replica.address).await;
    let (answered, answers) = tokio::sync::oneshot::channel();
    // What the log does at its end needs the network: the other replicas ask this one.
    let at_shutdown = async move {
        let known = query.leader(LeaderRequest {}).await.map(|answer| answer.into_inner().is_self);
        let refused = query.submit(sql("SELECT 1")).await;
        answered.send((known, refused)).unwrap();
    };
    *replica.log.at_shutdown.lock().unwrap() = Some(Box::pin(at_shutdown));
    let stopped = tokio::time::timeout(Duration::from_secs(3), replica.shutdown()).await;
    stopped.expect("streams don't hold it up");
    let (known, refused) = answers.await.unwrap();
    assert!(!known.unwrap(), "it takes up nothing any more");
    assert!(refused.unwrap_err().message().contains("stopping"));
    executor.left().await;
}
