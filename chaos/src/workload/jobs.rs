//! Small queries with idempotency keys, whose answers are known by arithmetic, and queries that are cancelled.

use std::{collections::BTreeMap, time::Duration};

use futures::TryStreamExt;
use polybolos_client::{Answer, Client, ClientError, JobHandle, JobState, SubmitOptions};
use polybolos_model::{IdempotencyKey, JobId};
use rand::{Rng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Worker, digest, texts};
use crate::history::{End, Op, Process};

/// A submit whose outcome is unknown is repeated with its key so often.
const SUBMITS: u32 = 4;
const SUBMIT_DEADLINE: Duration = Duration::from_secs(20);
/// How often a job is asked for its status before its result is read.
const MAX_LOOKS: u32 = 4;
const LOOK_MS: u64 = 150;
/// Percent of the jobs that are submitted by two clients at once.
const TWICE_PERCENT: u32 = 30;
/// A query that is cancelled would take seconds.
const SLOW: &str = "SELECT count(*) AS c FROM generate_series(1, 20000) AS a(x) JOIN generate_series(1, 20000) AS b(y) \
                    ON x % 7 = y % 7 WHERE (x * y) % 11 = 3";

/// A statement and its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub sql: String,
    pub rows: Vec<String>,
}

/// One of a few shapes, with numbers of its own.
pub fn small_query(random: &mut StdRng) -> Statement {
    let (n, k) = (random.random_range(100..5_000_u64), random.random_range(2..12_u64));
    let of = |r: u64| (1..=n).filter(move |x| x % k == r);
    match random.random_range(0..3) {
        0 => Statement {
            sql: format!(
                "SELECT n % {k} AS k, count(*) AS c, sum(n) AS s FROM generate_series(1, {n}) AS t(n) GROUP BY n % {k}"
            ),
            rows: (0..k)
                .filter(|r| of(*r).next().is_some())
                .map(|r| format!("{r} | {} | {}", of(r).count(), of(r).sum::<u64>()))
                .collect(),
        },
        1 => {
            let m = n / 2;
            let pairs = (0..k).map(|r| of(r).count() * (1..=m).filter(|y| y % k == r).count());
            Statement {
                sql: format!(
                    "SELECT count(*) AS c FROM generate_series(1, {n}) AS a(x) JOIN generate_series(1, {m}) AS b(y) \
                     ON x % {k} = y % {k}"
                ),
                rows: vec![pairs.sum::<usize>().to_string()],
            }
        }
        _ => Statement {
            sql: format!(
                "SELECT n FROM generate_series(1, {n}) AS t(n) WHERE n % {k} = 1 ORDER BY n DESC LIMIT 20"
            ),
            rows: of(1).collect::<Vec<_>>().into_iter().rev().take(20).map(|x| x.to_string()).collect(),
        },
    }
}

/// Of the submits of this client: more tasks than a small query would have.
pub(super) fn options(key: &str, partitions: u32) -> SubmitOptions {
    let partitions = ("datafusion.execution.target_partitions".to_owned(), partitions.to_string());
    SubmitOptions {
        // Keys are made of letters, digits and dashes.
        key: IdempotencyKey::new(key).ok(),
        options: BTreeMap::from([partitions]),
        deadline: Some(SUBMIT_DEADLINE),
        ..SubmitOptions::default()
    }
}

/// `second` is another client that submits the same at the same time.
pub(super) async fn run(mut worker: Worker, second: Client, second_process: Process) {
    let releases = worker.scene.recorder.process();
    let mut number = 0;
    while worker.goes_on().await {
        number += 1;
        let key = format!("{:x}-job-{}-{number}", worker.scene.seed, worker.process.id());
        let Statement { sql, rows } = small_query(&mut worker.random);
        let expect = digest(rows);
        let partitions = worker.random.random_range(1..=4);
        let input = json!({"expect": expect});
        let first = submit(&worker.client, &worker.process, &key, &sql, partitions, &input);
        let job = if worker.random.random_range(0..100) < TWICE_PERCENT {
            let (first, other) =
                tokio::join!(first, submit(&second, &second_process, &key, &sql, partitions, &input));
            first.or(other)
        } else {
            first.await
        };
        let Some(job) = job else { continue };
        for _ in 0..worker.random.random_range(0..=MAX_LOOKS) {
            if look(&worker.client, &worker.process, &key, job.id()).await {
                break;
            }
            sleep(Duration::from_millis(worker.random.random_range(0..LOOK_MS))).await;
        }
        // A result that was read is given back by the client itself, at a time that nobody tells.
        let fetched = fetch(&worker.process, &key, &job, json!({"expect": expect}));
        let release = async { (End::Ok(Value::Null), fetched.await) };
        let is_read = releases.op(Op::job("release", &key), Value::Null, release).await;
        // The client cancels what it could not read.
        if is_read {
            look(&worker.client, &worker.process, &key, job.id()).await;
        }
    }
    worker.client.settle().await;
}

