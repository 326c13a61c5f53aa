//! A piece of an output partition in a file: an Arrow IPC stream of its own, with a checksum in the index.

use arrow::{array::RecordBatch, buffer::Buffer, datatypes::Schema, error::ArrowError};
use arrow_ipc::{
    CompressionType,
    reader::StreamDecoder,
    writer::{IpcWriteOptions, StreamWriter},
};
use bytes::Bytes;

use crate::Compression;

/// # Errors
/// LZ4 was not compiled in.
pub(crate) fn write_options(compression: Compression) -> Result<IpcWriteOptions, ArrowError> {
    let kind = match compression {
        Compression::None => None,
        Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
    };
    IpcWriteOptions::default().try_with_compression(kind)
}

/// `batch` with its schema and dictionaries, so that it can be read alone.
pub(crate) fn encode(
    batch: &RecordBatch,
    schema: &Schema,
    options: &IpcWriteOptions,
    size_hint: usize,
) -> Result<Vec<u8>, ArrowError> {
    let mut writer =
        StreamWriter::try_new_with_options(Vec::with_capacity(size_hint), schema, options.clone())?;
    writer.write(batch)?;
    writer.into_inner()
}

/// What [`encode`] wrote. Uncompressed arrays share the memory of `bytes`.
pub(crate) fn decode(bytes: Bytes) -> Result<Vec<RecordBatch>, ArrowError> {
    let mut decoder = StreamDecoder::new();
    let mut buffer = Buffer::from(bytes);
    let mut batches = Vec::new();
    while let Some(batch) = decoder.decode(&mut buffer)? {
        batches.push(batch);
    }
    decoder.finish()?;
    Ok(batches)
}
