//! Executors are killed, paused or robbed of their files in the middle of a query: it takes longer, its answer is right.
//!
//! ```text
//!   Work: a table of several files, a query of several stages that runs for seconds, its rows by DataFusion
//!   a fault, once the victim has finished some tasks of it and runs another ─▶ the rows are compared
//! ```

use std::{
    fs,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use polybolos::{
    Client,
    client::{Answer, JobHandle, JobState, SubmitOptions},
};
use polybolos_proto::v1::JobDetail;
use tokio::time::sleep;

use crate::{
    alone,
    fleet::Fleet,
    load::rows,
    node::Node,
    upgrade::{NEWEST, version_in_use},
};

const LIMIT: Duration = Duration::from_secs(120);
const FILES: u64 = 6;
const ROWS: u64 = 84_000;
const POLL: Duration = Duration::from_millis(10);
/// Longest time until a query gets to where its fault is to come.
const MIDDLE_DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const SQL: &str = "SELECT a.n % 7 AS k, count(*) AS c, sum(b.n) AS s FROM n a JOIN n b ON a.n % 48 = b.n % 48 \
                   WHERE (a.n + b.n) % 5 < 3 GROUP BY a.n % 7 ORDER BY k";

pub(crate) struct Work {
    pub(crate) client: Client,
    pub(crate) expected: Vec<String>,
}

impl Work {
    pub(crate) async fn of(fleet: &Fleet) -> Self {
        // Settings count from then on.
        version_in_use(fleet, NEWEST).await;
        let folder = fleet.folder.path().join("n");
        fs::create_dir(&folder).unwrap();
        for file in 0..FILES {
            let numbers: String = (0..ROWS).filter(|n| n % FILES == file).map(|n| format!("{n}\n")).collect();
            fs::write(folder.join(format!("{file}.csv")), format!("n\n{numbers}")).unwrap();
        }
        let table = format!(
            "CREATE EXTERNAL TABLE n STORED AS CSV LOCATION '{}/' OPTIONS ('format.has_header' 'true')",
            folder.display()
        );
        let here = SessionContext::new();
        here.sql(&table).await.unwrap();
        let expected = rows(&here.sql(SQL).await.unwrap().collect().await.unwrap());
        let client = fleet.client();
        client.query(table).await.unwrap();
        Self { client, expected }
    }

    /// Submits the query in as many parts as there are files.
    pub(crate) async fn begin(&self) -> JobHandle {
        let partitions = ("datafusion.execution.target_partitions".to_owned(), FILES.to_string());
        let as_planned = ("polybolos.adaptive".to_owned(), "false".to_owned());
        let options = SubmitOptions { options: [partitions, as_planned].into(), ..SubmitOptions::default() };
        match self.client.submit(SQL, options).await.unwrap() {
            Answer::Job(job) => job,
            Answer::Inline(_) => panic!("the query was answered without a job"),
        }
    }

    /// Waits until the victim has finished a task of the query and runs another that reads what others made.
    async fn is_in_the_middle(&self, job: &JobHandle, victim: &str) {
        let started = Instant::now();
        loop {
            let detail = self.client.job(job.id()).await.unwrap();
            if has(&detail, victim, "done", false) && has(&detail, victim, "running", true) {
                return;
            }
            let state = detail.summary.as_ref().unwrap().state();
            let is_open = matches!(state, JobState::Queued | JobState::Running);
            assert!(
                is_open && started.elapsed() < MIDDLE_DEADLINE,
                "{victim} was never in the middle: {detail:#?}"
            );
            sleep(POLL).await;
        }
    }

    pub(crate) async fn ends_well(&self, job: JobHandle) {
        let batches: Vec<_> = job.stream().try_collect().await.unwrap();
        assert_eq!(rows(&batches), self.expected);
    }

    async fn again(&self) {
        self.ends_well(self.begin().await).await;
        self.client.settle().await;
    }
}

/// Whether a task of such a state is on the executor, if asked in a stage that reads others.
fn has(detail: &JobDetail, executor: &str, state: &str, reads: bool) -> bool {
    let stages = detail.stages.iter().filter(|stage| !reads || !stage.inputs.is_empty());
    stages.flat_map(|stage| &stage.tasks).any(|task| task.executor_id == executor && task.state == state)
}

/// A fleet with work, and a query of which the first executor is in the middle.
pub(crate) async fn in_the_middle(fleet: &Fleet) -> (Work, JobHandle) {
    let work = Work::of(fleet).await;
    let job = work.begin().await;
    work.is_in_the_middle(&job, &fleet.executors[0].name).await;
    (work, job)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Waits until the replica says that it lost the executor, and returns the line and when that was.
async fn loses(scheduler: &mut Node, executor: &str) -> (String, Duration) {
    let line = scheduler.says(&format!("executor lost executor={executor} ")).await;
    let stamp = string_to_timestamp_nanos(line.split_whitespace().next().unwrap()).unwrap();
    (line, Duration::from_nanos(stamp.try_into().unwrap()))
}

async fn one_killed() {
    let mut fleet = Fleet::start(1, 3).await;
    let (work, job) = in_the_middle(&fleet).await;
    let killed = now();
    fleet.executors[0].kill();
    let (line, lost) = loses(&mut fleet.schedulers[0], "e1").await;
    assert!(line.contains("nothing listens"), "{line}");
    let detection = lost.saturating_sub(killed);
    eprintln!("detected after {detection:?}");
    assert!(detection < Duration::from_secs(1), "{detection:?}: {line}");
    work.ends_well(job).await;
    fleet.executors[0].start().await;
    fleet.live_executors(3).await;
    work.again().await;
}

#[test]
fn an_executor_killed_in_the_middle_is_noticed_within_a_second_and_its_work_done_elsewhere() {
    alone(LIMIT, one_killed());
}

async fn all_killed() {
    let mut fleet = Fleet::start(1, 3).await;
    let (work, job) = in_the_middle(&fleet).await;
    fleet.executors.iter_mut().for_each(Node::kill);
    let (id, started) = (job.id().to_string(), Instant::now());
    while !fleet.run(&["jobs", "show", &id]).exits(0).stdout.contains("waits for an executor since") {
        assert!(started.elapsed() < Duration::from_secs(10), "the query does not say that it waits");
        sleep(POLL).await;
    }
    for node in &mut fleet.executors {
        node.start().await;
    }
    work.ends_well(job).await;
    assert!(!fleet.run(&["jobs", "show", &id]).exits(0).stdout.contains("waits for"));
}

#[test]
fn a_query_waits_while_all_executors_are_down_and_goes_on_when_they_are_back() {
    alone(LIMIT, all_killed());
}

async fn paused() {
    let mut fleet = Fleet::start(1, 3).await;
    let (work, job) = in_the_middle(&fleet).await;
    fleet.executors[0].pause();
    let paused = Instant::now();
    // Its connections stay open: only its silence tells.
    let (line, _) = loses(&mut fleet.schedulers[0], "e1").await;
    assert!(line.contains("no heartbeat for"), "{line}");
    sleep(Duration::from_secs(5).saturating_sub(paused.elapsed())).await;
    fleet.executors[0].resume();
    work.ends_well(job).await;
    fleet.live_executors(3).await;
    work.again().await;
    for node in &mut fleet.executors {
        node.stop().await;
    }
}

#[test]
fn an_executor_that_was_paused_comes_back_and_its_late_reports_spoil_nothing() {
    alone(LIMIT, paused());
}

async fn robbed() {
    let mut fleet = Fleet::plan(1, 3);
    for node in &mut fleet.executors {
        // Every output is a file.
        node.args.extend(["--shuffle-memory", "1B"].map(str::to_owned));
    }
    fleet.start_all().await;
    let (work, job) = in_the_middle(&fleet).await;
    fs::remove_dir_all(&fleet.executors[0].dir).unwrap();
    work.ends_well(job).await;
    work.again().await;
}

#[test]
fn an_executor_whose_files_are_deleted_costs_no_answer() {
    alone(LIMIT, robbed());
}

async fn killed_with_the_leader() {
    let mut fleet = Fleet::start(3, 3).await;
    let (work, job) = in_the_middle(&fleet).await;
    let leader = fleet.leader().await;
    let killed = now();
    fleet.schedulers[leader].kill();
    fleet.executors[0].kill();
    let next = fleet.leader().await;
    let (line, lost) = loses(&mut fleet.schedulers[next], "e1").await;
    let detection = lost.saturating_sub(killed);
    eprintln!("detected after {detection:?}");
    assert!(line.contains("nothing listens") && detection < Duration::from_secs(3), "{detection:?}: {line}");
    work.ends_well(job).await;
}

#[test]
fn an_executor_that_dies_with_the_leader_is_found_by_the_next_one_without_a_time_out() {
    alone(LIMIT, killed_with_the_leader());
}

async fn nobody_comes() {
    let mut fleet = Fleet::plan(1, 0);
    fleet.schedulers[0].args.extend(["--no-executor-wait", "2s"].map(str::to_owned));
    fleet.start_all().await;
    let started = Instant::now();
    fleet
        .sql("SELECT count(*) FROM generate_series(1, 10)")
        .exits(1)
        .says("waited 2 s for an executor")
        .says("polybolos executor");
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
}

#[test]
fn a_query_that_no_executor_takes_up_fails_after_the_time_that_is_set() {
    alone(LIMIT, nobody_comes());
}

async fn bad_times() {
    let mut fleet = Fleet::plan(1, 0);
    let node = &mut fleet.schedulers[0];
    let args = node.args.clone();
    for (flags, part) in [
        (["--executor-timeout", "1400ms"], "3 heartbeats of 500 ms"),
        (["--executor-heartbeat", "2s"], "3 heartbeats of 2000 ms"),
        (["--stream-grace", "4s"], "above the executor time-out"),
    ] {
        node.args = args.iter().cloned().chain(flags.map(str::to_owned)).collect();
        node.refuses(&[part]).await;
    }
}

#[test]
fn times_that_would_lose_healthy_executors_are_refused() {
    alone(LIMIT, bad_times());
}
