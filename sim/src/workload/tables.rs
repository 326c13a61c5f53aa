//! The rows of generated tables, as batches and as parquet files.
//!
//! ```text
//!   schedule.fork("table NAME") ──┬─▶ fork("column NAME") ─▶ values, NULLs   one pair of draws a row
//!                                 └─▶ fork("files")        ─▶ where the rows are split, row groups, compression
//! ```
//!
//! So a column, a table or the last rows can be taken away without a change of the others.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Date32Array, Decimal128Array, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};
use bytes::Bytes;
use parquet::{
    arrow::ArrowWriter, basic::Compression, errors::ParquetError, file::properties::WriterProperties,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::schedule::{Column, ColumnKind, Schedule, Table, fork};

/// Where the tables are: `sim://tables/NAME/`.
const ROOT: &str = "sim://tables";
const AMOUNT_PRECISION: u8 = 12;
const AMOUNT_SCALE: i8 = 2;
/// Amounts are within so many cents of 0.
const MAX_CENTS: i128 = 5_000_000;
/// 1994-01-01, in days since 1970.
const FIRST_DAY: i32 = 8_766;
/// Ten years.
const DAYS: i32 = 3_652;
/// Rows of a row group, if it is a small one.
const SMALL_ROW_GROUPS: [usize; 3] = [16, 100, 512];

/// Every table's files: path below the store's root, and content. An empty table is one file without rows.
pub fn write_tables(schedule: &Schedule) -> Vec<(String, Bytes)> {
    let mut files = Vec::new();
    for table in &schedule.tables {
        match write_table(schedule, table) {
            Ok(written) => files.extend(written),
            // Then it has no files, and creating it fails.
            Err(error) => tracing::error!(table = table.name, %error, "a table could not be written"),
        }
    }
    files
}

/// The statements that make the tables known to a cluster.
pub fn create_statements(schedule: &Schedule) -> Vec<String> {
    let create = |table: &Table| {
        let name = &table.name;
        format!("CREATE EXTERNAL TABLE {} STORED AS PARQUET LOCATION '{ROOT}/{name}/'", quoted(name))
    };
    schedule.tables.iter().map(create).collect()
}

/// A name as SQL takes it for itself.
fn quoted(name: &str) -> String {
    let is_plain =
        |(at, c): (usize, char)| c.is_ascii_lowercase() || c == '_' || (at > 0 && c.is_ascii_digit());
    if name.char_indices().all(is_plain) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

fn write_table(schedule: &Schedule, table: &Table) -> Result<Vec<(String, Bytes)>, ParquetError> {
    let mut random = files_random(schedule, table);
    // The first draws are those of `batches`.
    let batches = split(&all_rows(schedule, table)?, table.files, &mut random);
    let written = (0..).zip(&batches).map(|(number, batch): (u32, _)| {
        let bytes = write_file(batch, &mut random)?;
        Ok((format!("{}/part-{number}.parquet", table.name), bytes))
    });
    written.collect()
}

fn write_file(batch: &RecordBatch, random: &mut StdRng) -> Result<Bytes, ParquetError> {
    let mut properties = WriterProperties::builder();
    if random.random_bool(0.5) {
        properties = properties.set_compression(Compression::SNAPPY);
    }
    if random.random_bool(0.4) {
        let rows = SMALL_ROW_GROUPS[random.random_range(0..SMALL_ROW_GROUPS.len())];
        properties = properties.set_max_row_group_row_count(Some(rows));
    }
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build()))?;
    writer.write(batch)?;
    Ok(writer.into_inner()?.into())
}

/// The rows of a table, a batch a file.
///
/// # Errors
/// Two columns of one name or the like: the schedule is wrong then.
pub(crate) fn batches(schedule: &Schedule, table: &Table) -> Result<Vec<RecordBatch>, ArrowError> {
    Ok(split(&all_rows(schedule, table)?, table.files, &mut files_random(schedule, table)))
}

fn files_random(schedule: &Schedule, table: &Table) -> StdRng {
    StdRng::seed_from_u64(fork(seed(schedule, table), "files"))
}

