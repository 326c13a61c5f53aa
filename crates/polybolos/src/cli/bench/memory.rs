//! `bench memory`: what the processes take when a query needs more memory than they have.
//!
//! ```text
//!   rows in Parquet files ─▶ ORDER BY ─▶ every row to this process ─▶ Digest: as many, the same, in order; none is kept
//!     on a cluster whose executors have --memory, in turns with DataFusion in a process that has as much as all of them
//!   --data: the queries of TPC-H on another such cluster ─▶ answers compared as `tpch run --verify` does
//!   each process ─▶ the most memory that it had, by the kernel
//! ```

mod digest;
mod queries;
mod report;
mod sort;

use serde_json::json;

pub(super) use self::digest::Digest;
use super::{
    super::{
        args::{ListFormat, MemoryBenchArgs},
        error::CliError,
        local, output,
        processes::unless_interrupted,
    },
    data,
};

pub(crate) async fn memory(args: MemoryBenchArgs) -> Result<(), CliError> {
    unless_interrupted(measure(args)).await
}

async fn measure(args: MemoryBenchArgs) -> Result<(), CliError> {
    let env = local::client_env()?;
    let folder = data::folder(args.fleet.dir.as_deref())?;
    let as_table = args.format == ListFormat::Table;
    let sort = sort::measure(&args, &env, folder.path()).await?;
    if as_table {
        output::print(&sort.text())?;
    }
    let queries = match &args.data {
        Some(data) => Some(queries::measure(&args, &env, data, folder.path()).await?),
        None => None,
    };
    if !as_table {
        let of_tpch = queries.as_ref().map(queries::Queries::json);
        output::print(&format!("{:#}\n", json!({"sort": sort.json(), "tpch": of_tpch})))?;
    }
    sort.verdict()?;
    queries.map_or(Ok(()), |queries| queries.report.verdict())
}
