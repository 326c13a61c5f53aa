//! The rows that are moved.

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError};

use super::super::{
    super::error::CliError,
    data::{BATCH_ROWS, Keys, batch},
};

/// Of a row: key, number, and a text of 24 bytes behind its view of 16.
const ROW_BYTES: u64 = 8 + 8 + 16 + 24;

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
        let batches_each = (bytes / ROW_BYTES / BATCH_ROWS / tasks as u64).max(1);
        let of_task = |task: usize| -> Result<Vec<RecordBatch>, ArrowError> {
            let first = task as u64 * batches_each;
            let batch_of = |number: u64| batch(keys, number * BATCH_ROWS..(number + 1) * BATCH_ROWS);
            (first..first + batches_each).map(batch_of).collect()
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
