//! `INSERT` of numbered rows, and scans that count them: none may be there twice, none may be missing.

use std::{collections::BTreeMap, path::Path};

use jepsen_lite::Model;
use polybolos_client::{Client, ClientError};
use rand::Rng;
use serde_json::{Value, json};

use super::{Worker, jobs::options, texts};
use crate::history::{End, Op};

const SCAN_PERCENT: u32 = 30;
/// Parts of a statement, each of which writes files of its own.
const PARTITIONS: u32 = 4;

fn table(number: u32) -> String {
    format!("written_{number}")
}

/// The table of a writer, without rows.
pub(super) async fn create(client: &Client, shared: &Path, number: u32) -> Result<(), ClientError> {
    let (table, location) = (table(number), shared.join(table(number)));
    let sql = format!(
        "CREATE EXTERNAL TABLE {table} (statement BIGINT, n BIGINT) STORED AS PARQUET LOCATION '{}/'",
        location.display()
    );
    client.query(sql).await.map(drop)
}

pub(super) async fn run(mut worker: Worker, number: u32) {
    let table = table(number);
    let mut statement = 0_u64;
    while worker.goes_on().await {
        if worker.random.random_range(0..100) < SCAN_PERCENT {
            scan(&worker, &table).await;
        } else {
            statement += 1;
            let rows = worker.random.random_range(1..4_000);
            insert(&worker, &table, statement, rows).await;
        }
    }
    // The last one, when all is at rest, says most.
    scan(&worker, &table).await;
    worker.client.settle().await;
}

async fn insert(worker: &Worker, table: &str, statement: u64, rows: u64) {
    let key = format!("{:x}-{table}-{}-{statement}", worker.scene.seed, worker.process.id());
    let sql = format!("INSERT INTO {table} SELECT {statement}, n FROM generate_series(1, {rows}) AS t(n)");
    let call = async {
        let end = match worker.client.query_with(sql, options(&key, PARTITIONS)).await {
            Ok(_) => End::Ok(Value::Null),
            // Its rows are not there and never will be.
            Err(error @ (ClientError::JobFailed { .. } | ClientError::Cancelled { .. })) => {
                End::Fail(error.to_string())
            }
            Err(error) => End::of_change(&error),
        };
        (end, ())
    };
    let input = json!({"statement": statement.to_string(), "rows": rows});
    worker.process.op(Op { model: Model::Rows, f: "insert", key: table }, input, call).await;
}

async fn scan(worker: &Worker, table: &str) {
    let sql = format!("SELECT statement, count(*), count(DISTINCT n) FROM {table} GROUP BY statement");
    let call = async {
        let end = match worker.client.query(sql).await {
            Ok(result) => match texts(&result.batches).map_err(|error| error.to_string()).and_then(counts) {
                Ok(counts) => End::Ok(json!(counts)),
                Err(reason) => End::Info(reason),
            },
            Err(error) => End::of_question(&error),
        };
        (end, ())
    };
    worker.process.op(Op { model: Model::Rows, f: "scan", key: table }, Value::Null, call).await;
}

/// Rows and different rows by statement.
fn counts(rows: Vec<String>) -> Result<BTreeMap<String, [u64; 2]>, String> {
    let one = |row: String| {
        let wrong = || format!("the row '{row}' is none of three numbers");
        let mut cells = row.split(" | ").map(str::parse::<u64>);
        match (cells.next(), cells.next(), cells.next()) {
            (Some(Ok(statement)), Some(Ok(rows)), Some(Ok(distinct))) => {
                Ok((statement.to_string(), [rows, distinct]))
            }
            _ => Err(wrong()),
        }
    };
    rows.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        let read = counts(vec!["3 | 10 | 9".to_owned()]).unwrap();
        assert_eq!(read, BTreeMap::from([("3".to_owned(), [10, 9])]));
        assert!(counts(vec!["3 | NULL | 9".to_owned()]).is_err());
    }
}
