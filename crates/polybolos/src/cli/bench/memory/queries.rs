//! All queries of TPC-H on executors with that memory.

use std::path::Path;

use polybolos_client::QueryResult;
use polybolos_env::Env;
use serde_json::{Value, json};

use super::{
    super::{
        super::{
            args::{ListFormat, MemoryBenchArgs},
            error::CliError,
            output,
            tpch::{Baseline, difference, register_statements},
        },
        cluster::{Cluster, Options, Peak},
        report::{Report, Row},
    },
    report::{peaks_json, peaks_table},
};

const QUERIES: std::ops::RangeInclusive<u32> = 1..=22;

/// What came of them.
pub(super) struct Queries {
    pub(super) report: Report,
    peaks: Vec<Peak>,
}

/// Each once, beside DataFusion in this process, which has no limit: its answers must be there.
pub(super) async fn measure(
    args: &MemoryBenchArgs,
    env: &Env,
    data: &Path,
    folder: &Path,
) -> Result<Queries, CliError> {
    let statements = register_statements(data)?;
    let cluster = Cluster::start(env, folder, &args.fleet, &statements).await?;
    let baseline = Baseline::open(args.fleet.executors as usize, &statements).await?;
    let mut report = Report::new(vec!["polybolos".to_owned(), "without a limit".to_owned()]);
    let as_table = args.format == ListFormat::Table;
    if as_table {
        output::print(&format!("\n{}", report.header()))?;
    }
    for query in QUERIES {
        let in_query = |source| CliError::Query { query, source: Box::new(source) };
        let row = run(&cluster, &baseline, query).await.map_err(in_query)?;
        if as_table {
            output::print(&row.lines())?;
        }
        report.rows.push(row);
    }
    let peaks = cluster.end().await?;
    if as_table {
        output::print(&format!("{}{}", report.summary(), peaks_table(&peaks)))?;
    }
    Ok(Queries { report, peaks })
}

async fn run(cluster: &Cluster, baseline: &Baseline, query: u32) -> Result<Row, CliError> {
    let sql = polybolos_planner::tpch_query(query).ok_or(CliError::NoSuchQuery(query))?;
    let (expected, keys) = (baseline.run(query, sql).await?, baseline.sort_columns(query, sql).await?);
    let mut row = Row::new(query, 2);
    let milliseconds = |elapsed: std::time::Duration| elapsed.as_secs_f64() * 1_000.0;
    if let [cell, unlimited] = row.cells.as_mut_slice() {
        unlimited.runs_ms.push(milliseconds(expected.elapsed));
        match cluster.run(sql, &Options::default()).await? {
            Ok(ran) => {
                cell.runs_ms.push(milliseconds(ran.answer.elapsed));
                cell.moved = ran.moved;
                let actual = QueryResult { schema: ran.answer.schema, batches: ran.answer.batches };
                let found = difference(&expected, &actual, &keys)?;
                cell.trouble = found.map(|found| format!("DIFFERS: {found}"));
            }
            Err(error) => cell.trouble = Some(format!("FAILED: {error}")),
        }
    }
    Ok(row)
}

impl Queries {
    pub(super) fn json(&self) -> Value {
        json!({"report": self.report.json(), "processes": peaks_json(&self.peaks)})
    }
}
