//! `bench tpch`: TPC-H on several engines in turn, with the same files and as many cores.
//!
//! ```text
//!   each query, each round: engine, engine, … in another order ─▶ answer compared ─▶ time kept (not of round 0)
//!   Engine ─┬─ a cluster of processes, asked by this one
//!           ╰─ a program that answers lines: `bench engine` (DataFusion), engines/driver.py (the others)
//! ```

mod chart;
mod engine;

use std::path::{Path, PathBuf};

pub(crate) use self::engine::serve as engine;
use self::engine::{Engine, Machine};
use super::{
    super::{
        args::{BenchTpchArgs, ListFormat, ParquetCompression},
        error::CliError,
        files, local, output,
        processes::unless_interrupted,
        tpch::{Answer, Baseline, Writing, difference_within, register_statements, write_tables},
    },
    data::folder,
    driver::Start,
    report::{Report, Row},
};

/// Relative, for floats and decimals of other engines: they round averages of decimals to fewer digits.
const TOLERANCE: f64 = 1e-4;

pub(crate) async fn tpch(args: BenchTpchArgs) -> Result<(), CliError> {
    unless_interrupted(measure(args)).await
}

async fn measure(args: BenchTpchArgs) -> Result<(), CliError> {
    let env = local::client_env()?;
    let folder = folder(args.fleet.dir.as_deref())?;
    let data = data(&args, folder.path()).await?;
    let machine = Machine { args: &args, env: &env, data: &data, folder: folder.path() };
    let mut engines: Vec<Engine> = Vec::new();
    for kind in &args.engines {
        match machine.start(*kind).await? {
            Start::Ready(engine) => engines.push(engine),
            Start::Missing { name, why } => eprintln!("{name} is left out: {why}"),
        }
    }
    if engines.is_empty() {
        let reason = "none of them is installed".to_owned();
        return Err(CliError::Flag { flag: "--engines", reason });
    }
    let baseline = Baseline::open(args.fleet.executors as usize, &register_statements(&data)?).await?;
    let queries: Vec<u32> = if args.queries.is_empty() { (1..=22).collect() } else { args.queries.clone() };
    let mut report = Report::new(engines.iter().map(|engine| engine.name().to_owned()).collect());
    let as_table = args.format == ListFormat::Table;
    if as_table {
        output::print(&report.header())?;
    }
    for query in queries {
        let in_query = |source| CliError::Query { query, source: Box::new(source) };
        let row = run(&mut engines, &baseline, query, args.repeat).await.map_err(in_query)?;
        if as_table {
            output::print(&row.lines())?;
        }
        report.rows.push(row);
    }
    for engine in engines {
        report.peak_bytes.push(engine.end().await?);
    }
    output::print(&match args.format {
        ListFormat::Table => report.summary(),
        ListFormat::Json => format!("{:#}\n", report.json()),
    })?;
    if let Some(path) = &args.chart {
        let writing = |source| CliError::File { action: "writing", path: path.clone(), source };
        files::write_durably(path, chart::svg(&report).as_bytes()).map_err(writing)?;
    }
    report.verdict()
}

/// The folder with the tables.
async fn data(args: &BenchTpchArgs, folder: &Path) -> Result<PathBuf, CliError> {
    if let Some(data) = &args.data {
        let using = |source| CliError::File { action: "using", path: data.clone(), source };
        return std::path::absolute(data).map_err(using);
    }
    eprintln!("making TPC-H data at scale {}", args.scale);
    let data = folder.join("data");
    let writing = Writing { scale: args.scale, files: None, compression: ParquetCompression::Snappy };
    write_tables(&data, writing, |_| {}).await?;
    Ok(data)
}

/// One query on all engines. One that fails or gives a wrong answer is not asked again.
async fn run(engines: &mut [Engine], baseline: &Baseline, query: u32, repeat: u32) -> Result<Row, CliError> {
    let sql = polybolos_planner::tpch_query(query).ok_or(CliError::NoSuchQuery(query))?;
    let (expected, keys) = (baseline.run(query, sql).await?, baseline.sort_columns(query, sql).await?);
    let mut row = Row::new(query, engines.len());
    for round in 0..=repeat {
        for turn in 0..engines.len() {
            let at = (turn + round as usize + query as usize) % engines.len();
            let (Some(engine), Some(cell)) = (engines.get_mut(at), row.cells.get_mut(at)) else { continue };
            if cell.trouble.is_some() {
                continue;
            }
            match engine.run(sql).await? {
                Ok(ran) => {
                    cell.trouble = difference(&expected, &ran.answer, &keys)?;
                    cell.moved = ran.moved;
                    if round > 0 {
                        cell.runs_ms.push(ran.answer.elapsed.as_secs_f64() * 1_000.0);
                    }
                }
                Err(failure) => cell.trouble = Some(format!("FAILED: {failure}")),
            }
        }
    }
    Ok(row)
}

/// What differs when names of columns don't count, nor how exact a decimal is.
fn difference(expected: &Answer, actual: &Answer, keys: &[usize]) -> Result<Option<String>, CliError> {
    let columns = (expected.schema.fields().len(), actual.schema.fields().len());
    if columns.0 != columns.1 {
        return Ok(Some(format!("DIFFERS: {} columns instead of {}", columns.1, columns.0)));
    }
    let schema = engine::comparable(&expected.schema);
    let sides = [expected, actual].map(|side| engine::conform(&schema, &side.batches));
    let [Ok(expected), Ok(actual)] = sides else {
        return Ok(Some("DIFFERS: columns of other types".to_owned()));
    };
    let found = difference_within(TOLERANCE, (&schema, &expected), (&schema, &actual), keys)?;
    Ok(found.map(|found| format!("DIFFERS: {found}")))
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch};

    use super::*;

    fn answer(columns: [(&str, ArrayRef); 2]) -> Answer {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        Answer { schema: batch.schema(), batches: vec![batch], elapsed: Duration::ZERO }
    }

    #[test]
    fn answers_of_other_engines_are_compared_by_value() {
        let decimals = Decimal128Array::from(vec![1_234_567, 500]).with_precision_and_scale(19, 6).unwrap();
        let counts: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
        let expected = answer([("avg_qty", Arc::new(decimals)), ("count(*)", counts)]);
        let other = |average: f64| {
            let averages: ArrayRef = Arc::new(Float64Array::from(vec![average, 0.0005]));
            answer([("avg", averages), ("count_star()", Arc::new(Int32Array::from(vec![7, 8])))])
        };
        assert_eq!(difference(&expected, &other(1.234_567_3), &[0]).unwrap(), None);
        let found = difference(&expected, &other(1.3), &[0]).unwrap().unwrap();
        assert!(found.contains("DIFFERS: first differing row"), "{found}");
    }
}
