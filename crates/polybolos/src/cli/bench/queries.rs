//! `bench latency`: how quickly a running cluster answers.

use std::collections::BTreeMap;

use polybolos_client::{Client, QueryResult, SubmitOptions};
use polybolos_env::Env;
use serde_json::{Value, json};

use super::{
    super::{
        args::{LatencyArgs, ListFormat},
        error::CliError,
        local, output,
        output::CELLS,
        tpch::{Times, register_statements},
    },
    as_many,
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
                options: [partitions, as_many()].into(),
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

/// `expected` has cells apart by a space and rows by `; `.
pub(super) fn check(sql: &str, expected: &str, result: &QueryResult) -> Result<(), CliError> {
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