/// Submits until the outcome is known.
pub(super) async fn submit(
    client: &Client,
    process: &Process,
    key: &str,
    sql: &str,
    partitions: u32,
    input: &Value,
) -> Option<JobHandle> {
    for _ in 0..SUBMITS {
        let call = async {
            match client.submit(sql, options(key, partitions)).await {
                Ok(Answer::Job(job)) => (End::Ok(json!({"job": job.id().to_string()})), Ok(Some(job))),
                Ok(Answer::Inline(_)) => (End::Info("it was answered without a job".to_owned()), Ok(None)),
                Err(error) => (End::of_change(&error), Err(error)),
            }
        };
        match process.op(Op::job("submit", key), input.clone(), call).await {
            Ok(job) => return job,
            Err(ClientError::Deadline { .. } | ClientError::NoQuorum { may_be_done: true, .. }) => {}
            Err(_) => return None,
        }
    }
    None
}

/// Asks for the status; true if the job has ended.
async fn look(client: &Client, process: &Process, key: &str, id: JobId) -> bool {
    let call = async {
        match client.job(id).await {
            Ok(detail) => {
                let summary = detail.summary.unwrap_or_default();
                let status = name(summary.state());
                let ended = !matches!(status, "queued" | "running");
                (End::Ok(json!({"status": status, "job": id.to_string()})), ended)
            }
            Err(ClientError::NotFound { .. }) => {
                (End::Ok(json!({"status": "unknown", "job": id.to_string()})), true)
            }
            Err(error) => (End::of_question(&error), false),
        }
    };
    process.op(Op::job("status", key), Value::Null, call).await
}

fn name(state: JobState) -> &'static str {
    match state {
        JobState::Queued | JobState::Unspecified => "queued",
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}

/// Reads the result; true if it is there as a whole.
async fn fetch(process: &Process, key: &str, job: &JobHandle, input: Value) -> bool {
    let call = async {
        let read: Result<Vec<_>, ClientError> = job.stream().try_collect().await;
        let end = match read.map(|batches| texts(&batches)) {
            Ok(Ok(rows)) => {
                let count = rows.len();
                End::Ok(json!({"digest": digest(rows), "rows": count, "job": job.id().to_string()}))
            }
            Ok(Err(error)) => End::Info(error.to_string()),
            Err(error) => End::of_question(&error),
        };
        let is_read = matches!(end, End::Ok(_));
        (end, is_read)
    };
    process.op(Op::job("fetch", key), input, call).await
}

/// Queries that are cancelled in the middle, before they start, or after they have ended.
pub(super) async fn cancel(mut worker: Worker) {
    let mut number = 0;
    while worker.goes_on().await {
        number += 1;
        let key = format!("{:x}-cancel-{}-{number}", worker.scene.seed, worker.process.id());
        let Some(job) = submit(&worker.client, &worker.process, &key, SLOW, 2, &json!({})).await else {
            continue;
        };
        sleep(Duration::from_millis(worker.random.random_range(0..800))).await;
        let call = async {
            match job.cancel("the client of the chaos run wants so").await {
                Ok(()) => (End::Ok(Value::Null), ()),
                Err(error) => (End::of_change(&error), ()),
            }
        };
        worker.process.op(Op::job("cancel", &key), Value::Null, call).await;
        for _ in 0..3 {
            look(&worker.client, &worker.process, &key, job.id()).await;
        }
    }
    worker.client.settle().await;
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn the_answers_are_those_of_the_shapes() {
        let mut random = StdRng::seed_from_u64(7);
        let drawn: Vec<Statement> = (0..60).map(|_| small_query(&mut random)).collect();
        let grouped = drawn.iter().find(|one| one.sql.contains("GROUP BY")).unwrap();
        assert!(grouped.rows.len() >= 2 && grouped.rows[0].starts_with("0 | "), "{grouped:?}");
        let joined = drawn.iter().find(|one| one.sql.contains("JOIN")).unwrap();
        assert!(joined.rows.len() == 1 && joined.rows[0].parse::<u64>().unwrap() > 0, "{joined:?}");
        let sorted = drawn.iter().find(|one| one.sql.contains("LIMIT")).unwrap();
        assert!(sorted.rows.len() <= 20 && sorted.rows.last() >= Some(&"1".to_owned()), "{sorted:?}");
    }
}
