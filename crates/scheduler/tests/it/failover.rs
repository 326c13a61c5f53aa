//! Leadership moves, majorities are lost, outcomes stay unknown: what clients and executors see of it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use polybolos_model::{JobId, ReplicaId, SessionId, Term};
use polybolos_proto::{
    detail_of,
    v1::{
        CancelRequest, ClusterStatusRequest, JobState, ListJobsRequest, ReleaseRequest, SubmitRequest,
        WatchRequest, error_detail::Reason,
    },
};
use polybolos_state::{ClusterState, Command, Entry, ExecutorState};
use tonic::{Code, Status};

use crate::{
    executor::FakeExecutor,
    harness::{self, Query, reason, sql},
    script::{Cluster, Fate},
};

fn keyed(key: &str, statement: &str) -> SubmitRequest {
    SubmitRequest { idempotency_key: key.to_owned(), ..sql(statement) }
}

async fn submit(mut query: Query, request: SubmitRequest) -> Result<(), Status> {
    query.submit(request).await.map(|_| ())
}

/// Nothing is known of what was asked, and it may be asked again.
fn assert_unknown(status: &Status) {
    assert_eq!((status.code(), reason(status)), (Code::Unavailable, Reason::Unspecified), "{status:?}");
    assert!(status.message().contains("not known"), "{status:?}");
}

#[tokio::test]
async fn a_new_leader_goes_on_with_what_runs_and_with_who_waits() {
    let mut cluster = Cluster::start(2).await;
    cluster.lead(0, 1);
    let mut executor = FakeExecutor::attach(&cluster.replicas[0], "e1", 2).await;
    let old = &mut cluster.replicas[0].query;
    let released = harness::job_of(old, "SELECT 1").await;
    let launch = executor.launch().await;
    executor.complete(&launch, 0, 1).await;
    executor.committed().await;
    old.release(ReleaseRequest { job_id: released.clone() }).await.unwrap();
    old.submit(keyed("k", "SELECT 2")).await.unwrap();
    let running = executor.launch().await;
    let mut watch = old
        .watch(WatchRequest { job_id: running.job_id.clone(), ..WatchRequest::default() })
        .await
        .unwrap()
        .into_inner();
    watch.message().await.unwrap();

    cluster.lead(1, 2);
    let ended = watch.message().await.unwrap_err();
    assert_eq!(detail_of(&ended).unwrap().leader, cluster.replicas[1].address, "{ended:?}");
    executor.left().await;
    // The new leader waits for the executor, and launches nothing twice.
    let new = &mut cluster.replicas[1].query;
    new.submit(keyed("k", "SELECT 2")).await.unwrap();
    let next = harness::job_of(new, "SELECT 3").await;
    let mut watch = new
        .watch(WatchRequest { job_id: running.job_id.clone(), ..WatchRequest::default() })
        .await
        .unwrap()
        .into_inner();
    let mut executor = executor.reattach(&cluster.replicas[1], &[&running]).await;
    assert_eq!(executor.released().await, released, "it may have been away then");
    let launch = executor.launch().await;
    assert_eq!((launch.job_id.as_str(), launch.tasks[0].attempt.unwrap().term), (next.as_str(), 2));
    assert_eq!(executor.cancelled, []);
    executor.complete(&running, 0, 1).await;
    assert_eq!(harness::last(&mut watch).await.state(), JobState::Succeeded);
    let jobs = cluster.replicas[1].query.list_jobs(ListJobsRequest::default()).await.unwrap();
    assert_eq!(jobs.get_ref().jobs.len(), 3, "the key was known");
    cluster.stop().await;
}

