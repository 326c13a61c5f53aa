//! `bench latency`, `bench concurrent`: how quickly a running cluster answers.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use polybolos_client::{Client, QueryResult, SubmitOptions};
use polybolos_env::Env;
use serde_json::{Value, json};

use super::super::{
    args::{ConcurrentArgs, LatencyArgs, ListFormat},
    error::CliError,
    local, output,
    output::CELLS,
    text::milliseconds,
    tpch::{Times, register_statements},
};

/// Untimed queries before the timed ones: they open connections and fill caches.
const WARM_UP: u32 = 20;

/// A statement whose answer is known.
struct Question {
    name: &'static str,
    sql: String,
    options: BTreeMap<String, String>,
    /// See [`check`].
    expected: String,
}

/// Tasks of the query that has many of them and hardly a row.
const EMPTY_TASKS: u32 = 100;

impl Question {
    /// `SELECT 1`, and a grouping of one row by many tasks.
    fn of_nothing() -> [Self; 2] {
        let partitions = ("datafusion.execution.target_partitions".to_owned(), EMPTY_TASKS.to_string());
        [
            Self {
                name: "SELECT 1",
                sql: "SELECT 1".to_owned(),
                options: BTreeMap::new(),
                expected: "1".to_owned(),
            },
            Self {
                name: "100 empty tasks",
                sql: "SELECT k, count(*) AS c FROM (VALUES (7)) AS t(k) GROUP BY k".to_owned(),
                options: [partitions].into(),
                expected: "7 1".to_owned(),
            },
        ]
    }

    /// The row of one key, which is there at every scale.
    fn point() -> Self {
        Self {
            name: "point query",
            sql: "SELECT o_orderkey, o_orderdate FROM orders WHERE o_orderkey = 7".to_owned(),
            options: BTreeMap::new(),
            expected: "7 1996-01-10".to_owned(),
        }
    }
}

pub(crate) async fn latency(args: LatencyArgs) -> Result<(), CliError> {
    let env = local::client_env()?;
    let client = Client::connect(args.cluster.schedulers.clone(), env.clone())?;
    let mut questions = Vec::from(Question::of_nothing());
    if let Some(data) = &args.data {
        for statement in register_statements(data)? {
            client.query(statement).await?;
        }
        questions.push(Question::point());
    }
    let mut lines = Vec::new();
    for question in questions {
        let times = ask(&client, &env, &question, args.count).await?;
        lines.push((question.name, times));
    }
    client.settle().await;
    output::print(&match args.format {
        ListFormat::Table => {
            lines.iter().map(|(name, times)| latency_line(name, times, args.count)).collect()
        }
        ListFormat::Json => {
            let queries: Vec<Value> = lines.iter().map(|(name, times)| latency_json(name, times)).collect();
            format!("{:#}\n", json!({"count": args.count, "queries": queries}))
        }
    })
}

async fn ask(client: &Client, env: &Env, question: &Question, count: u32) -> Result<Times, CliError> {
    let mut times = Times::default();
    for round in 0..WARM_UP + count {
        let options = SubmitOptions { options: question.options.clone(), ..SubmitOptions::default() };
        let started = env.clock.now();
        let result = client.query_with(question.sql.as_str(), options).await?;
        if round >= WARM_UP {
            times.add(env.clock.now() - started);
        }
        check(&question.sql, &question.expected, &result)?;
    }
    Ok(times)
}

fn latency_line(name: &str, times: &Times, count: u32) -> String {
    let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(|share| times.quantile_ms(share));
    format!(
        "{name}, {count} times: p50 {p50:.2} ms, p90 {p90:.2} ms, p99 {p99:.2} ms, best {:.2} ms, worst {max:.2} ms\n",
        times.best_ms()
    )
}

