//! A codec that looks how much memory a message would take before it is decoded.
//!
//! Two bytes on the wire can be an empty message within another one, which is a hundred times as large in memory: a message
//! that is no larger than the limit would take gigabytes. What is right takes a few times its length.

use std::marker::PhantomData;

use bytes::Buf;
use polybolos_model::limits::MAX_DECODED_BYTES;
use prost::{Message, Name};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// What a field of a message holds besides bytes.
#[derive(Debug, Clone, Copy)]
enum Holds {
    /// One of [`SHAPES`].
    Message(usize),
    /// Any number of numbers in one field, each of a byte or more.
    Numbers,
}

#[derive(Debug)]
struct Shape {
    name: &'static str,
    /// In memory, without what it points to.
    bytes: usize,
    fields: &'static [(u32, Holds)],
}

/// Key and value of a map, and their place in it.
const MAP_ENTRY_BYTES: usize = 96;
/// A text or bytes, without their content.
const TEXT_BYTES: usize = 32;
const NUMBER_BYTES: usize = 8;
/// prost decodes no deeper.
const MAX_DEPTH: usize = 100;

/// Ascending by name, made of `proto/`.
static SHAPES: &[Shape] = include!(concat!(env!("OUT_DIR"), "/shapes.rs"));

/// The bytes that `message` takes once it is decoded as `shape`, as far as they are more than its own; `None` beyond
/// `budget`. What is malformed is counted up to where it is: decoding ends there, too.
fn decoded_bytes(message: &[u8], shape: usize, budget: usize, depth: usize) -> Option<usize> {
    let fields = SHAPES.get(shape).map_or(&[][..], |shape| shape.fields);
    let (mut rest, mut total) = (message, 0_usize);
    while rest.has_remaining() {
        let Ok(tag) = prost::encoding::decode_varint(&mut rest) else { break };
        total += match tag & 7 {
            0 => match prost::encoding::decode_varint(&mut rest) {
                Ok(_) => NUMBER_BYTES,
                Err(_) => break,
            },
            1 if rest.len() >= 8 => {
                rest.advance(8);
                NUMBER_BYTES
            }
            5 if rest.len() >= 4 => {
                rest.advance(4);
                NUMBER_BYTES
            }
            2 => {
                let Ok(length) = prost::encoding::decode_varint(&mut rest) else { break };
                let Some((inner, after)) =
                    usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length))
                else {
                    break;
                };
                rest = after;
                let holds = fields.iter().find(|(number, _)| u64::from(*number) == tag >> 3);
                match holds.map(|(_, holds)| *holds) {
                    None => TEXT_BYTES,
                    Some(Holds::Numbers) => TEXT_BYTES + inner.len().saturating_mul(NUMBER_BYTES),
                    Some(Holds::Message(shape)) if depth < MAX_DEPTH => {
                        let own = SHAPES.get(shape).map_or(0, |shape| shape.bytes);
                        own + decoded_bytes(inner, shape, budget.checked_sub(total)?, depth + 1)?
                    }
                    Some(Holds::Message(_)) => break,
                }
            }
            // The marks of a group: what is in it is counted as if it were here.
            3 | 4 => 0,
            _ => break,
        };
        if total > budget {
            return None;
        }
    }
    Some(total)
}

/// tonic's codec, with [`MAX_DECODED_BYTES`] on what it decodes.
#[derive(Debug, Clone)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Name + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        let shape = SHAPES.binary_search_by_key(&U::NAME, |shape| shape.name);
        // Each message of `proto/` is in the table; a test holds it to that.
        BoundedDecoder { inner: ProstCodec::<T, U>::default().decoder(), shape: shape.unwrap_or(usize::MAX) }
    }
}

/// See [`BoundedCodec`].
#[derive(Debug)]
pub struct BoundedDecoder<U> {
    inner: ProstDecoder<U>,
    shape: usize,
}

impl<U: Message + Default + Name> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The whole message: tonic holds it in one piece.
        if decoded_bytes(from.chunk(), self.shape, MAX_DECODED_BYTES, 0).is_none() {
            return Err(Status::out_of_range(format!(
                "a {} of {} bytes would take more than {MAX_DECODED_BYTES} in memory",
                U::NAME,
                from.remaining()
            )));
        }
        self.inner.decode(from)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.inner.buffer_settings()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    fn taken<M: Name>(bytes: &[u8]) -> Option<usize> {
        let shape = SHAPES.binary_search_by_key(&M::NAME, |shape| shape.name).unwrap();
        decoded_bytes(bytes, shape, MAX_DECODED_BYTES, 0)
    }

    #[test]
    fn the_table_is_sorted_and_has_the_messages_that_are_sent() {
        assert!(SHAPES.is_sorted_by_key(|shape| shape.name));
        for name in [v1::AppendRequest::NAME, v1::ExecutorMessage::NAME, v1::BackupPiece::NAME] {
            assert!(SHAPES.iter().any(|shape| shape.name == name), "{name}");
        }
    }

    #[test]
    fn what_is_right_takes_a_few_times_its_length() {
        let stats = v1::PartitionStats { rows: 10_000, bytes: 1_000_000 };
        let completed = v1::TaskCompleted { outputs: vec![stats; 1_000], ..Default::default() };
        let outcome = Some(v1::task_report::Outcome::Completed(completed));
        let report = v1::TaskReport { job_id: "0123456789abcdef".into(), outcome, ..Default::default() };
        let reports = v1::TaskReports { incarnation: 1, reports: vec![report; 100] };
        let bytes = v1::ExecutorMessage { message: Some(v1::executor_message::Message::Reports(reports)) };
        let bytes = bytes.encode_to_vec();
        let taken = taken::<v1::ExecutorMessage>(&bytes).unwrap();
        assert!(taken > bytes.len() && taken < bytes.len() * 8, "{taken} of {}", bytes.len());
    }

    #[test]
    fn empty_messages_without_end_are_refused() {
        // Entries of an `AppendRequest`, and reports within an `ExecutorMessage`.
        let entries = [0x22, 0x00].repeat(4_000_000);
        assert_eq!(taken::<v1::AppendRequest>(&entries), None);
        let reports = [0x12, 0x00].repeat(4_000_000);
        let mut message = vec![0x1a];
        prost::encoding::encode_varint(reports.len() as u64, &mut message);
        message.extend(reports);
        assert_eq!(taken::<v1::ExecutorMessage>(&message), None);
        // Also behind an unknown group, which prost passes over.
        assert_eq!(taken::<v1::AppendRequest>(&[&[0xa3, 0x06, 0xa4, 0x06], &entries[..]].concat()), None);
        assert!(taken::<v1::AppendRequest>(&entries[..2_000]).is_some());
    }

    #[test]
    fn numbers_in_one_field_count_each() {
        let voters = v1::RaftVoters { ids: vec![1; 1_000] };
        assert!(taken::<v1::RaftVoters>(&voters.encode_to_vec()).unwrap() >= 8_000);
    }
}
