//! Arrow IPC streams inside of messages.

use std::sync::Arc;

use arrow::{
    datatypes::{Schema, SchemaRef},
    error::ArrowError,
    record_batch::{RecordBatch, RecordBatchOptions},
};
use arrow_ipc::reader::StreamReader;

use crate::{ClientError, QueryResult};

/// The schema of a stream without batches. No bytes are a schema without columns.
pub(crate) fn schema(bytes: &[u8]) -> Result<SchemaRef, ClientError> {
    if bytes.is_empty() {
        return Ok(Arc::new(Schema::empty()));
    }
    Ok(StreamReader::try_new(bytes, None).map_err(malformed)?.schema())
}

/// A whole stream.
pub(crate) fn result(bytes: &[u8]) -> Result<QueryResult, ClientError> {
    if bytes.is_empty() {
        return Ok(QueryResult { schema: Arc::new(Schema::empty()), batches: vec![] });
    }
    let reader = StreamReader::try_new(bytes, None).map_err(malformed)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<RecordBatch>, _>>().map_err(malformed)?;
    Ok(QueryResult { schema, batches })
}

/// `batch` under the schema that the job announced: on the way dictionaries are unpacked, and metadata and
/// nullability may be lost.
///
/// # Errors
/// [`ClientError::Protocol`] if a column has another type that does not convert, or their number is another.
pub fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ClientError> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    if batch.num_columns() != schema.fields().len() {
        let (got, announced) = (batch.num_columns(), schema.fields().len());
        let what = format!("a batch of the result has {got} columns, {announced} were announced");
        return Err(ClientError::Protocol { what });
    }
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| {
        let same = column.data_type() == field.data_type();
        if same { Ok(Arc::clone(column)) } else { arrow::compute::cast(column, field.data_type()) }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    match RecordBatch::try_new_with_options(Arc::clone(schema), columns.clone(), &options) {
        Ok(conformed) => Ok(conformed),
        // A null in a column that was announced without nulls: the value counts, not the announcement.
        Err(_) => {
            let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            let lenient = Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone());
            RecordBatch::try_new_with_options(Arc::new(lenient), columns, &options).map_err(malformed)
        }
    }
}

fn malformed(error: ArrowError) -> ClientError {
    ClientError::Protocol { what: format!("malformed Arrow data: {error}") }
}
