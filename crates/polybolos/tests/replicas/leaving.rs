//! Executors are told to leave, by a signal or by an operator: what they had done is not done again.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use polybolos::client::JobState;
use tokio::time::sleep;

use crate::{
    alone,
    audit::Audit,
    executor_lost::in_the_middle,
    fleet::Fleet,
    load::{Load, Tpch, rows, slow_query},
    support::{command, start},
};

const LIMIT: Duration = Duration::from_secs(240);
/// Longest time that an executor may take to leave under load.
const LEAVES: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A fleet whose logs tell what ran.
async fn audited(schedulers: u64, executors: usize) -> Fleet {
    let mut fleet = Fleet::plan(schedulers, executors);
    fleet.schedulers.iter_mut().for_each(|node| node.filter = Audit::SCHEDULER_FILTER.to_owned());
    fleet.executors.iter_mut().for_each(|node| node.filter = Audit::EXECUTOR_FILTER.to_owned());
    fleet.start_all().await;
    fleet
}

fn nothing_ran_again(fleet: &Fleet) {
    let audit = Audit::of(fleet);
    assert!(audit.completed() > 0 && audit.unexplained().is_empty(), "{:?}", audit.unexplained());
    assert_eq!(audit.reruns(), Vec::<String>::new());
}

async fn rolling() {
    let (mut fleet, tpch) = (audited(3, 3).await, Tpch::make().await);
    tpch.register(&fleet.client()).await;
    let load = Load::start(&fleet, &tpch, 3);
    sleep(Duration::from_secs(2)).await;
    for at in 0..fleet.executors.len() {
        let told = Instant::now();
        fleet.executors[at].terminate();
        assert_eq!(fleet.executors[at].ends(LEAVES).await, Some(0));
        let log = fleet.executors[at].log();
        assert!(log.contains("left the cluster"), "{log}");
        eprintln!("{} left after {:?}", fleet.executors[at].name, told.elapsed());
        fleet.executors[at].start().await;
        fleet.live_executors(3).await;
        sleep(Duration::from_secs(1)).await;
    }
    let seen = load.stop().await;
    assert!(seen.failures.is_empty(), "{:#?}", seen.failures);
    assert!(seen.answers.len() > 10, "{seen:?}");
    nothing_ran_again(&fleet);
    let lost: Vec<String> = fleet.schedulers.iter().map(|node| node.history()).collect();
    assert!(!lost.concat().contains("executor lost"), "nobody counted as lost");
}

#[test]
fn a_rolling_restart_of_all_executors_under_load_runs_nothing_again() {
    alone(LIMIT, rolling());
}

async fn by_the_operator() {
    let mut fleet = audited(1, 3).await;
    let (work, job) = in_the_middle(&fleet).await;
    fleet.run(&["executor", "drain", "e9"]).exits(1).says("no live executor 'e9'");
    let drained = fleet.run(&["executor", "drain", "e1"]).exits(0);
    assert!(drained.stdout.contains("e1 has left: it was drained"), "{drained:#?}");
    assert_eq!(fleet.executors[0].ends(LEAVES).await, Some(0));
    let status = fleet.run(&["status"]).exits(0).stdout;
    assert!(status.lines().any(|line| line.contains("e1") && line.contains("left")), "{status}");
    work.ends_well(job).await;
    nothing_ran_again(&fleet);
}

#[test]
fn an_executor_that_an_operator_drains_in_the_middle_of_a_query_takes_nothing_along() {
    alone(LIMIT, by_the_operator());
}

async fn unread() {
    let mut fleet = audited(1, 2).await;
    let (work, job) = in_the_middle(&fleet).await;
    let id = job.id();
    while work.client.job(id).await.unwrap().summary.unwrap().state() != JobState::Succeeded {
        sleep(POLL).await;
    }
    // Wherever the result is, it moves at least once.
    for at in [0, 1] {
        fleet.executors[at].terminate();
        assert_eq!(fleet.executors[at].ends(LEAVES).await, Some(0));
        fleet.executors[at].start().await;
        fleet.live_executors(2).await;
    }
    let batches: Vec<_> = job.stream().try_collect().await.unwrap();
    assert_eq!(rows(&batches), work.expected);
    nothing_ran_again(&fleet);
}

#[test]
fn a_result_that_nobody_has_read_outlives_a_rolling_restart() {
    alone(LIMIT, unread());
}

async fn deadline() {
    let mut fleet = audited(1, 2).await;
    let (sql, answer) = slow_query(&fleet, 800);
    let client = fleet.client();
    let query = tokio::spawn({
        let client = client.clone();
        async move { client.query(sql).await }
    });
    let started = Instant::now();
    let on = loop {
        assert!(started.elapsed() < LEAVES, "the query does not run");
        sleep(POLL).await;
        let jobs = client.jobs().await.unwrap();
        let Some(job) = jobs.iter().find(|job| job.sql == sql) else { continue };
        let detail = client.job(job.job_id.parse().unwrap()).await.unwrap();
        let mut tasks = detail.stages.into_iter().flat_map(|stage| stage.tasks);
        if let Some(task) = tasks.find(|task| task.state == "running") {
            break task.executor_id;
        }
    };
    let drained = fleet.run(&["executor", "drain", &on, "--deadline", "300ms"]).exits(0);
    assert!(drained.stdout.contains("has left"), "{drained:#?}");
    let at = fleet.executors.iter().position(|node| node.name == on).unwrap();
    assert_eq!(fleet.executors[at].ends(LEAVES).await, Some(0));
    assert_eq!(rows(&query.await.unwrap().unwrap().batches), [answer]);
    let story = fleet.run(&["jobs", "list"]).exits(0).stdout;
    assert!(story.contains("succeeded"), "{story}");
}

#[test]
fn a_task_that_does_not_end_in_time_moves_to_another_executor() {
    alone(LIMIT, deadline());
}

/// An executor of a cluster that is not there.
fn forlorn() -> (crate::support::Process, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let args = [
        "executor",
        "--id",
        "e1",
        "--schedulers",
        "127.0.0.1:1",
        "--listen",
        "127.0.0.1:0",
        "--work-dir",
        dir,
    ];
    let mut executor = start(command(&args), true);
    executor.wait_for("listening on");
    (executor, folder)
}

#[test]
fn an_executor_that_no_scheduler_answers_ends_after_a_few_seconds_and_at_once_when_told_again() {
    let (executor, _folder) = forlorn();
    let told = Instant::now();
    executor.signal("TERM");
    executor.wait(Duration::from_secs(15)).exits(0).says("stopping").says("nobody has let this executor go");
    assert!(told.elapsed() >= Duration::from_secs(4), "{:?}", told.elapsed());

    let (mut executor, _folder) = forlorn();
    let told = Instant::now();
    executor.signal("TERM");
    executor.wait_for("handing over");
    executor.signal("TERM");
    executor.wait(Duration::from_secs(3)).exits(0);
    assert!(told.elapsed() < Duration::from_secs(4), "{:?}", told.elapsed());
}
