//! A majority, or everything, is down: nothing is decided, nothing is lost, and all goes on by itself.

use std::time::{Duration, Instant};

use polybolos::{
    Client,
    client::{Answer, ClientError, JobState, QueryResult, SubmitOptions},
};
use polybolos_model::{IdempotencyKey, JobId};
use tokio::time::sleep;

use crate::{
    alone,
    audit::Audit,
    fleet::Fleet,
    load::{rows, slow_query},
};

/// Longest time that the slow query, or the jobs of a restarted cluster, may take.
const WORK_DEADLINE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);

/// A submit that may take `seconds`.
fn within(seconds: u64) -> SubmitOptions {
    SubmitOptions { deadline: Some(Duration::from_secs(seconds)), ..Default::default() }
}

async fn query(client: Client, sql: String, seconds: u64) -> Result<QueryResult, ClientError> {
    client.query_with(sql, within(seconds)).await
}

/// Waits for the only job, and for an executor to run it.
async fn job_runs(client: &Client) -> JobId {
    let started = Instant::now();
    loop {
        let jobs = client.jobs().await.unwrap();
        if let Some(job) = jobs.iter().find(|job| job.state() == JobState::Running) {
            return job.job_id.parse().unwrap();
        }
        assert!(started.elapsed() < WORK_DEADLINE, "{jobs:#?}");
        sleep(POLL).await;
    }
}

/// Each launched task with its executor and attempt.
async fn attempts(client: &Client, id: JobId) -> Vec<String> {
    let job = client.job(id).await.unwrap();
    let tasks = job.stages.iter().flat_map(|stage| stage.tasks.iter().map(|task| (stage.stage_id, task)));
    let launched = tasks.filter_map(|(stage, task)| Some((stage, task, task.attempt?)));
    launched
        .map(|(stage, task, attempt)| {
            format!("{stage}/{} as {attempt:?} on {}", task.partition, task.executor_id)
        })
        .collect()
}

/// Waits until the executors have completed as many attempts as they have started.
async fn work_is_done(fleet: &Fleet) {
    let count = |what: &str| {
        let logs = fleet.executors.iter().map(|node| node.history());
        logs.map(|log| log.lines().filter(|line| line.contains(what)).count()).sum::<usize>()
    };
    let started = Instant::now();
    while count("polybolos_executor::task: completed") < count("polybolos_executor::task: started") {
        assert!(started.elapsed() < WORK_DEADLINE, "the running task does not go on");
        sleep(POLL).await;
    }
}

fn no_quorum_is_told(fleet: &Fleet, down: &[usize]) {
    let started = Instant::now();
    let ended =
        fleet.run(&["sql", "--timeout", "3s", "-c", "SELECT count(*) FROM n"]).exits(3).says("quorum");
    assert!(started.elapsed() >= Duration::from_secs(2), "it did not wait: {ended:#?}");
    assert!(started.elapsed() < Duration::from_secs(10), "it did not keep its deadline: {ended:#?}");
    // The states of all three: those that are down, and the one that tells.
    for (at, node) in fleet.schedulers.iter().enumerate() {
        let state = if down.contains(&at) { "last answered" } else { "this one" };
        assert!(ended.stderr.contains(&format!("{}: {state}", node.address)), "{ended:#?}");
    }
}

