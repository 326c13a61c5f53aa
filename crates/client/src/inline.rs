//! Rows that came with the place of their partition, so that they need not be fetched.
//!
//! They are looked at like anything from outside: lengths are held against what is there before Arrow's reader goes by
//! them, which makes room for what a compressed buffer claims to become, and panics beyond the end of a body. Rows that are
//! not right are fetched, as if none had come.

use std::collections::BTreeMap;

use arrow::{buffer::Buffer, datatypes::SchemaRef, error::ArrowError, record_batch::RecordBatch};
use arrow_ipc::{Message, reader::StreamDecoder, root_as_message};
use polybolos_proto::v1::ResultPartition;

use crate::{
    ClientError,
    fetch::{Fetch, Stop, wait_for},
    ipc,
    stream::Item,
};

/// Stands before the length of each message.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// No column, nor what is nested in one, is longer.
const MAX_LENGTH: i64 = u32::MAX as i64;

/// Why rows can't be taken.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("the stream is cut short, or claims more than it has")]
    Claims,
    #[error("the stream is compressed")]
    Compressed,
    #[error("malformed Arrow data: {0}")]
    Arrow(#[from] ArrowError),
    #[error("there are {got} rows where {told} were told")]
    Rows { got: u64, told: u64 },
    #[error(transparent)]
    Schema(#[from] ClientError),
}

impl Fetch {
    /// The rows that came with `place`, under the schema that was announced.
    pub(crate) fn came_along(&self, place: &ResultPartition) -> Option<Vec<RecordBatch>> {
        let stream = place.arrow_stream.as_ref()?;
        let rows = rows(stream, place.rows, &self.schema);
        let (job, partition) = (self.job, self.partition);
        rows.inspect_err(
            |error| tracing::warn!(%job, partition, %error, "rows that came along are fetched instead"),
        )
        .ok()
    }

    /// Hands out all of the partition, once its turn has come: nothing of it was, and nothing can break.
    pub(crate) async fn hand_out(&mut self, batches: Vec<RecordBatch>) -> Result<(), Stop> {
        wait_for(&mut self.turn).await?;
        self.turn = None;
        polybolos_model::sometimes!("a result came with its completion");
        for batch in batches {
            if !self.generation.enter(self.of_generation) {
                return Err(Stop::Left);
            }
            self.out.send(Item::Batch(batch)).await.map_err(|_| Stop::Left)?;
            polybolos_model::failpoint!("client.mid_result");
        }
        Ok(())
    }
}

/// A place with the rows that an earlier update told of the same attempt: each watch tells them once.
pub(crate) fn with_rows(place: &ResultPartition, known: &BTreeMap<u32, ResultPartition>) -> ResultPartition {
    let earlier = known.get(&place.partition).filter(|earlier| earlier.ticket == place.ticket);
    let rows = || earlier.and_then(|earlier| earlier.arrow_stream.clone());
    ResultPartition { arrow_stream: place.arrow_stream.clone().or_else(rows), ..place.clone() }
}

/// The batches of a stream that has `told` rows.
fn rows(stream: &[u8], told: u64, schema: &SchemaRef) -> Result<Vec<RecordBatch>, Unfit> {
    check(stream)?;
    // A copy, which is aligned and does not keep the message that it came in.
    let mut rest = Buffer::from(stream);
    let (mut decoder, mut batches, mut got) = (StreamDecoder::new(), Vec::new(), 0_u64);
    while let Some(batch) = decoder.decode(&mut rest)? {
        got = got.saturating_add(batch.num_rows() as u64);
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
    }
    decoder.finish()?;
    if got != told {
        return Err(Unfit::Rows { got, told });
    }
    batches.into_iter().map(|batch| ipc::conform(batch, schema).map_err(Unfit::from)).collect()
}

/// Whether the messages of an uncompressed stream, up to its end, have what they claim.
fn check(stream: &[u8]) -> Result<(), Unfit> {
    let mut rest = stream;
    loop {
        let (mark, behind) = rest.split_first_chunk::<4>().ok_or(Unfit::Claims)?;
        let (length, behind) = behind.split_first_chunk::<4>().ok_or(Unfit::Claims)?;
        if *mark != CONTINUATION {
            return Err(Unfit::Claims);
        }
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 {
            return if behind.is_empty() { Ok(()) } else { Err(Unfit::Claims) };
        }
        let (head, behind) = behind.split_at_checked(length).ok_or(Unfit::Claims)?;
        // Its parts are aligned to the begin of an allocation.
        let head = head.to_vec();
        let message = root_as_message(&head).map_err(|_| Unfit::Claims)?;
        let body = usize::try_from(message.bodyLength()).map_err(|_| Unfit::Claims)?;
        rest = behind.split_at_checked(body).ok_or(Unfit::Claims)?.1;
        check_batch(&message, body)?;
    }
}

fn check_batch(message: &Message<'_>, body: usize) -> Result<(), Unfit> {
    let dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
    let Some(batch) = message.header_as_record_batch().or(dictionary) else { return Ok(()) };
    if batch.compression().is_some() {
        return Err(Unfit::Compressed);
    }
    let is_length = |length: i64| (0..=MAX_LENGTH).contains(&length);
    let mut nodes = batch.nodes().into_iter().flatten();
    let mut buffers = batch.buffers().into_iter().flatten();
    let is_in_body = |(offset, length): (i64, i64)| {
        let end = u64::try_from(offset).ok().zip(u64::try_from(length).ok());
        end.and_then(|(offset, length)| offset.checked_add(length)).is_some_and(|end| end <= body as u64)
    };
    let is_sound = is_length(batch.length())
        && nodes.all(|node| is_length(node.length()) && (0..=node.length()).contains(&node.null_count()))
        && buffers.all(|buffer| is_in_body((buffer.offset(), buffer.length())));
    if is_sound { Ok(()) } else { Err(Unfit::Claims) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, DictionaryArray, Int64Array, StringViewArray},
        compute::concat_batches,
        datatypes::Int32Type,
    };
    use arrow_ipc::{
        CompressionType,
        writer::{IpcWriteOptions, StreamWriter},
    };

    use super::*;

    fn batch(from: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + 100));
        let texts: ArrayRef =
            Arc::new(StringViewArray::from_iter_values((from..from + 100).map(|n| format!("{n:020}"))));
        let codes: Vec<String> = (from..from + 100).map(|n| format!("{}", n / 30)).collect();
        let codes: DictionaryArray<Int32Type> = codes.iter().map(String::as_str).collect();
        RecordBatch::try_from_iter([("n", numbers), ("t", texts), ("c", Arc::new(codes) as ArrayRef)])
            .unwrap()
    }

    fn stream(batches: &[RecordBatch], compression: Option<CompressionType>) -> Vec<u8> {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut writer = StreamWriter::try_new_with_options(vec![], &batches[0].schema(), options).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.into_inner().unwrap()
    }

    #[test]
    fn rows_of_several_batches_with_other_dictionaries_come_as_they_were() {
        let sent = [batch(0), batch(0).slice(0, 0), batch(1_000)];
        let schema = sent[0].schema();
        let got = rows(&stream(&sent, None), 200, &schema).unwrap();
        assert_eq!(concat_batches(&schema, &got).unwrap(), concat_batches(&schema, &sent).unwrap());
    }

    #[test]
    fn another_number_of_rows_and_other_columns_are_refused() {
        let sent = stream(&[batch(0)], None);
        let schema = batch(0).schema();
        for told in [0, 99, 101] {
            let error = rows(&sent, told, &schema).unwrap_err();
            assert!(matches!(error, Unfit::Rows { got: 100, .. }), "{error}");
        }
        let one = batch(0).project(&[0]).unwrap().schema();
        assert!(matches!(rows(&sent, 100, &one), Err(Unfit::Schema(_))));
    }

    #[test]
    fn what_is_compressed_or_cut_short_is_refused() {
        let schema = batch(0).schema();
        let packed = stream(&[batch(0)], Some(CompressionType::LZ4_FRAME));
        assert!(matches!(rows(&packed, 100, &schema), Err(Unfit::Compressed)));
        let whole = stream(&[batch(0)], None);
        for length in 0..whole.len() {
            assert!(rows(&whole[..length], 100, &schema).is_err(), "{length} of {}", whole.len());
        }
        assert!(rows(&[whole, vec![0]].concat(), 100, &schema).is_err());
    }

    /// What the head of a batch says of where its buffers are, and how long what follows is.
    #[test]
    fn forged_lengths_cost_neither_memory_nor_the_process() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let sent = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let whole = stream(std::slice::from_ref(&sent), None);
        let lengths = whole.windows(8).enumerate().filter(|(_, bytes)| {
            // Rows, the only buffer, and the body with its padding.
            matches!(i64::from_le_bytes((*bytes).try_into().unwrap()), 100 | 800 | 832 | 896)
        });
        let mut refused = 0;
        for (at, _) in lengths {
            for claimed in [1_i64 << 40, i64::MAX, -1, 900] {
                let mut forged = whole.clone();
                forged[at..at + 8].copy_from_slice(&claimed.to_le_bytes());
                refused += u32::from(check(&forged).is_err());
                // A number among the rows may be anything.
                let is_same = rows(&forged, 100, &sent.schema()).is_ok_and(|got| got[0].num_rows() == 100);
                assert!(is_same || rows(&forged, 100, &sent.schema()).is_err());
            }
        }
        assert!(refused >= 9, "{refused}");
    }
}
