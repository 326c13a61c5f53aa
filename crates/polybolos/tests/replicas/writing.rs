//! Statements write files while executors and the leading scheduler are killed or stand still: the rows of each are there
//! once, and nothing else is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures::TryStreamExt;
use polybolos::{
    Client,
    client::{Answer, ClientError, JobHandle, JobState, SubmitOptions},
};
use tokio::time::sleep;

use crate::{alone, fleet::Fleet, load::rows, setting, upgrade::NEWEST};

const LIMIT: Duration = Duration::from_secs(400);
const FILES: u64 = 6;
const ROWS: u64 = 24_000;
/// Of `ROWS`, those that join with each.
const MATES: u64 = 100;
const SWEPT_DEADLINE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(10);

/// A fleet whose sweeps come soon, a table of numbers, and a table to write to.
struct Work {
    fleet: Fleet,
    client: Client,
    written: PathBuf,
}

impl Work {
    async fn start() -> Self {
        let mut fleet = Fleet::plan(3, 3);
        for node in &mut fleet.schedulers {
            node.args.extend(["--sweep-grace", "5s"].map(str::to_owned));
        }
        fleet.start_all().await;
        let root = fleet.folder.path().to_owned();
        let (numbers, written) = (root.join("n"), root.join("w"));
        fs::create_dir(&numbers).unwrap();
        for file in 0..FILES {
            let lines: String = (0..ROWS).filter(|n| n % FILES == file).map(|n| format!("{n}\n")).collect();
            fs::write(numbers.join(format!("{file}.csv")), format!("n\n{lines}")).unwrap();
        }
        let client = fleet.client();
        // Nobody writes before all replicas know how.
        let started = Instant::now();
        while u64::from(client.status().await.unwrap().version) < NEWEST {
            assert!(started.elapsed() < Duration::from_secs(30), "the version stays");
            sleep(POLL).await;
        }
        let header = "OPTIONS ('format.has_header' 'true')";
        for create in [
            format!("CREATE EXTERNAL TABLE n STORED AS CSV LOCATION '{}/' {header}", numbers.display()),
            format!(
                "CREATE EXTERNAL TABLE w (n BIGINT, mates BIGINT, round BIGINT) STORED AS PARQUET LOCATION '{}/'",
                written.display()
            ),
        ] {
            client.query(create).await.unwrap();
        }
        Self { fleet, client, written }
    }

    /// Begins to write `ROWS` rows in as many parts as there are files.
    async fn begin(&self, round: u64) -> JobHandle {
        let groups = ROWS / MATES;
        let sql = format!(
            "INSERT INTO w SELECT a.n, count(*), {round} FROM n a JOIN n b ON a.n % {groups} = b.n % {groups} GROUP BY a.n"
        );
        let partitions = ("datafusion.execution.target_partitions".to_owned(), FILES.to_string());
        let as_planned = ("polybolos.adaptive".to_owned(), "false".to_owned());
        let options = SubmitOptions { options: [partitions, as_planned].into(), ..SubmitOptions::default() };
        match self.client.submit(sql, options).await.unwrap() {
            Answer::Job(job) => job,
            Answer::Inline(_) => panic!("the statement was answered without a job"),
        }
    }

    /// The rounds in the table, each with all of its rows.
    async fn holds(&self, rounds: u64) {
        let sql = "SELECT round, count(*) AS rows, count(DISTINCT n) AS n, min(mates) AS least, max(mates) AS most \
                   FROM w GROUP BY round ORDER BY round";
        let found = rows(&self.client.query(sql).await.unwrap().batches);
        let expected: Vec<Vec<u64>> =
            (0..rounds).map(|round| vec![round, ROWS, ROWS, MATES, MATES]).collect();
        let found: Vec<Vec<u64>> = found
            .iter()
            .map(|row| {
                row.split(|c: char| !c.is_ascii_digit())
                    .filter(|cell| !cell.is_empty())
                    .map(|cell| cell.parse().unwrap())
                    .collect()
            })
            .collect();
        assert_eq!(found, expected);
    }

