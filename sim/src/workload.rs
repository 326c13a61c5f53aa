//! Random but meaningful queries, with the answers that plain DataFusion gives.

use arrow::{
    error::ArrowError,
    record_batch::RecordBatch,
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{error::DataFusionError, prelude::SessionContext};
use rand::{Rng, rngs::StdRng};

/// What the clauses after the tables may be: joins, aggregates, windows, sorts, limits, unions, nulls, empty inputs.
const SHAPES: &[&str] = &[
    "SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k ORDER BY k",
    "SELECT t.id, u.v FROM t JOIN u ON t.k = u.k WHERE t.v > u.v",
    "SELECT t.k, max(u.id) AS m FROM t LEFT JOIN u ON t.id = u.id GROUP BY t.k",
    "SELECT id, row_number() OVER (PARTITION BY k ORDER BY v, id) AS r FROM t ORDER BY id",
    "SELECT k FROM t UNION SELECT k FROM u",
    "SELECT k, v FROM t UNION ALL SELECT k, v FROM u ORDER BY k, v LIMIT 7",
    "SELECT count(DISTINCT k) AS d, min(v) AS lo, max(v) AS hi FROM t WHERE v IS NOT NULL",
    "SELECT id FROM t WHERE k IN (SELECT k FROM u WHERE v % 2 = 0)",
    "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.k = t.k)",
    "SELECT k, sum(v) AS s FROM t WHERE id < 0 GROUP BY k",
    "SELECT g.value AS x, count(t.id) AS n FROM generate_series(0, 4) AS g LEFT JOIN t ON t.k = g.value GROUP BY g.value",
];

/// A statement without outside data: its tables are inside it.
pub fn random_query(random: &mut StdRng) -> String {
    let (t, u) = (values(random), values(random));
    let shape = SHAPES[random.random_range(0..SHAPES.len())];
    format!("WITH t(id, k, v) AS (VALUES {t}), u(id, k, v) AS (VALUES {u}) {shape}")
}

fn values(random: &mut StdRng) -> String {
    let rows = random.random_range(1..40);
    let row = |id: usize, random: &mut StdRng| {
        let key = random.random_range(0..6);
        // The first row fixes the type of the column.
        let null = id > 0 && random.random_range(0..8) == 0;
        let value = if null { "NULL".to_owned() } else { random.random_range(-50..50).to_string() };
        format!("({id}, {key}, {value})")
    };
    (0..rows).map(|id| row(id, random)).collect::<Vec<_>>().join(", ")
}

/// The rows that DataFusion gives in this process, sorted as text.
///
/// # Errors
/// DataFusion's own: the workload is wrong then.
pub async fn expected(sql: &str) -> Result<Vec<String>, DataFusionError> {
    Ok(rows(&SessionContext::new().sql(sql).await?.collect().await?)?)
}

/// Rows as text, sorted: order is compared by the process tests, which know where the query asks for it.
///
/// # Errors
/// A type that has no text.
pub fn rows(batches: &[RecordBatch]) -> Result<Vec<String>, ArrowError> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            rows.push(cells.join("|"));
        }
    }
    rows.sort();
    Ok(rows)
}
