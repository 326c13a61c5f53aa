//! Runs the queries on a cluster and, to verify, in this process.

use std::path::Path;

use polybolos_client::{Client, QueryResult};
use polybolos_env::Env;

use super::{
    super::{
        args::{ListFormat, RunArgs},
        error::CliError,
        files::{self, Found},
        local, output,
    },
    TABLES,
    baseline::{Answer, Baseline},
    report::{self, Row, Times},
    verify,
};

/// The cluster that runs the queries if none is named: schedulers, executors, slots of each.
const EMBEDDED: (u32, u32, u32) = (1, 2, 1);

pub(crate) async fn run(args: RunArgs) -> Result<(), CliError> {
    let statements = register_statements(&args.data)?;
    let env = local::client_env()?;
    if !args.schedulers.is_empty() {
        let client = Client::connect(args.schedulers.clone(), env.clone())?;
        return measure(&args, &client, &env, &statements).await;
    }
    let cluster = local::start(EMBEDDED.0, EMBEDDED.1, EMBEDDED.2).await?;
    let done = measure(&args, &cluster.client(), &env, &statements).await;
    cluster.shutdown().await;
    done
}

/// Statements that make the eight tables of `data`, the same for the cluster and for DataFusion.
///
/// # Errors
/// A table's folder isn't there.
pub(crate) fn register_statements(data: &Path) -> Result<Vec<String>, CliError> {
    let wrong = |reason| CliError::Flag { flag: "--data", reason };
    let root = std::path::absolute(data).map_err(|error| wrong(format!("{}: {error}", data.display())))?;
    let statement = |table: &&str| {
        let folder = root.join(table);
        match files::look(&folder) {
            Ok(Found::Folder) => {
                let location = folder.to_string_lossy().replace('\'', "''");
                Ok(format!(
                    "CREATE OR REPLACE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{location}/'"
                ))
            }
            Ok(_) => Err(wrong(format!(
                "{} is no folder with files; make it by `tpch generate`",
                folder.display()
            ))),
            Err(error) => Err(wrong(format!("{}: {error}", folder.display()))),
        }
    };
    TABLES.iter().map(statement).collect()
}

async fn measure(args: &RunArgs, client: &Client, env: &Env, statements: &[String]) -> Result<(), CliError> {
    let executors = client.status().await?.executors;
    let slots: u32 =
        executors.iter().filter(|executor| executor.state == "live").map(|executor| executor.slots).sum();
    if slots == 0 {
        return Err(CliError::NoExecutors);
    }
    for statement in statements {
        client.query(statement.as_str()).await?;
    }
    let baseline = match args.verify {
        true => Some(Baseline::open(slots as usize, statements).await?),
        false => None,
    };
    let queries: Vec<u32> = if args.queries.is_empty() { (1..=22).collect() } else { args.queries.clone() };
    let as_table = args.format == ListFormat::Table;
    if as_table {
        output::print(&report::header(args.verify))?;
    }
    let mut rows = Vec::with_capacity(queries.len());
    for query in queries {
        let sql = polybolos_planner::tpch_query(query).ok_or(CliError::NoSuchQuery(query))?;
        let bench = Bench { client, env, baseline: baseline.as_ref(), query, sql };
        let in_query = |source| CliError::Query { query, source: Box::new(source) };
        let row = bench.run(args.repeat).await.map_err(in_query)?;
        if let Some(difference) = &row.difference {
            eprintln!("query {query}: {difference}");
        }
        if as_table {
            output::print(&row.line())?;
        }
        rows.push(row);
    }
    client.settle().await;
    match args.format {
        ListFormat::Table => output::print(&report::summary(&rows))?,
        ListFormat::Json => output::print(&format!("{:#}\n", report::json(&rows, slots)))?,
    }
    let wrong: Vec<String> =
        rows.iter().filter(|row| row.difference.is_some()).map(|row| row.query.to_string()).collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(CliError::Mismatch { count: wrong.len(), queries: wrong.join(", ") })
    }
}

/// One query on both sides.
struct Bench<'a> {
    client: &'a Client,
    env: &'a Env,
    baseline: Option<&'a Baseline>,
    query: u32,
    sql: &'a str,
}

impl Bench<'_> {
    /// The sides take turns, and each has the same untimed run before if there are several timed ones. Every run of
    /// the cluster is compared.
    async fn run(&self, repeat: u32) -> Result<Row, CliError> {
        let warm_up = repeat > 1;
        let mut row =
            Row { query: self.query, datafusion: self.baseline.map(|_| Times::default()), ..Row::default() };
        let sort_columns = match self.baseline {
            Some(baseline) => baseline.sort_columns(self.query, self.sql).await?,
            None => Vec::new(),
        };
        for round in 0..repeat + u32::from(warm_up) {
            let timed = !warm_up || round > 0;
            // Who goes first finds colder caches.
            let cluster_first = (round + self.query).is_multiple_of(2);
            let early = if cluster_first { Some(self.on_cluster(timed, &mut row).await?) } else { None };
            let expected = match self.baseline {
                Some(baseline) => Some(baseline.run(self.query, self.sql).await?),
                None => None,
            };
            let actual = match early {
                Some(result) => result,
                None => self.on_cluster(timed, &mut row).await?,
            };
            if let Some(expected) = &expected {
                if let Some(times) = row.datafusion.as_mut().filter(|_| timed) {
                    times.add(expected.elapsed);
                }
                let found = difference(expected, &actual, &sort_columns)?;
                row.difference = row.difference.take().or(found);
            }
        }
        Ok(row)
    }

    async fn on_cluster(&self, timed: bool, row: &mut Row) -> Result<QueryResult, CliError> {
        let started = self.env.clock.now();
        let result = self.client.query(self.sql).await?;
        if timed {
            row.cluster.add(self.env.clock.now() - started);
        }
        row.rows = result.num_rows();
        Ok(result)
    }
}

/// The first way in which the cluster's answer is another than DataFusion's.
pub(crate) fn difference(
    expected: &Answer,
    actual: &QueryResult,
    sort_columns: &[usize],
) -> Result<Option<String>, CliError> {
    let expected = (&expected.schema, expected.batches.as_slice());
    let actual = (&actual.schema, actual.batches.as_slice());
    Ok(verify::difference(expected, actual, sort_columns)?.map(|difference| difference.to_string()))
}
