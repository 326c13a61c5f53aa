//! The lengths that Arrow IPC data in a plan claims, held against what is there.
//!
//! Arrow's reader makes room for a message's body, and for what a compressed buffer says that it becomes, before it looks
//! further. A process that is refused so much memory aborts: so no stranger's data gets there unseen.

use arrow::ipc::{Message, RecordBatch, root_as_message};
use datafusion::common::{DataFusionError, Result, plan_err};
use polybolos_model::limits::MAX_DECODED_BYTES;
use prost::encoding::decode_varint;

/// Stands before the length of a message; older streams lack it.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// LZ4, with which tables travel, makes at most so many bytes of one.
const MOST_OF_ONE: u64 = 255;
/// What the tables in a plan may take together, in bytes.
pub const TABLES_ROOM: u64 = MAX_DECODED_BYTES as u64;
/// Of a compressed buffer: how long it is without compression, or -1 if it is as it is.
const PREFIX_BYTES: usize = 8;

/// Counts against `room` what the buffers of the streams of tables become; it begins with [`TABLES_ROOM`].
///
/// # Errors
/// The stream is cut short, claims more than its bytes can hold, or there is no room for it.
pub fn check_stream(stream: &[u8], room: &mut u64) -> Result<()> {
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

/// Looks at an encoded plan, logical or of a stage, before it is decoded: DataFusion reads the rows of memory scans, and
/// lists, structs and maps among its literals, with Arrow's reader. The plan is taken as protobuf of an unknown kind, and
/// what looks like Arrow's for that. What an extension's codec encodes is its own to check.
///
/// # Errors
/// As [`check_stream`], for all streams together; or a literal is compressed, which DataFusion never does.
pub fn check_claims(plan: &[u8]) -> Result<()> {
    let (mut waiting, mut room) = (vec![plan], TABLES_ROOM);
    while let Some(bytes) = waiting.pop() {
        if is_stream(bytes) {
            check_stream(bytes, &mut room)?;
        } else if is_compressed_batch(bytes) {
            return plan_err!("a literal in the plan is compressed");
        } else {
            parts_of(bytes, &mut waiting);
        }
    }
    Ok(())
}

/// Appends what may be messages, texts or bytes in a protobuf message, as far as it is one.
fn parts_of<'a>(mut message: &'a [u8], parts: &mut Vec<&'a [u8]>) {
    while let Ok(tag) = decode_varint(&mut message) {
        let skipped = match tag & 7 {
            _ if tag < 8 => None,
            0 => decode_varint(&mut message).is_ok().then_some(0),
            1 => Some(8),
            2 => decode_varint(&mut message).ok().and_then(|length| usize::try_from(length).ok()),
            3 | 4 => Some(0),
            5 => Some(4),
            _ => None,
        };
        let Some((part, rest)) = skipped.and_then(|length| message.split_at_checked(length)) else { return };
        message = rest;
        if tag & 7 == 2 {
            parts.push(part);
        }
    }
}

/// Whether a stream of messages begins here: with the length of the first, or with that behind the mark. Decimals below zero
/// begin with that mark, too.
fn is_stream(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(&CONTINUATION).unwrap_or(bytes);
    let Some((length, behind)) = bytes.split_first_chunk::<4>() else { return false };
    let head = behind.get(..u32::from_le_bytes(*length) as usize);
    head.and_then(head_of).is_some_and(|head| root_as_message(&head).is_ok())
}

fn is_compressed_batch(bytes: &[u8]) -> bool {
    head_of(bytes).is_some_and(|head| {
        let message = root_as_message(&head).ok();
        message.is_some_and(|message| batch_of(&message).is_some_and(|batch| batch.compression().is_some()))
    })
}

/// A copy, since its parts are aligned to the begin of an allocation, of what may be a message: it begins with the offset
/// of its root.
fn head_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let (root, _) = bytes.split_first_chunk::<4>()?;
    ((u32::from_le_bytes(*root) as usize) < bytes.len()).then(|| bytes.to_vec())
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
                "an in-memory table in the plan takes more than {TABLES_ROOM} bytes without compression: write it to files that the \
                 cluster can reach"
            );
        };
        *room = left;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{Int64Array, RecordBatch},
        ipc::{
            CompressionType,
            writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, StreamWriter},
        },
    };
    use prost::encoding::{WireType, encode_key, encode_varint};

    use super::*;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![7; 1_000])) as _)]).unwrap()
    }

    fn options(compression: Option<CompressionType>) -> IpcWriteOptions {
        IpcWriteOptions::default().try_with_compression(compression).unwrap()
    }

    fn stream(compression: Option<CompressionType>) -> Vec<u8> {
        let batch = batch();
        let mut writer =
            StreamWriter::try_new_with_options(vec![], &batch.schema(), options(compression)).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    /// Field 3 of a field 1 of a message that has other fields, too.
    fn plan(part: &[u8]) -> Vec<u8> {
        let field = |number: u32, bytes: &[u8]| {
            let mut field = vec![];
            encode_key(number, WireType::LengthDelimited, &mut field);
            encode_varint(bytes.len() as u64, &mut field);
            [field, bytes.to_vec()].concat()
        };
        let inner = [vec![0x08, 0x96, 0x01], field(2, b"a text"), field(3, part)].concat();
        [field(1, &inner), vec![0x15, 1, 2, 3, 4]].concat()
    }

    #[test]
    fn a_stream_anywhere_in_a_plan_may_not_claim_more_than_it_has() {
        for compression in [None, Some(CompressionType::LZ4_FRAME)] {
            let honest = stream(compression);
            assert!(check_claims(&plan(&honest)).is_ok());
            // Older streams have no mark in front of the lengths.
            assert!(is_stream(&honest[4..]));
            // The length of the batch's body, and what its only buffer becomes.
            let lengths: Vec<_> = honest
                .windows(8)
                .enumerate()
                .filter(|(_, bytes)| {
                    matches!(i64::from_le_bytes((*bytes).try_into().unwrap()), 8_000 | 8_064)
                })
                .collect();
            assert!(!lengths.is_empty());
            let refused = lengths.iter().filter(|(at, _)| {
                let mut forged = honest.clone();
                forged[*at..*at + 8].copy_from_slice(&(1_i64 << 40).to_le_bytes());
                check_claims(&plan(&forged)).is_err()
            });
            assert!(refused.count() > 0, "{compression:?}");
        }
    }

    #[test]
    fn a_literal_may_not_be_compressed() {
        let encoded = |compression| {
            let (_, data) = IpcDataGenerator {}
                .encode(
                    &batch(),
                    &mut DictionaryTracker::new(false),
                    &options(compression),
                    &mut IpcWriteContext::default(),
                )
                .unwrap();
            data.ipc_message
        };
        assert!(check_claims(&plan(&encoded(None))).is_ok());
        let error = check_claims(&plan(&encoded(Some(CompressionType::LZ4_FRAME)))).unwrap_err();
        assert!(error.to_string().contains("compressed"), "{error}");
    }

    #[test]
    fn what_is_not_protobuf_ends_the_look() {
        let minus_one = [0xff; 16];
        for bytes in
            [&[][..], &[0xff], &[0xff; 4], &minus_one, &[0x0a, 0x7f, 1], &[0; 64], &[4, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert!(check_claims(bytes).is_ok(), "{bytes:?}");
        }
    }
}