fn latency_json(name: &str, times: &Times) -> Value {
    let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(|share| times.quantile_ms(share));
    json!({"query": name, "p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "best_ms": times.best_ms(), "worst_ms": max})
}

pub(crate) async fn concurrent(args: ConcurrentArgs) -> Result<(), CliError> {
    let env = local::client_env()?;
    let client = Client::connect(args.cluster.schedulers, env.clone())?;
    let started = env.clock.now();
    let one_client = |number: u32| {
        let (client, env) = (client.clone(), env.clone());
        async move {
            let mut elapsed = Vec::with_capacity(args.rounds as usize);
            for round in 0..args.rounds {
                let (sql, expected) = question(u64::from(number) * u64::from(args.rounds) + u64::from(round));
                let started = env.clock.now();
                let result = client.query(sql.as_str()).await?;
                elapsed.push(env.clock.now() - started);
                check(&sql, &expected, &result)?;
            }
            Ok::<_, CliError>(elapsed)
        }
    };
    let all: Vec<_> = stream::iter(0..args.clients)
        .map(one_client)
        .buffer_unordered(args.clients as usize)
        .try_collect()
        .await?;
    let wall_ms = (env.clock.now() - started).as_secs_f64() * 1_000.0;
    client.settle().await;
    let mut times = Times::default();
    all.concat().into_iter().for_each(|elapsed| times.add(elapsed));
    let count = args.clients * args.rounds;
    let [p50, p99] = [0.5, 0.99].map(|share| times.quantile_ms(share));
    let rate = f64::from(count) / (wall_ms / 1_000.0);
    output::print(&match args.format {
        ListFormat::Table => format!(
            "{count} queries of {} clients at once, every answer right: {} in all, {rate:.0} a second, p50 {}, p99 {}\n",
            args.clients,
            milliseconds(wall_ms),
            milliseconds(p50),
            milliseconds(p99)
        ),
        ListFormat::Json => format!(
            "{:#}\n",
            json!({"queries": count, "clients": args.clients, "elapsed_ms": wall_ms, "per_second": rate,
                   "p50_ms": p50, "p99_ms": p99, "wrong_answers": 0})
        ),
    })
}

/// A small query with a grouping and an order, another one for each number, and its answer.
fn question(number: u64) -> (String, String) {
    let values: Vec<u64> = (number..number + 12).collect();
    let list: Vec<String> = values.iter().map(|value| format!("({value})")).collect();
    let sql = format!(
        "SELECT column1 % 3 AS k, sum(column1) AS s FROM (VALUES {}) AS t GROUP BY column1 % 3 ORDER BY k",
        list.join(", ")
    );
    let sum = |k: u64| values.iter().filter(|value| *value % 3 == k).sum::<u64>();
    let expected: Vec<String> = (0..3).map(|k| format!("{k} {}", sum(k))).collect();
    (sql, expected.join("; "))
}

/// `expected` has cells apart by a space and rows by `; `.
fn check(sql: &str, expected: &str, result: &QueryResult) -> Result<(), CliError> {
    let mut rows = Vec::new();
    for batch in &result.batches {
        let columns = batch
            .columns()
            .iter()
            .map(|column| arrow::util::display::ArrayFormatter::try_new(column, &CELLS));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            rows.push(cells.join(" "));
        }
    }
    let got = rows.join("; ");
    if got == expected {
        return Ok(());
    }
    Err(CliError::WrongAnswer { sql: sql.to_owned(), expected: expected.to_owned(), got })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;

    #[test]
    fn a_wrong_answer_is_detected() {
        let (sql, expected) = question(0);
        assert_eq!(expected, "0 18; 1 22; 2 26");
        let result = |sums: [i64; 3]| {
            let keys: ArrayRef = Arc::new(Int64Array::from(vec![0, 1, 2]));
            let sums: ArrayRef = Arc::new(Int64Array::from(sums.to_vec()));
            let batch = RecordBatch::try_from_iter([("k", keys), ("s", sums)]).unwrap();
            QueryResult { schema: batch.schema(), batches: vec![batch] }
        };
        assert!(check(&sql, &expected, &result([18, 22, 26])).is_ok());
        let error = check(&sql, &expected, &result([18, 22, 27])).unwrap_err();
        assert!(error.to_string().contains("2 27") && error.exit_code() == 1, "{error}");
    }
}
