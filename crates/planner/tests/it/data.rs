//! TPC-H at a tiny scale as Parquet files, several for each large table.

use std::{fs::File, path::Path, sync::Arc};

use datafusion::{
    arrow::record_batch::RecordBatch,
    parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties},
    prelude::{ParquetReadOptions, SessionContext},
};
use tempfile::TempDir;
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

/// Large enough that all 22 queries but a few have rows.
const SCALE: f64 = 0.01;
/// Files of each large table.
const FILES: i32 = 3;

pub(crate) const TABLES: [&str; 8] =
    ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

/// Makes the data in a folder of its own.
pub(crate) fn generate() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    macro_rules! table {
        ($name:literal, $arrow:ident, $generator:ident, $files:expr) => {
            for part in 1..=$files {
                let rows = tpchgen::generators::$generator::new(SCALE, part, $files);
                write(dir.path(), $name, part, $arrow::new(rows).with_batch_size(1000));
            }
        };
    }
    table!("customer", CustomerArrow, CustomerGenerator, FILES);
    table!("lineitem", LineItemArrow, LineItemGenerator, FILES);
    table!("orders", OrderArrow, OrderGenerator, FILES);
    table!("part", PartArrow, PartGenerator, FILES);
    table!("partsupp", PartSuppArrow, PartSuppGenerator, FILES);
    table!("supplier", SupplierArrow, SupplierGenerator, 1);
    table!("nation", NationArrow, NationGenerator, 1);
    table!("region", RegionArrow, RegionGenerator, 1);
    dir
}

fn write(dir: &Path, table: &str, part: i32, batches: impl Iterator<Item = RecordBatch>) {
    let folder = dir.join(table);
    std::fs::create_dir_all(&folder).unwrap();
    let mut batches = batches.peekable();
    let schema = batches.peek().unwrap().schema();
    let file = File::create(folder.join(format!("{part}.parquet"))).unwrap();
    // Several row groups a file, so that files can be divided.
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(4_000))
        .build();
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).unwrap();
    for batch in batches {
        writer.write(&batch).unwrap();
    }
    writer.close().unwrap();
}

/// Registers the tables of `dir`, and some small ones in memory.
pub(crate) async fn register(ctx: &SessionContext, dir: &Path) {
    for table in TABLES {
        let path = format!("{}/", dir.join(table).display());
        ctx.register_parquet(table, &path, ParquetReadOptions::default()).await.unwrap();
    }
    let statements = [
        "create table empty (a int, b varchar)",
        "create table nulls (a int, b int) as values (1, 10), (2, null), (null, 30), (2, 20)",
    ];
    for statement in statements {
        ctx.sql(statement).await.unwrap().collect().await.unwrap();
    }
    let spread = spread_table();
    ctx.register_table("spread", Arc::new(spread)).unwrap();
}

/// `spread(k int, v double, s varchar)`: 90 rows in memory, in three partitions.
fn spread_table() -> datafusion::datasource::MemTable {
    use datafusion::arrow::{
        array::{Float64Array, Int32Array, StringArray},
        datatypes::{DataType, Field, Schema},
    };
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int32, true),
        Field::new("v", DataType::Float64, true),
        Field::new("s", DataType::Utf8, true),
    ]));
    let partitions = (0..3).map(|partition| {
        let rows = partition * 30..(partition + 1) * 30;
        let k = Int32Array::from_iter(rows.clone().map(|row| (row % 11 != 0).then_some(row % 7)));
        let v =
            Float64Array::from_iter(rows.clone().map(|row| (row % 13 != 0).then_some(f64::from(row) / 3.0)));
        let s = StringArray::from_iter(rows.map(|row| (row % 17 != 0).then(|| format!("s{}", row % 5))));
        vec![RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(k), Arc::new(v), Arc::new(s)]).unwrap()]
    });
    let partitions = partitions.collect();
    datafusion::datasource::MemTable::try_new(schema, partitions).unwrap()
}
