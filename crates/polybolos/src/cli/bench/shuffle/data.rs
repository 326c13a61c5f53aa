//! The rows that are moved.

use std::{fmt::Write as _, sync::Arc};

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewBuilder},
    datatypes::SchemaRef,
    error::ArrowError,
};

use super::super::super::error::CliError;

const BATCH_ROWS: usize = 8_192;
/// Of a row: key, number, and a text of 24 bytes behind its view of 16.
const ROW_BYTES: u64 = 8 + 8 + 16 + 24;

/// How rows are spread over the partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    Even,
    /// Half of the rows have one key.
    Skewed,
}

impl Keys {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Even => "even",
            Self::Skewed => "half on one key",
        }
    }
}

pub(super) struct Rows {
    pub(super) keys: Keys,
    pub(super) schema: SchemaRef,
    /// Of each task that writes.
    pub(super) tasks: Vec<Vec<RecordBatch>>,
    /// Into which they are divided.
    pub(super) partitions: u32,
    pub(super) bytes: u64,
    rows: u64,
}

impl Rows {
    pub(super) fn make(keys: Keys, bytes: u64, tasks: usize, partitions: u32) -> Result<Self, ArrowError> {
        let batches_each = (bytes / ROW_BYTES / BATCH_ROWS as u64 / tasks as u64).max(1);
        let of_task = |task: usize| -> Result<Vec<RecordBatch>, ArrowError> {
            (0..batches_each).map(|number| batch(keys, task as u64 * batches_each + number)).collect()
        };
        let tasks: Vec<Vec<RecordBatch>> = (0..tasks).map(of_task).collect::<Result<_, _>>()?;
        let rows: u64 = tasks.iter().flatten().map(|batch| batch.num_rows() as u64).sum();
        let schema = tasks.iter().flatten().next().map(RecordBatch::schema);
        let schema = schema.ok_or_else(|| ArrowError::InvalidArgumentError("no rows".to_owned()))?;
        Ok(Self { keys, schema, tasks, partitions, bytes: rows * ROW_BYTES, rows })
    }

    /// # Errors
    /// Not all rows have come.
    pub(super) fn check(&self, way: &str, count: u64) -> Result<(), CliError> {
        if count == self.rows {
            return Ok(());
        }
        let (expected, got) = (self.rows.to_string(), count.to_string());
        Err(CliError::WrongAnswer { sql: format!("the rows that came through {way}"), expected, got })
    }
}

fn batch(keys: Keys, number: u64) -> Result<RecordBatch, ArrowError> {
    let first = number * BATCH_ROWS as u64;
    let numbers = || (first..first + BATCH_ROWS as u64).map(scattered);
    let key = |number: u64| match keys {
        Keys::Skewed if number.is_multiple_of(2) => 7,
        Keys::Even | Keys::Skewed => (number >> 1).cast_signed(),
    };
    let mut texts = StringViewBuilder::with_capacity(BATCH_ROWS);
    let mut text = String::new();
    for number in numbers() {
        text.clear();
        let _written = write!(text, "a row's text {:011}", number % 100_000_000_000);
        texts.append_value(&text);
    }
    let columns: [(&str, ArrayRef); 3] = [
        ("key", Arc::new(Int64Array::from_iter_values(numbers().map(key)))),
        ("value", Arc::new(Float64Array::from_iter_values(numbers().map(|number| number as f64)))),
        ("text", Arc::new(texts.finish())),
    ];
    RecordBatch::try_from_iter(columns)
}

/// The output function of SplitMix64 (Steele, Lea and Flood, 2014): neighbours go far apart.
fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use arrow::{array::AsArray, datatypes::Int64Type};

    use super::*;

    #[test]
    fn half_of_skewed_rows_have_one_key() {
        for (keys, expected) in [(Keys::Even, 0..3), (Keys::Skewed, 4_000..4_200)] {
            let rows = Rows::make(keys, 1, 1, 4).unwrap();
            let batch = &rows.tasks[0][0];
            let same = batch.column(0).as_primitive::<Int64Type>().values().iter().filter(|key| **key == 7);
            assert!(expected.contains(&same.count()), "{keys:?}");
            assert_eq!(rows.bytes, 8_192 * ROW_BYTES);
            rows.check("the test", 8_192).unwrap();
            rows.check("the test", 8_191).unwrap_err();
        }
    }
}
