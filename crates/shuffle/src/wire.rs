//! Batches as Flight messages of a good size.

use arrow::{array::RecordBatch, error::ArrowError};
use polybolos_model::limits::{MAX_MESSAGE_BYTES, MESSAGE_OVERHEAD_BYTES};

use crate::{
    OutputKey, ShuffleError,
    sharing::{Slack, compact},
    size::batch_bytes,
};

/// Batches over this are divided: large enough that a message costs little beside its bytes, and a few of them fit
/// into an HTTP/2 window.
pub(crate) const TARGET_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// The rest of [`MAX_MESSAGE_BYTES`] is for headers, offsets and padding.
pub(crate) const MAX_BATCH_BYTES: usize = MAX_MESSAGE_BYTES - MESSAGE_OVERHEAD_BYTES;

/// `batch` in pieces of about [`TARGET_MESSAGE_BYTES`] and at most [`MAX_BATCH_BYTES`], without unused memory.
///
/// # Errors
/// One row alone is too large.
pub(crate) fn pieces(key: OutputKey, batch: RecordBatch) -> Result<Vec<RecordBatch>, ShuffleError> {
    let codec = |source: ArrowError| ShuffleError::Codec { key, source };
    let rows = batch.num_rows();
    let bytes = batch_bytes(&batch);
    if bytes <= TARGET_MESSAGE_BYTES || rows <= 1 {
        fits(key, &batch, bytes)?;
        return Ok(vec![compact(batch, Slack::Encoded).map_err(codec)?]);
    }
    let rows_each = rows.div_ceil(bytes.div_ceil(TARGET_MESSAGE_BYTES)).max(1);
    let mut pieces = Vec::with_capacity(rows.div_ceil(rows_each));
    for start in (0..rows).step_by(rows_each) {
        let mut rest = vec![batch.slice(start, rows_each.min(rows - start))];
        // Rows of very different sizes: halves until each is small enough.
        while let Some(piece) = rest.pop() {
            let (rows, bytes) = (piece.num_rows(), batch_bytes(&piece));
            if bytes > MAX_BATCH_BYTES && rows > 1 {
                rest.push(piece.slice(rows / 2, rows - rows / 2));
                rest.push(piece.slice(0, rows / 2));
                continue;
            }
            fits(key, &piece, bytes)?;
            pieces.push(compact(piece, Slack::Encoded).map_err(codec)?);
        }
    }
    Ok(pieces)
}

fn fits(key: OutputKey, batch: &RecordBatch, bytes: usize) -> Result<(), ShuffleError> {
    if bytes <= MAX_BATCH_BYTES {
        return Ok(());
    }
    debug_assert!(batch.num_rows() == 1);
    Err(ShuffleError::RowTooLarge { key, bytes, limit: MAX_BATCH_BYTES })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, StringViewArray},
        compute::concat_batches,
    };

    use super::*;
    use crate::testing::key;

    fn batch(sizes: &[usize]) -> RecordBatch {
        let texts = StringViewArray::from_iter_values(sizes.iter().map(|&size| "x".repeat(size)));
        RecordBatch::try_from_iter([("t", Arc::new(texts) as ArrayRef)]).unwrap()
    }

    #[test]
    fn large_batches_are_divided_in_order() {
        let mib = 1024 * 1024;
        let mut sizes = vec![mib / 4; 40];
        sizes.extend([10 * mib, 9 * mib, 8 * mib, 1, 0]);
        let whole = batch(&sizes);
        let pieces = pieces(key(0, 0), whole.clone()).unwrap();
        assert!(pieces.len() > 10, "{}", pieces.len());
        for piece in &pieces {
            assert!(piece.get_array_memory_size() < MAX_MESSAGE_BYTES);
        }
        assert_eq!(concat_batches(&whole.schema(), &pieces).unwrap(), whole);
    }

    #[test]
    fn a_row_that_no_message_holds_is_refused_by_name() {
        let error = pieces(key(0, 0), batch(&[5, 17 * 1024 * 1024])).unwrap_err();
        assert!(matches!(error, ShuffleError::RowTooLarge { .. }), "{error}");
    }
}
