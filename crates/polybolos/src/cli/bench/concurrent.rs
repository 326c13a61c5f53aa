//! `bench concurrent`: many clients at once, alone or beside DataFusion in this process with as many at once.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use polybolos_client::Client;
use polybolos_env::Env;
use serde_json::json;
use tokio::time::Instant;

use super::{
    super::{
        args::{ConcurrentArgs, ListFormat},
        error::CliError,
        local, output,
        text::milliseconds,
        tpch::{Answer, Baseline, Times, difference, register_statements},
    },
    queries::check,
};

pub(crate) async fn concurrent(args: ConcurrentArgs) -> Result<(), CliError> {
    match args.query {
        Some(query) => of_tpch(args, query).await,
        None => small(args).await,
    }
}

/// Runs `one` for each round of each client, and gives what all of them gave. It is told a number, another one each time.
async fn at_once<T, F>(args: &ConcurrentArgs, one: impl Fn(u32) -> F) -> Result<Vec<T>, CliError>
where
    F: Future<Output = Result<T, CliError>>,
{
    let one = &one;
    let of_client = |client: u32| async move {
        let mut given = Vec::with_capacity(args.rounds as usize);
        for round in 0..args.rounds {
            given.push(one(client * args.rounds + round).await?);
        }
        Ok::<_, CliError>(given)
    };
    let clients = stream::iter(0..args.clients).map(of_client).buffer_unordered(args.clients as usize);
    Ok(clients.try_collect::<Vec<_>>().await?.into_iter().flatten().collect())
}

fn milliseconds_since(env: &Env, started: Instant) -> f64 {
    (env.clock.now() - started).as_secs_f64() * 1_000.0
}

async fn small(args: ConcurrentArgs) -> Result<(), CliError> {
    let env = local::client_env()?;
    let client = Client::connect(args.cluster.schedulers.clone(), env.clone())?;
    let started = env.clock.now();
    let of_small = |number: u32| {
        let (client, env) = (client.clone(), env.clone());
        async move {
            let (sql, expected) = question(u64::from(number));
            let started = env.clock.now();
            let result = client.query(sql.as_str()).await?;
            let elapsed = env.clock.now() - started;
            check(&sql, &expected, &result).map(|()| elapsed)
        }
    };
    let all = at_once(&args, of_small).await?;
    let wall_ms = milliseconds_since(&env, started);
    client.settle().await;
    let mut times = Times::default();
    all.into_iter().for_each(|elapsed| times.add(elapsed));
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

/// Both sides in turns, after an untimed round each: how long all clients took, in ms.
async fn of_tpch(args: ConcurrentArgs, query: u32) -> Result<(), CliError> {
    let Some(data) = &args.data else {
        let reason = "it is needed for --query".to_owned();
        return Err(CliError::Flag { flag: "--data", reason });
    };
    let sql = polybolos_planner::tpch_query(query).ok_or(CliError::NoSuchQuery(query))?;
    let statements = register_statements(data)?;
    let env = local::client_env()?;
    let client = Client::connect(args.cluster.schedulers.clone(), env.clone())?;
    let executors = client.status().await?.executors;
    let slots: u32 = executors.iter().filter(|one| one.state == "live").map(|one| one.slots).sum();
    if slots == 0 {
        return Err(CliError::NoExecutors);
    }
    for statement in &statements {
        client.query(statement.as_str()).await?;
    }
    let baseline = Baseline::open(slots as usize, &statements).await?;
    let sides = Sides { client, env, expected: baseline.run(query, sql).await?, baseline, query, sql };
    let (mut cluster, mut datafusion) = (Times::default(), Times::default());
    for round in 0..=args.repeat {
        let timed = round > 0;
        for side in 0..2 {
            let (times, elapsed) = match (side + round) % 2 {
                0 => (&mut cluster, sides.on_cluster(&args).await?),
                _ => (&mut datafusion, sides.in_process(&args).await?),
            };
            if timed {
                times.add(elapsed);
            }
        }
    }
    sides.client.settle().await;
    let (cluster_ms, datafusion_ms) = (cluster.median_ms(), datafusion.median_ms());
    let (ratio, count) = (cluster_ms / datafusion_ms, args.clients * args.rounds);
    output::print(&match args.format {
        ListFormat::Table => format!(
            "{count} times query {query} by {} clients at once, every answer right: {}, DataFusion in one process {}: {ratio:.2} times as long\n",
            args.clients,
            milliseconds(cluster_ms),
            milliseconds(datafusion_ms)
        ),
        ListFormat::Json => format!(
            "{:#}\n",
            json!({"query": query, "queries": count, "clients": args.clients, "cluster_ms": cluster_ms,
                   "datafusion_ms": datafusion_ms, "ratio": ratio, "wrong_answers": 0})
        ),
    })
}

/// Who answers a query of TPC-H.
struct Sides<'a> {
    client: Client,
    env: Env,
    baseline: Baseline,
    expected: Answer,
    query: u32,
    sql: &'a str,
}

impl Sides<'_> {
    async fn on_cluster(&self, args: &ConcurrentArgs) -> Result<Duration, CliError> {
        let sort_columns = self.baseline.sort_columns(self.query, self.sql).await?;
        let started = self.env.clock.now();
        let answers = at_once(args, |_| async { Ok(self.client.query(self.sql).await?) }).await?;
        let elapsed = self.env.clock.now() - started;
        for answer in &answers {
            if let Some(found) = difference(&self.expected, answer, &sort_columns)? {
                return Err(CliError::WrongAnswer {
                    sql: self.sql.to_owned(),
                    expected: "DataFusion's answer".to_owned(),
                    got: found,
                });
            }
        }
        Ok(elapsed)
    }

    async fn in_process(&self, args: &ConcurrentArgs) -> Result<Duration, CliError> {
        let started = self.env.clock.now();
        at_once(args, |_| self.baseline.run(self.query, self.sql)).await?;
        Ok(self.env.clock.now() - started)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use polybolos_client::QueryResult;

    use super::{super::queries::check, *};

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