    /// Nothing is staged any more, and every file is of a statement that succeeded.
    async fn nothing_else_is_left(&self) {
        let started = Instant::now();
        let staging = self.written.join(".polybolos-staging");
        while staging.exists() {
            assert!(started.elapsed() < SWEPT_DEADLINE, "these are left: {:?}", below(&staging));
            sleep(POLL).await;
        }
        let jobs = self.client.jobs().await.unwrap();
        let succeeded: BTreeSet<String> = jobs
            .into_iter()
            .filter(|job| job.state() == JobState::Succeeded && job.sql.starts_with("INSERT"))
            .map(|job| job.job_id)
            .collect();
        for file in below(&self.written) {
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(
                succeeded.contains(&name[..16]) && name.ends_with(".parquet"),
                "{name} is of {succeeded:?}"
            );
        }
    }
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(below(&path)) } else { found.push(path) }
    }
    found
}

async fn ends_well(job: JobHandle) {
    let batches: Vec<_> = job.stream().try_collect().await.unwrap();
    let answer = rows(&batches).concat();
    assert!(answer.contains(&ROWS.to_string()), "{answer}");
}

async fn kills() {
    let mut work = Work::start().await;
    let rounds = setting("POLYBOLOS_KILLS", 8);
    let started = Instant::now();
    ends_well(work.begin(0).await).await;
    let takes = started.elapsed();
    for round in 1..=rounds {
        let job = work.begin(round).await;
        // All moments of a statement, from its first tasks to its publishing.
        sleep(takes.mul_f64(((round * 7) % 12) as f64 / 10.0)).await;
        let executor = usize::try_from(round % 3).unwrap();
        let leader = work.fleet.leader().await;
        let (kills_executor, kills_leader) = (round % 4 != 2, round % 4 >= 2);
        if kills_executor {
            work.fleet.executors[executor].kill();
        }
        if kills_leader {
            work.fleet.schedulers[leader].kill();
        }
        ends_well(job).await;
        if kills_leader {
            work.fleet.schedulers[leader].start().await;
        }
        if kills_executor {
            work.fleet.executors[executor].start().await;
        }
        work.fleet.live_executors(3).await;
    }
    work.holds(rounds + 1).await;
    work.nothing_else_is_left().await;
}

#[test]
fn kills_leave_no_row_twice_and_none_out() {
    alone(LIMIT, kills());
}

/// An executor that stands still wakes up with a statement's files half written, when others have written them again.
async fn late() {
    let mut work = Work::start().await;
    for round in 0..3 {
        let job = work.begin(round).await;
        let started = Instant::now();
        while !work.written.join(".polybolos-staging").exists() {
            assert!(started.elapsed() < Duration::from_secs(60), "nothing is staged");
            sleep(POLL).await;
        }
        work.fleet.executors[0].pause();
        ends_well(job).await;
        work.fleet.executors[0].resume();
        work.fleet.live_executors(3).await;
    }
    work.holds(3).await;
    work.nothing_else_is_left().await;
}

#[test]
fn late_writers_leave_nothing() {
    alone(LIMIT, late());
}

/// The cluster is killed as a whole while files are staged, and the statement is cancelled when it is back.
async fn outage() {
    let mut work = Work::start().await;
    ends_well(work.begin(0).await).await;
    let job = work.begin(1).await;
    let started = Instant::now();
    while below(&work.written.join(".polybolos-staging")).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing is staged");
        sleep(POLL).await;
    }
    for node in work.fleet.executors.iter_mut().chain(&mut work.fleet.schedulers) {
        node.kill();
    }
    for node in &mut work.fleet.schedulers {
        node.spawn();
    }
    work.fleet.leader().await;
    // It may have been published before the kill.
    let cancelled = job.cancel("enough").await;
    for node in &mut work.fleet.executors {
        node.start().await;
    }
    let ended = job.stream().try_collect::<Vec<_>>().await;
    match ended {
        Ok(_) => work.holds(2).await,
        Err(ClientError::Cancelled { .. }) => {
            cancelled.unwrap();
            work.holds(1).await;
        }
        Err(error) => panic!("{error}"),
    }
    work.nothing_else_is_left().await;
}

#[test]
fn what_was_staged_before_an_outage_is_swept_after_it() {
    alone(LIMIT, outage());
}