fn seed(schedule: &Schedule, table: &Table) -> u64 {
    schedule.fork(&format!("table {}", table.name))
}

fn all_rows(schedule: &Schedule, table: &Table) -> Result<RecordBatch, ArrowError> {
    let seed = seed(schedule, table);
    let values = |column: &Column| {
        let mut random = StdRng::seed_from_u64(fork(seed, &format!("column {}", column.name)));
        let values = column_values(column, table.rows, &mut random)?;
        arrow::compute::cast(&values, &data_type(column))
    };
    RecordBatch::try_new(schema(table), table.columns.iter().map(values).collect::<Result<_, _>>()?)
}

/// Parts of about the same size, some of them without rows.
fn split(rows: &RecordBatch, files: u32, random: &mut StdRng) -> Vec<RecordBatch> {
    let total = rows.num_rows();
    let mut ends: Vec<usize> = (1..files).map(|_| random.random_range(0..=total)).collect();
    ends.push(total);
    ends.sort_unstable();
    let mut start = 0;
    let part = |end: usize| {
        let part = rows.slice(start, end - start);
        start = end;
        part
    };
    ends.into_iter().map(part).collect()
}

/// The columns of a table as arrow has them.
pub(crate) fn schema(table: &Table) -> SchemaRef {
    let field = |column: &Column| Field::new(&column.name, data_type(column), true);
    Arc::new(Schema::new(table.columns.iter().map(field).collect::<Vec<_>>()))
}

fn data_type(column: &Column) -> DataType {
    // What is no type stays as it is.
    let cast = column.cast.as_deref().and_then(|text| text.parse().ok());
    cast.unwrap_or_else(|| own_type(column.kind))
}

/// The type of a column that is not cast.
pub(crate) fn own_type(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Serial | ColumnKind::Uniform { .. } | ColumnKind::Skewed { .. } => DataType::Int64,
        ColumnKind::Amount => DataType::Decimal128(AMOUNT_PRECISION, AMOUNT_SCALE),
        ColumnKind::Text { .. } => DataType::Utf8,
        ColumnKind::Date => DataType::Date32,
    }
}

fn column_values(column: &Column, rows: u64, random: &mut StdRng) -> Result<ArrayRef, ArrowError> {
    Ok(match column.kind {
        ColumnKind::Serial => Arc::new(drawn(column, rows, random, |row, _| row).collect::<Int64Array>()),
        ColumnKind::Uniform { distinct } => {
            let below = signed(distinct);
            Arc::new(drawn(column, rows, random, |_, r| r.random_range(0..below)).collect::<Int64Array>())
        }
        ColumnKind::Skewed { distinct } => {
            let below = signed(distinct);
            let value = |_, r: &mut StdRng| {
                let other = r.random_range(0..below);
                if r.random_bool(0.5) { 0 } else { other }
            };
            Arc::new(drawn(column, rows, random, value).collect::<Int64Array>())
        }
        ColumnKind::Amount => {
            let cents = |_, r: &mut StdRng| r.random_range(-MAX_CENTS..=MAX_CENTS);
            let array = drawn(column, rows, random, cents).collect::<Decimal128Array>();
            Arc::new(array.with_precision_and_scale(AMOUNT_PRECISION, AMOUNT_SCALE)?)
        }
        ColumnKind::Text { distinct, max_bytes } => {
            let below = signed(distinct);
            let value = |_, r: &mut StdRng| text(r.random_range(0..below), max_bytes);
            Arc::new(drawn(column, rows, random, value).collect::<StringArray>())
        }
        ColumnKind::Date => {
            let day = |_, r: &mut StdRng| FIRST_DAY + r.random_range(0..DAYS);
            Arc::new(drawn(column, rows, random, day).collect::<Date32Array>())
        }
    })
}

fn signed(distinct: u64) -> i64 {
    i64::try_from(distinct.max(1)).unwrap_or(i64::MAX)
}