async fn two_of_three_down() {
    let mut fleet = Fleet::plan(3, 2);
    fleet.executors.iter_mut().for_each(|node| node.filter = Audit::EXECUTOR_FILTER.to_owned());
    fleet.schedulers.iter_mut().for_each(|node| node.filter = Audit::SCHEDULER_FILTER.to_owned());
    fleet.start_all().await;
    let (sql, answer) = slow_query(&fleet, 800);
    let client = fleet.client();
    let running = tokio::spawn(query(fleet.client(), sql.to_owned(), 60));
    let job = job_runs(&client).await;
    let before = attempts(&client, job).await;
    assert!(!before.is_empty());

    let leader = fleet.leader().await;
    let down = [leader, (leader + 1) % 3];
    down.iter().for_each(|at| fleet.schedulers[*at].kill());
    no_quorum_is_told(&fleet, &down);
    let waiting = tokio::spawn(query(fleet.client(), "SELECT count(*) AS c FROM n".to_owned(), 60));
    work_is_done(&fleet).await;
    assert!(!running.is_finished() && !waiting.is_finished());

    fleet.schedulers[down[1]].start().await;
    assert_eq!(rows(&running.await.unwrap().unwrap().batches), [answer]);
    assert_eq!(rows(&waiting.await.unwrap().unwrap().batches), ["800"]);
    let after = attempts(&client, job).await;
    assert!(before.iter().all(|attempt| after.contains(attempt)), "{before:#?} {after:#?}");
    assert_eq!(Audit::of(&fleet).reruns(), Vec::<String>::new());

    // The other way round: a leader that is left alone must notice, too.
    fleet.schedulers[down[0]].start().await;
    fleet.agree().await;
    let leader = fleet.leader().await;
    let down = [(leader + 1) % 3, (leader + 2) % 3];
    down.iter().for_each(|at| fleet.schedulers[*at].kill());
    no_quorum_is_told(&fleet, &down);
    fleet.schedulers[down[0]].start().await;
    assert_eq!(fleet.sql("SELECT count(*) AS c FROM n").exits(0).stdout, "c\n800\n");
}

#[test]
fn without_a_majority_submits_wait_and_running_tasks_go_on() {
    alone(Duration::from_secs(240), two_of_three_down());
}

/// Submits without reading anything, and returns the acknowledged id.
async fn submit(client: &Client, sql: &str, key: &str) -> JobId {
    let options = SubmitOptions { key: Some(IdempotencyKey::new(key).unwrap()), ..within(60) };
    match client.submit(sql, options).await.unwrap() {
        Answer::Job(job) => job.id(),
        Answer::Inline(_) => panic!("'{sql}' was answered without a job"),
    }
}

async fn everything_down() {
    let mut fleet = Fleet::start(3, 2).await;
    let (slow, answer) = slow_query(&fleet, 500);
    let client = fleet.client();
    let quick = "SELECT n % 2 AS k, count(*) AS c FROM n GROUP BY k ORDER BY k";
    let mut acknowledged = Vec::new();
    for number in 0..8 {
        // The first have ended when everything is killed, some run, some wait.
        let sql = if number < 4 { quick } else { slow };
        let key = format!("key-{number}");
        acknowledged.push((submit(&client, sql, &key).await, key, sql));
    }
    for node in fleet.schedulers.iter_mut().chain(&mut fleet.executors) {
        node.kill();
    }
    fleet.start_all().await;

    let client = fleet.client();
    for (id, key, sql) in acknowledged {
        assert_eq!(submit(&client, sql, &key).await, id, "{key}");
        let started = Instant::now();
        loop {
            let job = client.job(id).await.unwrap();
            match job.summary.as_ref().unwrap().state() {
                JobState::Succeeded => break,
                JobState::Queued | JobState::Running => {}
                JobState::Failed | JobState::Cancelled | JobState::Unspecified => panic!("{key}: {job:#?}"),
            }
            assert!(started.elapsed() < WORK_DEADLINE, "{key}: {job:#?}");
            sleep(POLL).await;
        }
    }
    // Carried on to the end, the answer is right, and its rows are there.
    let options = SubmitOptions { key: Some(IdempotencyKey::new("key-7").unwrap()), ..within(60) };
    assert_eq!(rows(&client.query_with(slow, options).await.unwrap().batches), [answer]);
    fleet.agree().await;
}

#[test]
fn after_a_kill_of_everything_each_acknowledged_job_comes_to_its_end() {
    alone(Duration::from_secs(240), everything_down());
}
