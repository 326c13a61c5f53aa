//! Results that are read while their task runs, whose executor is killed then: another one makes the rest.

use std::{fs, time::Duration};

use futures::{StreamExt, TryStreamExt};
use polybolos::client::{Answer, SubmitOptions};

use crate::{
    alone,
    fleet::Fleet,
    load::rows,
    upgrade::{NEWEST, version_in_use},
};

const LIMIT: Duration = Duration::from_secs(120);
const ROWS: u64 = 3_000;
/// So often the digits of a number are written one after the other: a row takes about a millisecond.
const TIMES: u64 = 20_000;

/// Each row of it takes a while.
fn sql() -> String {
    format!(
        "SELECT n, length(regexp_replace(repeat(CAST(n AS VARCHAR), {TIMES}), '[0-9]{{3}}', 'x', 'g')) AS l FROM n"
    )
}

fn expected(n: u64) -> String {
    let digits = n.to_string().len() as u64 * TIMES;
    format!("{n} | {}", digits / 3 + digits % 3)
}

async fn killed_in_the_middle(schedulers: u64, with_leader: bool) {
    let mut fleet = Fleet::start(schedulers, 2).await;
    // Before, no job says of its rows that they may come early.
    version_in_use(&fleet, NEWEST).await;
    let client = fleet.client();
    let folder = fleet.folder.path().join("n");
    fs::create_dir(&folder).unwrap();
    let numbers: String = (0..ROWS).map(|n| format!("{n}\n")).collect();
    fs::write(folder.join("n.csv"), format!("n\n{numbers}")).unwrap();
    let table = format!(
        "CREATE EXTERNAL TABLE n STORED AS CSV LOCATION '{}/' OPTIONS ('format.has_header' 'true')",
        folder.display()
    );
    client.query(table).await.unwrap();
    let options = [("datafusion.execution.batch_size", "50"), ("polybolos.speculation", "false")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = SubmitOptions { options: options.into(), ..SubmitOptions::default() };
    let Answer::Job(job) = client.submit(sql(), options).await.unwrap() else { panic!("no job") };
    let mut stream = job.stream();
    let mut batches = vec![stream.next().await.unwrap().unwrap()];
    let detail = client.job(job.id()).await.unwrap();
    let task = &detail.stages[0].tasks[0];
    assert_eq!((detail.stages[0].tasks.len(), task.state.as_str()), (1, "running"), "{detail:#?}");
    fleet.executors.iter_mut().find(|node| node.name == task.executor_id).unwrap().kill();
    if with_leader {
        let leader = fleet.leader().await;
        fleet.schedulers[leader].kill();
    }
    batches.extend(stream.try_collect::<Vec<_>>().await.unwrap());
    assert_eq!(
        rows(&batches),
        (0..ROWS).map(expected).collect::<Vec<_>>(),
        "each row once, in the order of the file"
    );
    client.settle().await;
}

#[test]
fn an_early_reader_whose_executor_is_killed_goes_on_with_another_attempt() {
    alone(LIMIT, killed_in_the_middle(1, false));
}

#[test]
fn so_does_one_whose_leader_is_killed_too() {
    alone(LIMIT, killed_in_the_middle(3, true));
}
