//! `ORDER BY` over a table, every row of which this process reads.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use polybolos_env::Env;

use super::{
    super::{
        super::{args::MemoryBenchArgs, error::CliError, text, values::NamedTable},
        cluster::{Cluster, Peak},
        data::{self, Keys, Table},
        driver::{Driver, Start},
        peak,
        report::Cell,
    },
    Digest,
    report::Sort,
};

const SQL: &str = "SELECT key, value, text FROM numbers ORDER BY key";

/// The table, and what its rows are.
struct Made {
    tables: Vec<NamedTable>,
    bytes: u64,
    digest: Digest,
}

/// Rows whose keys are in no order.
async fn make(folder: &Path, rows: u64) -> Result<Made, CliError> {
    let sum = Arc::new(Mutex::new(Digest::default()));
    let shared = Arc::clone(&sum);
    let make = Arc::new(move |rows| {
        let batch = data::batch(Keys::Even, rows)?;
        let mut digest = Digest::default();
        digest.add(&batch)?;
        shared.lock().unwrap_or_else(PoisonError::into_inner).and(&digest);
        Ok(batch)
    });
    let (tables, bytes) = data::write(folder, vec![Table { name: "numbers", rows, make }]).await?;
    let digest = sum.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Made { tables, bytes, digest })
}

/// One that sorts, and what came of it.
struct Sides {
    cluster: Cluster,
    /// `None` once it has failed.
    datafusion: Option<Driver>,
    cells: [Cell; 2],
    made: Made,
    env: Env,
}

pub(super) async fn measure(args: &MemoryBenchArgs, env: &Env, folder: &Path) -> Result<Sort, CliError> {
    eprintln!("making {} rows", text::count(args.rows));
    let made = make(&folder.join("data"), args.rows).await?;
    let datafusion = Some(datafusion(args, &made.tables, folder).await?);
    let statements = data::create_statements(&made.tables)?;
    let cluster = Cluster::start(env, folder, &args.fleet, &statements).await?;
    let cells = [Cell::default(), Cell::default()];
    let mut sides = Sides { cluster, datafusion, cells, made, env: env.clone() };
    peak::forget_this();
    for round in 0..args.repeat {
        let cluster_first = round.is_multiple_of(2);
        if cluster_first {
            sides.on_cluster().await?;
        }
        sides.in_datafusion().await?;
        if !cluster_first {
            sides.on_cluster().await?;
        }
    }
    let mut peaks = sides.cluster.end().await?;
    peaks.push(Peak { process: "this client".to_owned(), bytes: peak::of_this()?, budget_bytes: None });
    let budget_bytes = Some(total_memory(args));
    if let Some(datafusion) = sides.datafusion {
        peaks.push(Peak { process: "datafusion".to_owned(), bytes: datafusion.end().await?, budget_bytes });
    }
    Ok(Sort { rows: args.rows, table_bytes: sides.made.bytes, cells: sides.cells, peaks })
}

/// Of all executors, in bytes: DataFusion gets as much, and as many cores.
fn total_memory(args: &MemoryBenchArgs) -> u64 {
    args.fleet.memory.bytes.saturating_mul(u64::from(args.fleet.executors))
}

async fn datafusion(
    args: &MemoryBenchArgs,
    tables: &[NamedTable],
    folder: &Path,
) -> Result<Driver, CliError> {
    let (cores, memory) = (args.fleet.executors.to_string(), total_memory(args).to_string());
    let spill = folder.join("spill").to_string_lossy().into_owned();
    let mut all = vec!["--cores", &cores, "--memory", &memory, "--spill", &spill];
    let tables: Vec<String> =
        tables.iter().map(|table| format!("{}={}", table.name, table.path.display())).collect();
    all.extend(tables.iter().flat_map(|table| ["--table", table]));
    match Driver::datafusion(&all, folder).await? {
        Start::Ready(driver) => Ok(driver),
        Start::Missing { name, why } => Err(CliError::Node { name, what: why, log: String::new() }),
    }
}

impl Sides {
    /// A wrong or missing answer is no error here: it is told with the rest.
    async fn on_cluster(&mut self) -> Result<(), CliError> {
        let mut digest = Digest::default();
        let started = self.env.clock.now();
        let ended = self.cluster.stream(SQL, |batch| digest.add(batch)).await?;
        let elapsed = self.env.clock.now() - started;
        let [cell, _] = &mut self.cells;
        match ended {
            Ok(job) => {
                let moved = self.cluster.moved(job).await?;
                cell.moved = Some(moved);
                keep(cell, &self.made.digest, &digest, elapsed.as_secs_f64());
            }
            Err(error) => cell.trouble = Some(format!("FAILED: {error}")),
        }
        Ok(())
    }

    /// One that fails is not asked again.
    async fn in_datafusion(&mut self) -> Result<(), CliError> {
        let Some(mut datafusion) = self.datafusion.take() else { return Ok(()) };
        let [_, cell] = &mut self.cells;
        match datafusion.digest(SQL).await {
            Ok(Ok((digest, elapsed))) => keep(cell, &self.made.digest, &digest, elapsed.as_secs_f64()),
            Ok(Err(error)) => cell.trouble = Some(format!("FAILED: {error}")),
            // It has ended: it may have been killed for want of memory.
            Err(error) => {
                cell.trouble = Some(format!("FAILED: {error}"));
                return Ok(());
            }
        }
        self.datafusion = Some(datafusion);
        Ok(())
    }
}

fn keep(cell: &mut Cell, expected: &Digest, actual: &Digest, seconds: f64) {
    let found = expected.difference(actual).map(|found| format!("DIFFERS: {found}"));
    cell.trouble = cell.trouble.take().or(found);
    cell.runs_ms.push(seconds * 1_000.0);
}
