//! The two files of an output by themselves, without a store: for whoever finds them, and for fuzzing.

use arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
    error::ArrowError,
};
use bytes::Bytes;

use crate::{
    Compression, chunk,
    index::{Chunk, Index},
};

/// The files are not those of a whole output.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{0}")]
    Index(String),
    #[error("the data ends before byte {end}")]
    Short { end: u64 },
    #[error("bytes {start}..{end} of the data don't have their checksum")]
    Checksum { start: u64, end: u64 },
    #[error(transparent)]
    Rows(#[from] ArrowError),
}

/// All rows of an output, by partition.
///
/// # Errors
/// What is wrong with the files.
pub fn output_files(index: &Bytes, data: &Bytes) -> Result<Vec<Vec<RecordBatch>>, FileError> {
    let index = Index::decode(index).map_err(FileError::Index)?;
    let rows_of = |chunks: Vec<Chunk>| {
        let mut rows = Vec::new();
        for Chunk { offset, length, crc } in chunks {
            let (start, end) = (offset, offset.saturating_add(length));
            let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
            let (from, to) = range.filter(|(_, to)| *to <= data.len()).ok_or(FileError::Short { end })?;
            let bytes = data.slice(from..to);
            if crc32fast::hash(&bytes) != crc {
                return Err(FileError::Checksum { start, end });
            }
            rows.extend(chunk::decode(bytes)?);
        }
        Ok(rows)
    };
    index.partitions.into_iter().map(rows_of).collect()
}

/// Index and data file of such rows, uncompressed, a chunk a batch.
///
/// # Errors
/// Arrow can't write them.
pub fn encode_output_files(partitions: &[Vec<RecordBatch>]) -> Result<(Vec<u8>, Vec<u8>), ArrowError> {
    let options = chunk::write_options(Compression::None)?;
    let (mut index, mut data) = (Index::new(partitions.len()), Vec::new());
    let schema = partitions.iter().flatten().next().map(RecordBatch::schema);
    let schema: SchemaRef = schema.unwrap_or_else(|| Schema::empty().into());
    for (chunks, batches) in index.partitions.iter_mut().zip(partitions) {
        for batch in batches {
            let parts = chunk::encode(batch, &schema, &options)?;
            let (length, crc) = chunk::measure(&parts);
            chunks.push(Chunk { offset: data.len() as u64, length, crc });
            parts.iter().for_each(|part| data.extend_from_slice(part));
        }
    }
    Ok((index.encode(), data))
}
