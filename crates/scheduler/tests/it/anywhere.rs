//! Submits at a replica that does not lead: it plans, the leader commits.

use std::{sync::atomic::Ordering, time::Duration};

use polybolos_env::grpc;
use polybolos_model::{JobId, ReplicaId};
use polybolos_proto::v1::{
    PlanAt, PlannedAgainst, PlannedSubmit, ReadIndexRequest, SubmitRequest, SubmitResponse,
    planned_answer::Outcome, planning_service_client::PlanningServiceClient, submit_response::Answer,
};
use polybolos_state::{Command, Entry};
use tonic::{Code, Status, transport::Channel};

use crate::{
    harness::{reason, sql, table},
    script::{Cluster, Fate},
};
use polybolos_proto::v1::error_detail::Reason;

/// Both replicas are known, and the first leads.
async fn cluster() -> Cluster {
    let cluster = Cluster::start(2).await;
    let known = |id| Command::RegisterReplica { replica: ReplicaId(id), folder: id, version: 1 };
    cluster.apply(1, vec![known(1), known(2)]);
    cluster.lead(0, 1);
    cluster
}

fn anywhere(statement: &str, key: &str) -> SubmitRequest {
    SubmitRequest { idempotency_key: key.to_owned(), plan_at: PlanAt::Any.into(), ..sql(statement) }
}

/// At the replica that does not lead.
async fn submit(cluster: &Cluster, request: SubmitRequest) -> Result<SubmitResponse, Status> {
    let mut query = cluster.replicas[1].query.clone();
    query.submit(request).await.map(tonic::Response::into_inner)
}

async fn job(cluster: &Cluster, request: SubmitRequest) -> String {
    match submit(cluster, request).await.unwrap().answer {
        Some(Answer::Job(job)) => job.job_id,
        other => panic!("no job but {other:?}"),
    }
}

async fn rows(cluster: &Cluster, statement: &str) -> String {
    match submit(cluster, anywhere(statement, "")).await.unwrap().answer {
        Some(Answer::Inline(result)) => table(&result.arrow_stream),
        other => panic!("no rows but {other:?}"),
    }
}

fn confirms(cluster: &Cluster) -> u64 {
    cluster.replicas[0].log.confirms.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_follower_plans_a_query_and_the_leader_commits_it() {
    let mut cluster = cluster().await;
    let answer = submit(&cluster, anywhere("SELECT 1", "k")).await.unwrap();
    assert_eq!(answer.leader, cluster.replicas[0].address);
    let Some(Answer::Job(accepted)) = answer.answer else { panic!("no job") };
    assert_eq!(confirms(&cluster), 0, "that it was committed says that the leader leads");
    let id: JobId = accepted.job_id.parse().unwrap();
    let stored = cluster.state(|state| state.job(id).map(|job| (job.sql.clone(), job.schema.clone())));
    assert_eq!(stored, Some(("SELECT 1".to_owned(), accepted.schema.to_vec())));
    // A repetition finds it, wherever it comes.
    assert_eq!(job(&cluster, anywhere("SELECT 1", "k")).await, accepted.job_id);
    let leader = &mut cluster.replicas[0].query;
    let again = leader.submit(anywhere("SELECT 1", "k")).await.unwrap().into_inner();
    assert!(matches!(again.answer, Some(Answer::Job(job)) if job.job_id == accepted.job_id));
    assert_eq!(again.leader, "");
    assert_eq!(cluster.state(|state| state.jobs().count()), 1);
    // Who wants the leader alone is told where it is.
    let status = submit(&cluster, sql("SELECT 1")).await.unwrap_err();
    assert_eq!(reason(&status), Reason::NotLeader);
    cluster.stop().await;
}

#[tokio::test]
async fn what_a_follower_answers_itself_is_as_of_now_and_the_rest_is_relayed() {
    let cluster = cluster().await;
    let status = submit(&cluster, anywhere("SELECT * FROM v", "")).await.unwrap_err();
    assert_eq!(reason(&status), Reason::Statement, "{status:?}");
    assert_eq!(confirms(&cluster), 1);
    rows(&cluster, "CREATE VIEW v AS SELECT 1 AS a").await;
    job(&cluster, anywhere("SELECT * FROM v", "")).await;
    assert!(rows(&cluster, "SELECT table_name FROM information_schema.tables").await.contains("| v "));
    assert!(rows(&cluster, "EXPLAIN SELECT * FROM v").await.contains("logical_plan"));
    rows(&cluster, "DROP VIEW v").await;
    assert_eq!(
        reason(&submit(&cluster, anywhere("SELECT * FROM v", "")).await.unwrap_err()),
        Reason::Statement
    );
    cluster.stop().await;
}

#[tokio::test]
async fn an_unknown_outcome_is_told_as_one_and_the_key_finds_what_was_done() {
    let cluster = cluster().await;
    cluster.fate(Fate::CommitUnseen);
    let status = submit(&cluster, anywhere("SELECT 1", "k")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Reason::Unspecified), "{status:?}");
    cluster.fate(Fate::Commit);
    job(&cluster, anywhere("SELECT 1", "k")).await;
    assert_eq!(cluster.state(|state| state.jobs().count()), 1);
    cluster.stop().await;
}

