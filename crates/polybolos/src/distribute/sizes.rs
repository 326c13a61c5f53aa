//! The lengths that an Arrow IPC stream claims, held against what is there.
//!
//! Arrow's reader makes room for a message's body, and for what a compressed buffer says that it becomes, before it looks
//! further. A process that is refused so much memory aborts: so no stranger's stream gets there unseen.

use arrow::ipc::{Message, RecordBatch, root_as_message};
use datafusion::common::{DataFusionError, Result, plan_err};
use polybolos_model::limits::MAX_DECODED_BYTES;

/// Stands before the length of a message; older streams lack it.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// LZ4, with which tables travel, makes at most so many bytes of one.
const MOST_OF_ONE: u64 = 255;
/// What a table in a plan may take.
pub(super) const ROOM: u64 = MAX_DECODED_BYTES as u64;
/// Of a compressed buffer: how long it is without compression, or -1 if it is as it is.
const PREFIX_BYTES: usize = 8;

/// Counts against `room` what the buffers of all streams of a table become; it begins with [`ROOM`].
///
/// # Errors
/// The stream is cut short, claims more than its bytes can hold, or there is no room for it.
pub(super) fn check(stream: &[u8], room: &mut u64) -> Result<()> {
    let mut rest = stream;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (length, behind) = match *length == CONTINUATION {
            true => behind.split_first_chunk::<4>().ok_or_else(cut_short)?,
            false => (length, behind),
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 {
            return Ok(());
        }
        let (head, behind) = behind.split_at_checked(length).ok_or_else(cut_short)?;
        // Its parts are aligned to the begin of an allocation.
        let head = head.to_vec();
        let message = root_as_message(&head).map_err(|error| {
            DataFusionError::Plan(format!("a message of the stream is malformed: {error}"))
        })?;
        let length = usize::try_from(message.bodyLength()).map_err(|_| cut_short())?;
        let (body, behind) = behind.split_at_checked(length).ok_or_else(cut_short)?;
        if let Some(batch) = batch_of(&message) {
            check_batch(&batch, body, room)?;
        }
        rest = behind;
    }
    Ok(())
}

fn cut_short() -> DataFusionError {
    DataFusionError::Plan("an in-memory table in the plan claims more bytes than it has".to_owned())
}

fn batch_of<'a>(message: &Message<'a>) -> Option<RecordBatch<'a>> {
    let dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
    message.header_as_record_batch().or(dictionary)
}

fn check_batch(batch: &RecordBatch<'_>, body: &[u8], room: &mut u64) -> Result<()> {
    if batch.compression().is_none() {
        return Ok(());
    }
    for buffer in batch.buffers().into_iter().flatten() {
        let (Ok(offset), Ok(length)) = (usize::try_from(buffer.offset()), usize::try_from(buffer.length()))
        else {
            return Err(cut_short());
        };
        let bytes = body.get(offset..).and_then(|bytes| bytes.get(..length)).ok_or_else(cut_short)?;
        let Some((claimed, packed)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { continue };
        // Not compressed, or malformed: then Arrow says so.
        let Ok(claimed) = u64::try_from(i64::from_le_bytes(*claimed)) else { continue };
        if claimed > packed.len() as u64 * MOST_OF_ONE {
            return plan_err!(
                "an in-memory table in the plan claims that {} bytes become {claimed}",
                packed.len()
            );
        }
        let Some(left) = room.checked_sub(claimed) else {
            return plan_err!(
                "an in-memory table in the plan takes more than {ROOM} bytes without compression: write it to files that the \
                 cluster can reach"
            );
        };
        *room = left;
    }
    Ok(())
}
