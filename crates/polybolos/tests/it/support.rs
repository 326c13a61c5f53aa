//! Clusters, tables and comparisons.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray},
    util::pretty::pretty_format_batches,
};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use parquet::arrow::ArrowWriter;
use polybolos::{Client, EmbeddedCluster, EmbeddedConfig, Extensions};
use polybolos_client::{ClientError, SubmitOptions};
use polybolos_model::SessionId;
use tempfile::TempDir;

/// Two executors of one slot.
pub(crate) async fn cluster() -> EmbeddedCluster {
    EmbeddedCluster::start(EmbeddedConfig::default(), Extensions::default()).await.unwrap()
}

/// A cluster and the folder of its two tables: `orders` (4 files, 10,000 rows) and `customers` (1 file, 100 rows).
pub(crate) struct Shop {
    pub(crate) cluster: EmbeddedCluster,
    pub(crate) client: Client,
    pub(crate) folder: TempDir,
}

pub(crate) async fn shop() -> Shop {
    shop_in(cluster().await).await
}

pub(crate) async fn shop_in(cluster: EmbeddedCluster) -> Shop {
    let folder = shop_files();
    let client = cluster.client();
    for table in ["orders", "customers"] {
        let path = folder.path().join(table);
        let sql = format!("CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{}/'", path.display());
        client.query(sql).await.unwrap();
    }
    Shop { cluster, client, folder }
}

pub(crate) fn shop_files() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in 0..4_i64 {
        write_parquet(
            &folder.path().join(format!("orders/{file}.parquet")),
            &orders(file * 2_500..(file + 1) * 2_500),
        );
    }
    write_parquet(&folder.path().join("customers/0.parquet"), &customers());
    folder
}

pub(crate) fn orders(ids: std::ops::Range<i64>) -> RecordBatch {
    let column = |of: fn(i64) -> i64| -> ArrayRef { Arc::new(ids.clone().map(of).collect::<Int64Array>()) };
    // Quarters, whose sums are exact in any order.
    let amount = ids.clone().map(|id| (id * 37 % 4_001) as f64 / 4.0).collect::<Float64Array>();
    let note =
        ids.clone().map(|id| (id % 5 != 0).then(|| format!("note {}", id % 97))).collect::<StringArray>();
    RecordBatch::try_from_iter_with_nullable([
        ("id", column(|id| id), false),
        ("customer", column(|id| id * 7 % 120), false),
        ("amount", Arc::new(amount), false),
        ("note", Arc::new(note), true),
    ])
    .unwrap()
}

fn customers() -> RecordBatch {
    let name = (0..100).map(|id| Some(format!("customer {id}"))).collect::<StringArray>();
    let region = (0..100).map(|id| Some(["north", "south", "west"][id % 3])).collect::<StringArray>();
    RecordBatch::try_from_iter([
        ("id", Arc::new((0..100).collect::<Int64Array>()) as ArrayRef),
        ("name", Arc::new(name)),
        ("region", Arc::new(region)),
    ])
    .unwrap()
}

pub(crate) fn write_parquet(path: &Path, batch: &RecordBatch) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

pub(crate) fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// The shop in plain DataFusion.
pub(crate) async fn oracle(folder: &Path) -> SessionContext {
    let ctx = SessionContext::new();
    for table in ["orders", "customers"] {
        let path = folder.join(table).display().to_string();
        ctx.register_parquet(table, path, ParquetReadOptions::default()).await.unwrap();
    }
    ctx
}

/// A table as text, its rows in order only if `sql` orders them.
pub(crate) fn text(sql: &str, batches: &[RecordBatch]) -> String {
    let table = pretty_format_batches(batches).unwrap().to_string();
    if batches.iter().all(|batch| batch.num_rows() == 0) {
        return "no rows".to_owned(); // with or without an empty batch
    }
    if sql.contains("ORDER BY") {
        return table;
    }
    let mut lines: Vec<_> = table.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// The rows of one column of texts, sorted.
pub(crate) fn column(batches: &[RecordBatch], name: &str) -> Vec<String> {
    let mut values = Vec::new();
    for batch in batches {
        let column =
            arrow::compute::cast(batch.column_by_name(name).unwrap(), &arrow::datatypes::DataType::Utf8);
        let column = column.unwrap();
        let column = column.as_any().downcast_ref::<StringArray>().unwrap();
        values.extend(column.iter().map(|value| value.unwrap_or("NULL").to_owned()));
    }
    values.sort();
    values
}

pub(crate) async fn rows(client: &Client, sql: &str) -> String {
    let result = client.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    text(sql, &result.batches)
}

/// The single value of a query, as text.
pub(crate) async fn value(client: &Client, sql: &str) -> String {
    let result = client.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(result.num_rows(), 1, "{sql}");
    column(&result.batches, result.schema.field(0).name()).remove(0)
}

pub(crate) async fn failure(client: &Client, sql: &str) -> ClientError {
    match client.query(sql).await {
        Ok(result) => panic!("{sql} gave {} rows", result.num_rows()),
        Err(error) => error,
    }
}

pub(crate) fn in_session(name: &str) -> SubmitOptions {
    SubmitOptions { session: Some(SessionId::new(name).unwrap()), ..Default::default() }
}