#[tokio::test]
async fn a_leader_that_hangs_is_waited_for_until_another_one_leads() {
    let cluster = cluster().await;
    job(&cluster, anywhere("SELECT 0", "first")).await;
    cluster.fate(Fate::Hold);
    let proposals = cluster.proposals();
    let waiting = submit(&cluster, anywhere("SELECT 1", "k"));
    let status = tokio::select! {
        ended = waiting => ended.unwrap_err(),
        () = async {
            cluster.proposed(proposals + 1).await;
            // That entry may be another one of the leader's: the submit is there soon.
            tokio::time::sleep(Duration::from_millis(100)).await;
            cluster.lead(1, 2);
            std::future::pending().await
        } => unreachable!("it waits for ever"),
    };
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Reason::Unspecified), "{status:?}");
    cluster.fate(Fate::Commit);
    job(&cluster, anywhere("SELECT 1", "k")).await;
    assert_eq!(cluster.state(|state| state.jobs().count()), 2);
    cluster.stop().await;
}

#[tokio::test]
async fn a_leader_that_is_not_reached_is_named() {
    let mut cluster = cluster().await;
    job(&cluster, anywhere("SELECT 1", "k")).await;
    let leader = cluster.replicas.remove(0);
    let (address, log) = (leader.address.clone(), leader.log.clone());
    leader.shutdown().await;
    drop(log);
    let mut query = cluster.replicas[0].query.clone();
    for statement in ["SELECT 1", "SHOW TABLES", "SELECT * FROM nowhere"] {
        let status = query.submit(anywhere(statement, "")).await.unwrap_err();
        // Over the connection of before, the first one may have arrived.
        assert!(matches!(reason(&status), Reason::NotLeader | Reason::Unspecified), "{status:?}");
    }
    let status = query.submit(anywhere("SELECT 1", "")).await.unwrap_err();
    assert_eq!(polybolos_proto::detail_of(&status).unwrap().leader, address, "{status:?}");
    cluster.stop().await;
}

async fn planning(cluster: &Cluster, at: usize) -> PlanningServiceClient<Channel> {
    let replica = &cluster.replicas[at];
    PlanningServiceClient::new(grpc::connect(&replica.env.net, &replica.address).await.unwrap())
}

/// The job that was submitted last, as another one.
fn planned_again(cluster: &Cluster) -> PlannedSubmit {
    let entries = cluster.common.entries.lock().unwrap();
    let mut commands = entries.iter().flat_map(|entry| entry.commands.iter());
    let submit = commands.rfind(|command| matches!(command, Command::SubmitJob { .. }));
    let mut command = submit.unwrap().clone();
    if let Command::SubmitJob { job, key, .. } = &mut command {
        (*job, *key) = (JobId(job.0 ^ 1), None);
    }
    let (version, term) = cluster.state(|state| (state.version(), state.term()));
    let catalogue_version = cluster.state(|state| state.catalogue().version);
    let against = PlannedAgainst { catalogue_version, version: version.into(), ..PlannedAgainst::default() };
    PlannedSubmit {
        cluster_id: "scripted".to_owned(),
        replica: 2,
        entry: Entry::new(version, term, 0, vec![command]).encode().unwrap().into(),
        against: Some(against),
    }
}

#[tokio::test]
async fn a_plan_that_is_out_of_date_is_not_committed() {
    let cluster = cluster().await;
    job(&cluster, anywhere("SELECT 1", "k")).await;
    let planned = planned_again(&cluster);
    let jobs = || cluster.state(|state| state.jobs().count());
    let mut leader = planning(&cluster, 0).await;
    let answer = leader.submit_planned(planned.clone()).await.unwrap().into_inner();
    assert!(matches!(answer.outcome, Some(Outcome::Answer(_))), "{answer:?}");
    assert_eq!(jobs(), 2);
    rows(&cluster, "CREATE VIEW v AS SELECT 1").await;
    let answer = leader.submit_planned(planned.clone()).await.unwrap().into_inner();
    assert!(matches!(answer.outcome, Some(Outcome::Stale(_))), "{answer:?}");
    // So is one of another fleet, or another session's options.
    let against = planned_again(&cluster).against.unwrap();
    let options = [("datafusion.execution.batch_size".to_owned(), "1".to_owned())].into();
    for other in [
        PlannedAgainst { slots: 7, ..against.clone() },
        PlannedAgainst { slot_memory_bytes: Some(1), ..against.clone() },
        PlannedAgainst { version: against.version + 1, ..against.clone() },
        PlannedAgainst { session_options: options, ..against },
    ] {
        let planned = PlannedSubmit { against: Some(other), ..planned.clone() };
        let answer = leader.submit_planned(planned).await.unwrap().into_inner();
        assert!(matches!(answer.outcome, Some(Outcome::Stale(_))), "{answer:?}");
    }
    assert_eq!(jobs(), 2);
    // Whoever does not lead says so.
    let status = planning(&cluster, 1).await.submit_planned(planned).await.unwrap_err();
    assert_eq!(reason(&status), Reason::NotLeader);
    cluster.stop().await;
}

#[tokio::test]
async fn strangers_are_refused() {
    let cluster = cluster().await;
    job(&cluster, anywhere("SELECT 1", "k")).await;
    let planned = planned_again(&cluster);
    let mut leader = planning(&cluster, 0).await;
    for (cluster_id, replica) in [("other", 2), ("scripted", 9)] {
        let cluster_id = cluster_id.to_owned();
        let planned = PlannedSubmit { cluster_id: cluster_id.clone(), replica, ..planned.clone() };
        assert_eq!(leader.submit_planned(planned).await.unwrap_err().code(), Code::FailedPrecondition);
        let asked = ReadIndexRequest { cluster_id, replica };
        assert_eq!(leader.read_index(asked).await.unwrap_err().code(), Code::FailedPrecondition);
    }
    let asked = ReadIndexRequest { cluster_id: "scripted".to_owned(), replica: 2 };
    assert!(leader.read_index(asked).await.unwrap().into_inner().index > 0);
    assert_eq!(cluster.state(|state| state.jobs().count()), 1);
    cluster.stop().await;
}
