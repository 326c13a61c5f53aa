//! Which folder a row goes to by its values, and what of it goes into the file.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions},
        compute::{cast, partition},
        datatypes::{DataType, SchemaRef},
    },
    common::{exec_datafusion_err, internal_datafusion_err},
    datasource::{file_format::write::get_writer_schema, physical_plan::FileSinkConfig},
    error::Result,
};
use object_store::path::Path;

/// Positions, among the columns of the rows, of those whose values name folders.
pub(crate) fn partition_indices(config: &FileSinkConfig) -> Result<Vec<usize>> {
    let schema = config.output_schema();
    config.table_partition_cols.iter().map(|(name, _)| Ok(schema.index_of(name)?)).collect()
}

/// Divides rows by folder, and makes them rows of the files.
pub(crate) struct Folders {
    /// Name and position.
    keys: Vec<(String, usize)>,
    /// Positions of the columns that are written.
    written: Vec<usize>,
    schema: SchemaRef,
}

impl Folders {
    pub(crate) fn new(config: &FileSinkConfig) -> Result<Self> {
        let schema = get_writer_schema(config);
        let names = config.table_partition_cols.iter().map(|(name, _)| name.clone());
        let keys: Vec<_> = names.zip(partition_indices(config)?).collect();
        let all = 0..config.output_schema().fields().len();
        let is_written =
            |at: &usize| config.keep_partition_by_columns || keys.iter().all(|(_, key)| key != at);
        Ok(Self { written: all.filter(is_written).collect(), keys, schema })
    }

    /// Of the files.
    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Runs of rows that have one folder in common, in their order. Folders are relative, and empty without keys.
    ///
    /// # Errors
    /// A value that names no folder: readers would take it for another one.
    pub(crate) fn divide(&self, batch: &RecordBatch) -> Result<Vec<(Path, RecordBatch)>> {
        if self.keys.is_empty() {
            return Ok(vec![(Path::default(), self.rows(batch)?)]);
        }
        let keys =
            self.keys.iter().map(|(name, at)| key_column(batch, name, *at)).collect::<Result<Vec<_>>>()?;
        let mut divided = vec![];
        for range in partition(&keys)?.ranges() {
            let mut folder = Path::default();
            for ((name, _), key) in self.keys.iter().zip(&keys) {
                let text = cast(&key.slice(range.start, 1), &DataType::Utf8)?;
                folder = folder.join(format!("{name}={}", text.as_string::<i32>().value(0)));
            }
            divided.push((folder, self.rows(&batch.slice(range.start, range.len()))?));
        }
        Ok(divided)
    }

    /// The columns that are written, with the names and types of the files.
    fn rows(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.written.iter().zip(self.schema.fields()).map(|(&at, field)| {
            let column = batch
                .columns()
                .get(at)
                .ok_or_else(|| internal_datafusion_err!("rows without the column '{}'", field.name()))?;
            let same = column.data_type() == field.data_type();
            Ok(if same { Arc::clone(column) } else { cast(column, field.data_type())? })
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

fn key_column(batch: &RecordBatch, name: &str, at: usize) -> Result<ArrayRef> {
    let column = batch
        .columns()
        .get(at)
        .ok_or_else(|| internal_datafusion_err!("rows without the partition column '{name}'"))?;
    if column.logical_null_count() > 0 {
        return Err(exec_datafusion_err!(
            "the partition column '{name}' is NULL in some row, and no folder stands for NULL (readers here take Hive's for a text); filter such rows out, or give them a value: coalesce({name}, …)"
        ));
    }
    Ok(match column.data_type() {
        // Its text would be that of a point in time.
        DataType::Date64 => cast(column, &DataType::Date32)?,
        _ => Arc::clone(column),
    })
}

#[cfg(test)]
mod tests {
    use datafusion::{
        arrow::{
            array::{Date64Array, Float64Array, Int32Array, StringArray},
            datatypes::{Field, Schema},
        },
        datasource::physical_plan::{FileGroup, FileOutputMode},
        execution::object_store::ObjectStoreUrl,
        logical_expr::dml::InsertOp,
    };

    use super::*;

    fn config(fields: Vec<Field>, keys: &[&str], keep: bool) -> FileSinkConfig {
        FileSinkConfig {
            original_url: String::new(),
            object_store_url: ObjectStoreUrl::local_filesystem(),
            file_group: FileGroup::default(),
            table_paths: vec![],
            output_schema: Arc::new(Schema::new(fields)),
            table_partition_cols: keys.iter().map(|key| ((*key).to_owned(), DataType::Null)).collect(),
            insert_op: InsertOp::Append,
            keep_partition_by_columns: keep,
            file_extension: "parquet".to_owned(),
            file_output_mode: FileOutputMode::Directory,
        }
    }

    fn fields() -> Vec<Field> {
        vec![
            Field::new("k", DataType::Utf8, true),
            Field::new("v", DataType::Int32, true),
            Field::new("d", DataType::Date64, true),
        ]
    }

    fn batch(keys: Vec<Option<&str>>) -> RecordBatch {
        let count = keys.len();
        let day = 86_400_000;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(keys)),
            Arc::new(Int32Array::from_iter_values(0..count as i32)),
            Arc::new(Date64Array::from_iter_values((0..count).map(|row| 19_000 * day + row as i64))),
        ];
        RecordBatch::try_new(Arc::new(Schema::new(fields())), columns).unwrap()
    }

    fn divided(folders: &Folders, batch: &RecordBatch) -> Vec<(String, usize, usize)> {
        let divided = folders.divide(batch).unwrap();
        divided
            .into_iter()
            .map(|(folder, rows)| (folder.to_string(), rows.num_rows(), rows.num_columns()))
            .collect()
    }

    #[test]
    fn rows_go_by_their_values_without_the_columns_of_these() {
        let folders = Folders::new(&config(fields(), &["d", "k"], false)).unwrap();
        let rows = batch(vec![Some("a/b"), Some("a/b"), Some(""), Some("ü")]);
        // The two first differ in the time of the day.
        assert_eq!(
            divided(&folders, &rows),
            [
                ("d=2022-01-08/k=a%2Fb".to_owned(), 2, 1),
                ("d=2022-01-08/k=".to_owned(), 1, 1),
                ("d=2022-01-08/k=%C3%BC".to_owned(), 1, 1),
            ]
        );
        let folders = Folders::new(&config(fields(), &["k"], true)).unwrap();
        assert_eq!(divided(&folders, &batch(vec![Some("a"), Some("a")])), [("k=a".to_owned(), 2, 3)]);
        let folders = Folders::new(&config(fields(), &[], false)).unwrap();
        assert_eq!(divided(&folders, &batch(vec![None, Some("a")])), [(String::new(), 2, 3)]);
    }

    #[test]
    fn null_has_no_folder() {
        let folders = Folders::new(&config(fields(), &["k"], false)).unwrap();
        let error = folders.divide(&batch(vec![Some("a"), None])).unwrap_err().to_string();
        assert!(error.contains("'k' is NULL") && error.contains("coalesce"), "{error}");
    }

    #[test]
    fn files_have_the_types_of_the_table() {
        let given = Schema::new(vec![Field::new("x", DataType::Float64, true)]);
        let column: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
        let batch = RecordBatch::try_new(Arc::new(given), vec![column]).unwrap();
        let folders =
            Folders::new(&config(vec![Field::new("y", DataType::Int32, true)], &[], false)).unwrap();
        let rows = folders.divide(&batch).unwrap().remove(0).1;
        assert_eq!(rows.schema().field(0), &Field::new("y", DataType::Int32, true));
    }
}
