//! Arrow IPC streams in memory: answers, and schemas in the log.

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
};
use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use datafusion::error::{DataFusionError, Result};
use polybolos_model::limits::MAX_INLINE_RESULT_BYTES;

use crate::error::PlanningError;

/// A stream of a schema without batches.
///
/// # Errors
/// A type that IPC can't hold.
pub(crate) fn encode_schema(schema: &Schema) -> Result<Vec<u8>> {
    encode(schema, &[])
}

/// The schema at the start of a stream.
///
/// # Errors
/// The bytes are no IPC stream.
pub(crate) fn decode_schema(bytes: &[u8]) -> Result<SchemaRef> {
    Ok(StreamReader::try_new(bytes, None).map_err(DataFusionError::from)?.schema())
}

/// An answer that fits a message.
///
/// # Errors
/// [`PlanningError::AnswerTooLarge`] beyond [`MAX_INLINE_RESULT_BYTES`].
pub(crate) fn encode_answer(schema: &Schema, batches: &[RecordBatch]) -> Result<Vec<u8>, PlanningError> {
    let bytes = encode(schema, batches)?;
    if bytes.len() > MAX_INLINE_RESULT_BYTES {
        return Err(PlanningError::AnswerTooLarge { bytes: bytes.len() });
    }
    Ok(bytes)
}

fn encode(schema: &Schema, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    Ok(writer.into_inner()?)
}
