//! Made-up rows, the same in each run, and files of them.

use std::{fmt::Write as _, ops::Range, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewBuilder},
    error::ArrowError,
};
use parquet::basic::Compression;
use tempfile::TempDir;

use super::super::{
    error::CliError,
    files,
    parquet_files::{self, Size},
    tables,
    values::NamedTable,
};

pub(super) const BATCH_ROWS: u64 = 8_192;
/// Of a table with more rows than a batch: several tasks read it, also several executors.
const FILES: u64 = 8;

/// How the keys of rows are spread.
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

/// The output function of SplitMix64 (Steele, Lea and Flood, 2014): neighbours go far apart.
pub(super) fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(super) fn integers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(u64::cast_signed)))
}

/// Rows of those numbers: a key, a number, and a text of 24 bytes.
pub(super) fn batch(keys: Keys, numbers: Range<u64>) -> Result<RecordBatch, ArrowError> {
    let rows = || numbers.clone().map(scattered);
    let key = |number: u64| match keys {
        Keys::Skewed if number.is_multiple_of(2) => 7,
        Keys::Even | Keys::Skewed => number >> 1,
    };
    let mut texts = StringViewBuilder::new();
    let mut text = String::new();
    for number in rows() {
        text.clear();
        let _written = write!(text, "a row's text {:011}", number % 100_000_000_000);
        texts.append_value(&text);
    }
    let columns: [(&str, ArrayRef); 3] = [
        ("key", integers(rows().map(key))),
        ("value", Arc::new(Float64Array::from_iter_values(rows().map(|number| number as f64)))),
        ("text", Arc::new(texts.finish())),
    ];
    RecordBatch::try_from_iter(columns)
}

/// The rows of some numbers.
pub(super) type Make = Arc<dyn Fn(Range<u64>) -> Result<RecordBatch, ArrowError> + Send + Sync>;

/// A table to write.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) rows: u64,
    pub(super) make: Make,
}

impl Table {
    /// What its files have: the rows are divided evenly.
    fn parts(&self) -> Vec<Range<u64>> {
        let count = self.rows.div_ceil(BATCH_ROWS).clamp(1, FILES);
        let begin = |part: u64| self.rows * part / count;
        (0..count).map(|part| begin(part)..begin(part + 1)).collect()
    }
}

/// A folder that is removed when dropped.
pub(super) fn folder(parent: Option<&Path>) -> Result<TempDir, CliError> {
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    let folder = tempfile::Builder::new().prefix("polybolos-").tempdir_in(&parent);
    folder.map_err(|source| CliError::File { action: "making a folder in", path: parent, source })
}

/// Writes the files of the tables to a folder for each below `folder`. Gives the tables, and bytes in all.
pub(super) async fn write(folder: &Path, tables: Vec<Table>) -> Result<(Vec<NamedTable>, u64), CliError> {
    let (mut named, mut works) = (Vec::new(), Vec::new());
    for table in tables {
        let path = folder.join(table.name);
        let made = files::create_dir_all(&path);
        made.map_err(|source| CliError::File { action: "making", path: path.clone(), source })?;
        for (number, rows) in table.parts().into_iter().enumerate() {
            let (make, path) = (Arc::clone(&table.make), path.join(format!("part-{number:05}.parquet")));
            works.push(async move {
                let schema = make(rows.start..rows.start)?.schema();
                let batches = rows.clone().step_by(BATCH_ROWS as usize);
                let batches = batches.map(|first| make(first..rows.end.min(first + BATCH_ROWS)));
                parquet_files::write(&path, schema, Compression::SNAPPY, batches).await
            });
        }
        named.push(NamedTable { name: table.name.to_owned(), path });
    }
    let mut bytes = 0;
    parquet_files::side_by_side(works, |written: Size| bytes += written.bytes).await?;
    Ok((named, bytes))
}

/// Statements that make the tables, the same for a cluster and for DataFusion.
pub(super) fn create_statements(tables: &[NamedTable]) -> Result<Vec<String>, CliError> {
    tables.iter().map(tables::create_statement).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_table_has_all_rows_in_several_files() {
        let folder = folder(None).unwrap();
        let table = |name, rows| Table { name, rows, make: Arc::new(|rows| batch(Keys::Even, rows)) };
        let rows = 2 * BATCH_ROWS + 1;
        let (named, bytes) = write(folder.path(), vec![table("t", rows), table("small", 1)]).await.unwrap();
        assert!(bytes > rows * 16, "{bytes}");
        assert_eq!(table("t", rows).parts(), [0..5461, 5461..10_923, 10_923..16_385]);
        assert_eq!(table("big", 80).parts().len(), 1);
        let files: Vec<usize> =
            named.iter().map(|table| files::list_files(&table.path).unwrap().len()).collect();
        assert_eq!(files, [3, 1]);
        assert!(create_statements(&named).unwrap()[0].contains("STORED AS PARQUET"));
    }
}
