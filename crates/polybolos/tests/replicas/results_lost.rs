//! Queries that have succeeded and whose results are lost before their client reads them: they are made again, and the
//! client gets all rows, each once.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

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
    upgrade::{NEWEST, version_in_use},
};

const LIMIT: Duration = Duration::from_secs(120);
const FILES: u64 = 6;
/// So many that no partition of the result comes with the completion of its task.
const ROWS: u64 = 12_000;
const POLL: Duration = Duration::from_millis(10);
const END_DEADLINE: Duration = Duration::from_secs(60);

const SQL: &str = "SELECT a.n, count(*) AS c FROM n a JOIN n b ON a.n = b.n GROUP BY a.n";

/// Submits the query and waits for its success. Nothing of it is read.
async fn unread(fleet: &Fleet, client: &Client) -> (JobHandle, JobDetail) {
    // Before, a cluster keeps no plans of what has ended.
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
    client.query(table).await.unwrap();
    let partitions = ("datafusion.execution.target_partitions".to_owned(), FILES.to_string());
    let as_planned = ("polybolos.adaptive".to_owned(), "false".to_owned());
    let options = SubmitOptions { options: [partitions, as_planned].into(), ..SubmitOptions::default() };
    let Answer::Job(job) = client.submit(SQL, options).await.unwrap() else { panic!("no job") };
    let started = Instant::now();
    loop {
        let detail = client.job(job.id()).await.unwrap();
        if detail.summary.as_ref().unwrap().state() == JobState::Succeeded {
            return (job, detail);
        }
        assert!(started.elapsed() < END_DEADLINE, "the query does not end: {detail:#?}");
        sleep(POLL).await;
    }
}

/// How many partitions of the result each executor holds.
fn holders(detail: &JobDetail) -> BTreeMap<String, usize> {
    let mut holders = BTreeMap::new();
    for task in &detail.stages.last().unwrap().tasks {
        *holders.entry(task.executor_id.clone()).or_default() += 1;
    }
    holders
}

async fn is_whole(job: &JobHandle) {
    let batches: Vec<_> = job.stream().try_collect().await.unwrap();
    let mut got = rows(&batches);
    got.sort_unstable();
    let mut expected: Vec<String> = (0..ROWS).map(|n| format!("{n} | 1")).collect();
    expected.sort_unstable();
    assert_eq!(got, expected);
}

async fn holder_killed(schedulers: u64, with_leader: bool) {
    let mut fleet = Fleet::start(schedulers, 3).await;
    let client = fleet.client();
    let (job, detail) = unread(&fleet, &client).await;
    let holders = holders(&detail);
    assert!(holders.len() > 1, "one executor made all of the result: {holders:?}");
    let (victim, held) = holders.iter().max_by_key(|(_, held)| **held).unwrap();
    eprintln!("{victim} holds {held} of {FILES} partitions");
    fleet.executors.iter_mut().find(|node| node.name == *victim).unwrap().kill();
    if with_leader {
        let leader = fleet.leader().await;
        fleet.schedulers[leader].kill();
    }
    is_whole(&job).await;
    client.settle().await;
    let story = fleet.run(&["jobs", "timeline", &job.id().to_string()]).exits(0).stdout;
    assert!(story.contains("its client asked for results that were lost"), "{story}");
}

#[test]
fn a_result_whose_executor_is_killed_before_it_is_read_is_made_again() {
    alone(LIMIT, holder_killed(1, false));
}

#[test]
fn so_it_is_when_the_leader_is_killed_too() {
    alone(LIMIT, holder_killed(3, true));
}

async fn robbed() {
    let mut fleet = Fleet::plan(1, 2);
    for node in &mut fleet.executors {
        // Every output is a file.
        node.args.extend(["--shuffle-memory", "1B"].map(str::to_owned));
    }
    fleet.start_all().await;
    let client = fleet.client();
    let (job, detail) = unread(&fleet, &client).await;
    assert!(holders(&detail).contains_key("e1"), "{detail:#?}");
    fs::remove_dir_all(&fleet.executors[0].dir).unwrap();
    is_whole(&job).await;
}

#[test]
fn a_result_whose_files_are_deleted_before_it_is_read_is_made_again() {
    alone(LIMIT, robbed());
}