/// Starts of tasks are not in the log: the old leader alone knows that the only task runs.
#[tokio::test]
async fn a_job_that_was_called_running_is_not_called_queued_by_the_next_leader() {
    let mut state = ClusterState::new("scripted");
    let know = [1, 2].map(|id| Command::RegisterReplica { replica: ReplicaId(id), folder: id, version: 3 });
    let commands = know.into_iter().chain([Command::RaiseVersion { to: 3 }]).collect();
    let applied = state.apply(&Entry::new(state.version(), Term(0), 1, commands));
    assert!(applied.outcomes.iter().all(Result::is_ok), "{applied:?}");
    let mut cluster = Cluster::start_in(state, 2).await;
    cluster.lead(0, 1);
    let mut executor = FakeExecutor::attach(&cluster.replicas[0], "e1", 1).await;
    let job = harness::job_of(&mut cluster.replicas[0].query, "SELECT 1").await;
    executor.launch().await;
    let request = WatchRequest { job_id: job, ..WatchRequest::default() };
    let mut watch = cluster.replicas[0].query.watch(request.clone()).await.unwrap().into_inner();
    while watch.message().await.unwrap().unwrap().state() == JobState::Queued {}
    cluster.lead(1, 2);
    let mut watch = cluster.replicas[1].query.watch(request).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!((first.state(), first.stages[0].running), (JobState::Running, 0));
    cluster.stop().await;
}

