//! Made-up tables under the recorded schemas.
//!
//! Whole numbers are drawn from as many values as the largest table has rows, and the first column is a key if it is a
//! whole number: so joins by a key find about what they would find, and none of them explodes. Numbers with a fraction
//! have none, so that their sums are the same in any order.

use arrow::{compute::can_cast_types, datatypes::DataType};
use polybolos_model::recorded::{Recorded, RecordedColumn, RecordedTable};

use crate::{
    schedule::{Column, ColumnKind, Table},
    workload::own_type,
};

/// Rows of the largest table; the others are made smaller by the same factor.
pub(super) const MAX_ROWS: u64 = 5_000;
const MAX_FILES: u64 = 16;
/// Of a table of which nothing is known but its columns.
const UNKNOWN_ROWS: u64 = 1_000;
/// Bytes of a row, where only the size of the files is known.
const ROW_BYTES: u64 = 64;
const TEXT_BYTES: u32 = 16;
const TEXTS: u64 = 500;
const NULLS_PERCENT: u8 = 5;

/// By what rows are made fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Factor {
    rows: u64,
    of: u64,
}

impl Factor {
    /// At least 1 of what is not 0.
    pub(super) fn of(self, count: u64) -> u64 {
        let scaled = u128::from(count) * u128::from(self.rows) / u128::from(self.of.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX).max(u64::from(count > 0))
    }
}

pub(super) struct MadeUp {
    pub(super) tables: Vec<Table>,
    pub(super) factor: Factor,
}

pub(super) fn made_up(recorded: &Recorded, notes: &mut Vec<String>) -> MadeUp {
    let largest = recorded.tables.iter().map(rows).max().unwrap_or(0);
    let factor = Factor { rows: largest.clamp(1, MAX_ROWS), of: largest.max(1) };
    if largest > MAX_ROWS {
        notes.push(format!(
            "the largest table had {largest} rows; here it has {MAX_ROWS}, and the others are smaller by the same factor"
        ));
    }
    let values = factor.of(largest).max(1);
    let mut tables = Vec::new();
    for table in &recorded.tables {
        if !is_file_name(&table.name) {
            notes.push(format!("table '{}' is left out: its name can't be that of a folder", table.name));
            continue;
        }
        let columns = (0..).zip(&table.columns);
        let columns = columns.filter_map(|(place, column)| {
            let made = column_of(column, place, values);
            if made.is_none() {
                let (table, RecordedColumn { name, arrow_type, .. }) = (&table.name, column);
                notes.push(format!(
                    "column '{name}' of '{table}' is left out: no values of {arrow_type} are made up"
                ));
            }
            made
        });
        let columns: Vec<Column> = columns.collect();
        let files = table.files.unwrap_or(1).clamp(1, MAX_FILES);
        tables.push(Table {
            name: table.name.clone(),
            rows: factor.of(rows(table)),
            files: u32::try_from(files).unwrap_or(1),
            columns,
        });
    }
    MadeUp { tables, factor }
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn rows(table: &RecordedTable) -> u64 {
    let by_bytes = table.bytes.map(|bytes| bytes.div_ceil(ROW_BYTES));
    table.rows.or(by_bytes).unwrap_or(UNKNOWN_ROWS)
}

/// `None` if no values of its type can be made up. `place` is 0 for the first column.
fn column_of(column: &RecordedColumn, place: usize, values: u64) -> Option<Column> {
    let to: DataType = column.arrow_type.parse().ok()?;
    let is_key = place == 0;
    let number = |most: u64| match is_key && most >= values {
        true => ColumnKind::Serial,
        false => ColumnKind::Uniform { distinct: values.min(most) },
    };
    let kind = match &to {
        DataType::Int8 | DataType::UInt8 => number(100),
        DataType::Int16 | DataType::UInt16 => number(30_000),
        DataType::Int32 | DataType::Int64 | DataType::UInt32 | DataType::UInt64 => number(u64::MAX),
        DataType::Float32 | DataType::Float64 => ColumnKind::Uniform { distinct: values.min(1_000) },
        DataType::Boolean => ColumnKind::Uniform { distinct: 2 },
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => ColumnKind::Amount,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => ColumnKind::Date,
        DataType::Time32(_) | DataType::Time64(_) | DataType::Duration(_) => {
            ColumnKind::Uniform { distinct: 1_000 }
        }
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::Dictionary(..) => ColumnKind::Text { distinct: TEXTS, max_bytes: TEXT_BYTES },
        _ => return None,
    };
    let from = own_type(kind);
    let cast = (from != to).then(|| column.arrow_type.clone());
    let nulls_percent = if column.nullable && !is_key { NULLS_PERCENT } else { 0 };
    can_cast_types(&from, &to).then(|| Column { name: column.name.clone(), kind, nulls_percent, cast })
}
