//! What a Flight ticket says.

use std::ops::Range;

use bytes::Bytes;
use polybolos_model::{JobId, StageId, TaskId};
use polybolos_proto::{ConvertError, attempt, v1::ShuffleTicket};
use prost::Message;

use crate::OutputKey;

/// A ticket is no ticket of ours.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    #[error("the ticket is no shuffle ticket: {0}")]
    Encoding(#[from] prost::DecodeError),
    #[error("the ticket is malformed: {0}")]
    Content(#[from] ConvertError),
}

/// A request for partitions of an attempt's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTicket {
    pub key: OutputKey,
    /// One after the other.
    pub partitions: Range<u32>,
    /// An executor that doesn't hold the output gives it from the durable store.
    pub durable: bool,
    /// What there is of an output that is not whole yet, and the rest as it is written.
    pub follow: bool,
}

/// A ticket for one partition of an attempt's output, to the executor that holds it.
pub fn encode_ticket(key: OutputKey, partition: u32) -> Bytes {
    encode_range_ticket(key, &(partition..partition.saturating_add(1)))
}

/// A ticket for neighbouring partitions, of which there is at least one.
pub(crate) fn encode_range_ticket(key: OutputKey, partitions: &Range<u32>) -> Bytes {
    let is_one = partitions.end.saturating_sub(partitions.start) < 2;
    let ticket = ShuffleTicket {
        job_id: key.task.job.to_string(),
        stage_id: key.task.stage.0,
        map_partition: key.task.partition,
        attempt: Some(key.attempt.into()),
        output_partition: partitions.start,
        durable: false,
        follow: false,
        end_partition: if is_one { 0 } else { partitions.end },
    };
    ticket.encode_to_vec().into()
}

/// What [`encode_ticket`] or a scheduler made.
///
/// # Errors
/// [`TicketError`] says what is wrong with the bytes.
pub fn decode_ticket(bytes: &[u8]) -> Result<OutputTicket, TicketError> {
    let ticket = ShuffleTicket::decode(bytes)?;
    let job: JobId = ticket.job_id.parse().map_err(ConvertError::from)?;
    let task = TaskId { job, stage: StageId(ticket.stage_id), partition: ticket.map_partition };
    let key = OutputKey { task, attempt: attempt(ticket.attempt)? };
    let first = ticket.output_partition;
    let partitions = first..ticket.end_partition.max(first.saturating_add(1));
    Ok(OutputTicket { key, partitions, durable: ticket.durable, follow: ticket.follow })
}

#[cfg(test)]
mod tests {
    use polybolos_model::{AttemptId, Term};

    use super::*;

    #[test]
    fn a_ticket_round_trips_and_others_are_refused() {
        let key = OutputKey {
            task: TaskId { job: JobId(7), stage: StageId(2), partition: 3 },
            attempt: AttemptId { term: Term(4), counter: 5 },
        };
        let expected = OutputTicket { key, partitions: 6..7, durable: false, follow: false };
        assert_eq!(decode_ticket(&encode_ticket(key, 6)).unwrap(), expected);
        let several = OutputTicket { partitions: 6..9, ..expected };
        assert_eq!(decode_ticket(&encode_range_ticket(key, &(6..9))).unwrap(), several);
        assert!(matches!(decode_ticket(b"\xff\xff"), Err(TicketError::Encoding(_))));
        assert!(matches!(decode_ticket(b""), Err(TicketError::Content(_))));
    }
}
