//! A piece of an output partition in a file: an Arrow IPC stream of its own, with a checksum in the index.

use arrow::{array::RecordBatch, buffer::Buffer, datatypes::Schema, error::ArrowError};
use arrow_ipc::{
    CompressionType,
    reader::StreamDecoder,
    writer::{IpcWriteOptions, StreamEncoder},
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

/// `batch` with its schema and dictionaries, so that it can be read alone: the parts of a chunk, which share the memory of
/// uncompressed arrays.
pub(crate) fn encode(
    batch: &RecordBatch,
    schema: &Schema,
    options: &IpcWriteOptions,
) -> Result<Vec<Bytes>, ArrowError> {
    let mut encoder = StreamEncoder::try_new_with_options(schema, options.clone())?;
    let mut parts = encoder.encode(batch)?;
    parts.extend(encoder.finish()?);
    Ok(parts.into_iter().map(|part| Bytes::from_owner(Part(part))).collect())
}

struct Part(Buffer);

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Length and CRC-32 of a chunk in parts.
pub(crate) fn measure(parts: &[Bytes]) -> (u64, u32) {
    let mut crc = crc32fast::Hasher::new();
    parts.iter().for_each(|part| crc.update(part));
    (parts.iter().map(|part| part.len() as u64).sum(), crc.finalize())
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
