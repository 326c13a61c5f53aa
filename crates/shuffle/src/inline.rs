//! Small outputs as one piece, to travel with the word that they are there.

use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};

use crate::{
    OutputKey, ShuffleError, ShuffleStore,
    sharing::{Slack, compact},
};

/// All rows of a whole output with one partition, as an uncompressed Arrow IPC stream. `None` if it has none, several
/// partitions, or more than `max_bytes`.
///
/// # Errors
/// As for a read of the output.
pub async fn small_rows(
    store: &ShuffleStore,
    key: OutputKey,
    max_bytes: usize,
) -> Result<Option<Vec<u8>>, ShuffleError> {
    let mut reader = store.read(key, 0)?;
    let stats = reader.stats();
    if stats.rows == 0 || stats.bytes > max_bytes as u64 || store.partitions(key)? != 1 {
        return Ok(None);
    }
    let codec = |source| ShuffleError::Codec { key, source };
    // As it is served: readers need no more than they do of a fetch.
    let options = IpcWriteOptions::default();
    let mut writer =
        StreamWriter::try_new_with_options(Vec::new(), reader.schema(), options).map_err(codec)?;
    while let Some(batch) = reader.next().await? {
        writer.write(&compact(batch, Slack::Encoded).map_err(codec)?).map_err(codec)?;
        // Schemas and dictionaries count, too.
        if writer.get_ref().len() > max_bytes {
            return Ok(None);
        }
    }
    let encoded = writer.into_inner().map_err(codec)?;
    Ok((encoded.len() <= max_bytes).then_some(encoded))
}
