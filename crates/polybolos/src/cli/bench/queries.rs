//! `bench latency`, `bench concurrent`: how quickly a running cluster answers.

use futures::{StreamExt, TryStreamExt, stream};
use polybolos_client::{Client, QueryResult};
use serde_json::json;

use super::super::{
    args::{ConcurrentArgs, LatencyArgs, ListFormat},
    error::CliError,
    local, output,
    output::CELLS,
    text::milliseconds,
    tpch::Times,
};

/// Untimed queries before the timed ones: they open connections and fill caches.
const WARM_UP: u32 = 20;

pub(crate) async fn latency(args: LatencyArgs) -> Result<(), CliError> {
    let env = local::client_env()?;
    let client = Client::connect(args.cluster.schedulers, env.clone())?;
    let mut times = Times::default();
    for round in 0..WARM_UP + args.count {
        let started = env.clock.now();
        let result = client.query("SELECT 1").await?;
        if round >= WARM_UP {
            times.add(env.clock.now() - started);
        }
        check("SELECT 1", "1", &result)?;
    }
    client.settle().await;
    let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(|share| times.quantile_ms(share));
    let best = times.best_ms();
    output::print(&match args.format {
        ListFormat::Table => format!(
            "SELECT 1, {} times: p50 {p50:.2} ms, p90 {p90:.2} ms, p99 {p99:.2} ms, best {best:.2} ms, worst {max:.2} ms\n",
            args.count
        ),
        ListFormat::Json => format!(
            "{:#}\n",
            json!({"count": args.count, "p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "best_ms": best, "worst_ms": max})
        ),
    })
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