/// A value a row, some of them NULL; a value is drawn for those too.
fn drawn<'a, T>(
    column: &Column,
    rows: u64,
    random: &'a mut StdRng,
    value: impl Fn(i64, &mut StdRng) -> T + 'a,
) -> impl Iterator<Item = Option<T>> + 'a {
    let nulls_percent = u32::from(column.nulls_percent);
    (0..signed(rows.saturating_add(1)) - 1).map(move |row| {
        let is_null = random.random_range(0..100) < nulls_percent;
        let value = value(row, random);
        (!is_null).then_some(value)
    })
}

/// The text of a number: short ones often, with bytes beyond ASCII now and then, cut to `max_bytes`.
fn text(number: i64, max_bytes: u32) -> String {
    const WORDS: [&str; 8] = ["alpha", "b", "Übung", "delta delta", "", "f%o_", "zeta'", "Ω"];
    let word = WORDS[usize::try_from(number % 8).unwrap_or(0)];
    // Every fourth value is as long as allowed.
    let fill = if number % 4 == 3 { max_bytes as usize } else { 0 };
    let mut text = format!("{number}{word}{}", "x".repeat(fill));
    let end = (0..=text.len().min(max_bytes as usize)).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::workload::testing::{column, schedule_of, table};

    #[test]
    fn the_files_hold_the_rows_of_the_batches() {
        let schedule = schedule_of(vec![table("t", 700, 3), table("empty", 0, 2)]);
        let files = write_tables(&schedule);
        let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "t/part-0.parquet",
                "t/part-1.parquet",
                "t/part-2.parquet",
                "empty/part-0.parquet",
                "empty/part-1.parquet"
            ]
        );
        let of_t = batches(&schedule, &schedule.tables[0]).unwrap();
        assert_eq!(of_t.iter().map(RecordBatch::num_rows).sum::<usize>(), 700);
        for ((_, bytes), batch) in files.into_iter().zip(&of_t) {
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
            let read: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
            let read = arrow::compute::concat_batches(&batch.schema(), &read).unwrap();
            assert_eq!(read, *batch);
        }
    }

    #[test]
    fn what_is_taken_away_changes_nothing_else() {
        let whole = schedule_of(vec![table("a", 90, 1), table("b", 90, 1)]);
        let mut less = whole.clone();
        less.tables.remove(0);
        less.tables[0].columns.remove(1);
        less.tables[0].rows = 40;
        let before = batches(&whole, &whole.tables[1]).unwrap().remove(0);
        let after = batches(&less, &less.tables[0]).unwrap().remove(0);
        assert_eq!(after.num_columns(), before.num_columns() - 1);
        for field in after.schema().fields() {
            let before = before.column_by_name(field.name()).unwrap().slice(0, 40);
            assert_eq!(after.column_by_name(field.name()).unwrap(), &before);
        }
    }

    #[test]
    fn kinds_are_as_described() {
        let mut spec = table("t", 2_000, 1);
        spec.columns.push(column("skewed", ColumnKind::Skewed { distinct: 50 }, 0));
        spec.columns.push(column("mostly_null", ColumnKind::Date, 90));
        let schedule = schedule_of(vec![spec]);
        let rows = batches(&schedule, &schedule.tables[0]).unwrap().remove(0);
        let skewed = rows.column_by_name("skewed").unwrap().as_any().downcast_ref::<Int64Array>().unwrap();
        let zeros = skewed.iter().flatten().filter(|value| *value == 0).count();
        assert!((900..1_200).contains(&zeros), "{zeros}");
        let nulls = rows.column_by_name("mostly_null").unwrap().null_count();
        assert!((1_700..1_900).contains(&nulls), "{nulls}");
        assert!(text(7, 40).len() <= 40 && text(10, 3).len() <= 3);
    }

    #[test]
    fn statements_name_the_folder() {
        let schedule = schedule_of(vec![table("t", 1, 1)]);
        assert_eq!(
            create_statements(&schedule),
            ["CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'sim://tables/t/'"]
        );
    }
}