#[tokio::test]
async fn whoever_waits_for_an_entry_when_the_leader_falls_is_told_at_once() {
    let cluster = Cluster::start(2).await;
    cluster.lead(0, 1);
    cluster.proposed(1).await;
    cluster.fate(Fate::Hold);
    let query = cluster.replicas[0].query.clone();
    let proposed = tokio::spawn(submit(query.clone(), sql("SELECT 1")));
    cluster.proposed(2).await;
    let waiting = tokio::spawn(submit(query, sql("SELECT 2")));
    // Planned, and in the next entry.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let start = Instant::now();
    cluster.lead(1, 2);
    assert_unknown(&proposed.await.unwrap().unwrap_err());
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(detail_of(&refused).unwrap().leader, cluster.replicas[1].address, "{refused:?}");
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    cluster.stop().await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_an_entry_for_long() {
    let mut cluster = Cluster::start(1).await;
    cluster.lead(0, 1);
    cluster.proposed(1).await;
    cluster.fate(Fate::Hold);
    let replica = cluster.replicas.remove(0);
    let proposed = tokio::spawn(submit(replica.query.clone(), sql("SELECT 1")));
    cluster.proposed(2).await;
    let start = Instant::now();
    replica.shutdown().await;
    assert!(start.elapsed() < Duration::from_millis(4_500), "{:?}", start.elapsed());
    assert_unknown(&proposed.await.unwrap().unwrap_err());
}

#[tokio::test]
async fn a_leader_begins_anew_when_an_outcome_is_unknown() {
    for fate in [Fate::CommitUnseen, Fate::Lose] {
        let cluster = Cluster::start(1).await;
        cluster.lead(0, 1);
        let mut executor = FakeExecutor::attach(&cluster.replicas[0], "e1", 3).await;
        let query = &mut cluster.replicas[0].query.clone();
        harness::job_of(query, "SELECT 1").await;
        let first = executor.launch().await;
        let doomed = harness::job_of(query, "SELECT 2").await;
        let second = executor.launch().await;

        cluster.fate(fate);
        let cancel = CancelRequest { job_id: doomed.clone(), reason: String::new() };
        assert_unknown(&query.cancel(cancel.clone()).await.unwrap_err());
        executor.left().await;
        assert_unknown(&query.submit(keyed("k", "SELECT 3")).await.unwrap_err());
        cluster.fate(Fate::Commit);

        // What the leader could not carry out it tells from the state: the cancelled job is released.
        let mut executor = executor.reattach(&cluster.replicas[0], &[&first, &second]).await;
        query.cancel(cancel).await.unwrap();
        assert_eq!(executor.released().await, doomed, "{fate:?}");
        query.submit(keyed("k", "SELECT 3")).await.unwrap();
        let third = executor.launch().await;
        let attempts: BTreeSet<_> = [&first, &second, &third]
            .map(|launch| launch.tasks[0].attempt.unwrap())
            .map(|attempt| (attempt.term, attempt.counter))
            .into();
        assert_eq!(attempts.len(), 3, "{fate:?}: {attempts:?}");
        assert!(attempts.iter().all(|(term, _)| *term == 1), "{attempts:?}");
        executor.complete(&first, 0, 1).await;
        let mut watch = query
            .watch(WatchRequest { job_id: first.job_id.clone(), ..WatchRequest::default() })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(harness::last(&mut watch).await.state(), JobState::Succeeded);
        let jobs = query.list_jobs(ListJobsRequest::default()).await.unwrap().into_inner().jobs;
        assert_eq!(jobs.len(), 3, "{fate:?}: a repeated submit is the same job");
        cluster.stop().await;
    }
}

#[tokio::test]
async fn a_leader_that_begins_anew_waits_for_its_executors() {
    let mut cluster = Cluster::start(1).await;
    cluster.lead(0, 1);
    let mut away = FakeExecutor::attach(&cluster.replicas[0], "e1", 1).await;
    let job = harness::job_of(&mut cluster.replicas[0].query, "SELECT 1").await;
    let launch = away.launch().await;
    let mut free = FakeExecutor::attach(&cluster.replicas[0], "e2", 1).await;
    cluster.fate(Fate::Lose);
    cluster.replicas[0].query.submit(sql("SELECT 2")).await.unwrap_err();
    cluster.fate(Fate::Commit);
    free.left().await;
    away.left().await;
    let mut free = free.reattach(&cluster.replicas[0], &[]).await;
    free.listen(Duration::from_millis(500)).await;
    let mut back = away.reattach(&cluster.replicas[0], &[&launch]).await;
    let next = harness::job_of(&mut cluster.replicas[0].query, "SELECT 3").await;
    assert_eq!(free.launch().await.job_id, next, "{job} runs where it ran");
    back.complete(&launch, 0, 1).await;
    assert_eq!(back.committed().await, vec![1]);
    assert_eq!(back.deleted, []);
    cluster.stop().await;
}

#[tokio::test]
async fn a_leader_that_leads_again_in_its_term_names_no_two_attempts_alike() {
    let mut cluster = Cluster::start(1).await;
    cluster.lead(0, 1);
    let mut executor = FakeExecutor::attach(&cluster.replicas[0], "e1", 2).await;
    harness::job_of(&mut cluster.replicas[0].query, "SELECT 1").await;
    let first = executor.launch().await;
    // A handover that failed.
    cluster.depose();
    executor.left().await;
    cluster.lead(0, 1);
    let mut executor = executor.reattach(&cluster.replicas[0], &[&first]).await;
    harness::job_of(&mut cluster.replicas[0].query, "SELECT 2").await;
    let second = executor.launch().await;
    assert_ne!(first.job_id, second.job_id);
    assert_ne!(first.tasks[0].attempt, second.tasks[0].attempt);
    cluster.stop().await;
}

#[tokio::test]
async fn executors_wait_until_the_cluster_has_its_name() {
    let cluster = Cluster::start_in(ClusterState::default(), 1).await;
    cluster.lead(0, 1);
    cluster.proposed(1).await;
    // It would take the cluster for another one as soon as it had a name, and throw away what it holds.
    let refused = FakeExecutor::refused(&cluster.replicas[0], "e1", "e1:1").await;
    assert!(refused.retry && refused.reason.contains("being founded"), "{refused:?}");
    cluster.apply(1, vec![Command::FoundCluster { cluster_id: "c".to_owned() }]);
    FakeExecutor::attach(&cluster.replicas[0], "e1", 1).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_lost_majority_is_nobodys_fault_and_costs_no_report() {
    let mut cluster = Cluster::start(1).await;
    cluster.lead(0, 1);
    let mut stays = FakeExecutor::attach(&cluster.replicas[0], "e1", 1).await;
    let mut leaves = FakeExecutor::attach(&cluster.replicas[0], "e2", 1).await;
    let (e1, e2) = (stays.incarnation, leaves.incarnation);
    harness::job_of(&mut cluster.replicas[0].query, "SELECT 1").await;
    harness::job_of(&mut cluster.replicas[0].query, "SELECT 2").await;
    let launch = stays.launch().await;

    cluster.replicas[0].majority(false);
    // Lets what is on its way pass.
    stays.listen(Duration::from_millis(300)).await;
    let (answered, proposals) = (stays.answered_beats, cluster.proposals());
    stays.complete(&launch, 0, 1).await;
    stays.listen(Duration::from_millis(3_500)).await;
    assert_eq!(stays.answered_beats, answered, "executors leave a leader that can't commit");
    assert!(cluster.proposals() <= proposals + 1, "and it does not try");

    leaves.hang_up();
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.replicas[0].majority(true);
    assert_eq!(stays.committed().await, vec![1], "it was kept");
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    let leaves = leaves.reattach(&cluster.replicas[0], &[]).await;
    assert_eq!((stays.incarnation, leaves.incarnation), (e1, e2));
    let lost = cluster.state(|state| state.executors().filter(|e| e.state == ExecutorState::Lost).count());
    assert_eq!(lost, 0);
    // The cluster's time stood still, and so did everybody's silence.
    let status = cluster.replicas[0].query.cluster_status(ClusterStatusRequest::default()).await.unwrap();
    let silent_ms: Vec<_> = status.get_ref().executors.iter().map(|e| e.silent_ms).collect();
    assert!(silent_ms.iter().all(|ms| *ms < 2_000), "{silent_ms:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_leader_whose_clock_is_behind_still_sees_who_is_silent() {
    let mut cluster = Cluster::start(1).await;
    // The last leader's clock was an hour ahead.
    let ahead_ms = u64::try_from(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis(),
    )
    .unwrap()
        + 3_600_000;
    cluster.apply(ahead_ms, vec![]);
    cluster.lead(0, 1);
    let mut first = FakeExecutor::attach(&cluster.replicas[0], "e1", 1).await;
    let job = harness::job_of(&mut cluster.replicas[0].query, "SELECT 1").await;
    first.launch().await;
    drop(first);
    let mut second = FakeExecutor::attach(&cluster.replicas[0], "e2", 1).await;
    assert_eq!(second.launch().await.job_id, job);
    cluster.stop().await;
}

#[tokio::test]
async fn a_job_is_not_cancelled_because_its_client_watched_at_another_replica() {
    let mut cluster = Cluster::start(2).await;
    cluster.lead(0, 1);
    let request = SubmitRequest { cancel_when_unwatched_ms: 1_000, ..keyed("k", "SELECT 1") };
    cluster.replicas[0].query.submit(request).await.unwrap();
    let job_id = cluster.state(|state| state.jobs().next().unwrap().id);
    let watch = async |query: &mut Query| {
        let request = WatchRequest { job_id: JobId::to_string(&job_id), ..WatchRequest::default() };
        query.watch(request).await.unwrap().into_inner()
    };
    drop(watch(&mut cluster.replicas[0].query).await);
    cluster.lead(1, 2);
    let _watched = watch(&mut cluster.replicas[1].query).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    cluster.lead(0, 3);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let ended = cluster.state(|state| state.job(job_id).unwrap().status.is_ended());
    assert!(!ended, "its client has a second to come back");
    cluster.stop().await;
}

#[tokio::test]
async fn a_repeated_statement_says_that_an_earlier_try_may_have_done_it() {
    let cluster = Cluster::start(1).await;
    cluster.lead(0, 1);
    cluster.proposed(1).await;
    let query = &mut cluster.replicas[0].query.clone();
    cluster.fate(Fate::CommitUnseen);
    let view = "CREATE VIEW v AS SELECT 1 AS one";
    let unknown = query.submit(keyed("k", view)).await.unwrap_err();
    assert_unknown(&unknown);
    assert!(unknown.message().contains("may find that it did"), "{unknown:?}");
    let session = SessionId::new("s").unwrap().to_string();
    let set = SubmitRequest { session_id: session, ..sql("SET datafusion.execution.batch_size = 10") };
    let unknown = query.submit(set.clone()).await.unwrap_err();
    assert!(unknown.message().contains("safe to repeat"), "{unknown:?}");
    cluster.fate(Fate::Commit);
    query.submit(set).await.unwrap();
    let exists = query.submit(keyed("k", view)).await.unwrap_err();
    assert_eq!((exists.code(), reason(&exists)), (Code::AlreadyExists, Reason::Statement), "{exists:?}");
    assert!(exists.message().contains("an earlier try"), "{exists:?}");
    let other = query.submit(sql("CREATE VIEW v AS SELECT 2 AS two")).await.unwrap_err();
    assert!(!other.message().contains("an earlier try"), "{other:?}");
    query.submit(sql("CREATE OR REPLACE VIEW v AS SELECT 2 AS two")).await.unwrap();
    let commands = cluster.common.entries.lock().unwrap().clone();
    let created = commands.iter().flat_map(|entry| &entry.commands);
    let created = created.filter(|command| matches!(command, Command::CreateView { .. })).count();
    assert_eq!(created, 4);
    cluster.stop().await;
}
