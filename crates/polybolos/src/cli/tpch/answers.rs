//! What DataFusion answers in one process, for programs that compare answers by other means than `tpch run --verify`.

use arrow::util::display::ArrayFormatter;
use serde_json::json;

use super::{
    super::{
        args::AnswersArgs,
        error::CliError,
        output::{self, CELLS},
        serve,
    },
    Baseline, register_statements,
};

/// Between the cells of a row.
const BETWEEN: &str = " | ";

pub(crate) async fn answers(args: AnswersArgs) -> Result<(), CliError> {
    let baseline = Baseline::open(serve::cores() as usize, &register_statements(&args.data)?).await?;
    let queries: Vec<u32> = if args.queries.is_empty() { (1..=22).collect() } else { args.queries };
    for query in queries {
        let sql = polybolos_planner::tpch_query(query).ok_or(CliError::NoSuchQuery(query))?;
        let mut rows = Vec::new();
        for batch in baseline.run(query, sql).await?.batches {
            let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &CELLS));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            rows.extend((0..batch.num_rows()).map(|row| {
                let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
                cells.join(BETWEEN)
            }));
        }
        output::print(&format!("{}\n", json!({"query": query, "sql": sql, "rows": rows})))?;
    }
    Ok(())
}
