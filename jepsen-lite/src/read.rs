//! Lines to events, within limits.

use std::io::{BufRead, Read};

use crate::{Event, HistoryError};

/// What a history may hold. More is an error, never a panic or a machine without memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    pub line_bytes: usize,
    pub events: usize,
    pub total_bytes: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { line_bytes: 4 << 20, events: 4_000_000, total_bytes: 1 << 30 }
    }
}

/// The events of `input` with their line numbers. Empty lines are passed over.
pub(crate) fn events(
    mut input: impl BufRead,
    limits: &ReadLimits,
) -> Result<Vec<(usize, Event)>, HistoryError> {
    let mut events = Vec::new();
    let mut buffer = Vec::new();
    let mut total_bytes = 0;
    for line in 1.. {
        buffer.clear();
        let bound = limits.line_bytes as u64 + 2;
        let read = input
            .by_ref()
            .take(bound)
            .read_until(b'\n', &mut buffer)
            .map_err(|source| HistoryError::Read { line, source })?;
        if read == 0 {
            break;
        }
        let text = buffer.trim_ascii();
        if text.len() > limits.line_bytes || (read as u64 == bound && buffer.last() != Some(&b'\n')) {
            return Err(HistoryError::LineTooLong { line, limit_bytes: limits.line_bytes });
        }
        total_bytes += read as u64;
        if total_bytes > limits.total_bytes {
            return Err(HistoryError::TooLarge { limit_bytes: limits.total_bytes });
        }
        if text.is_empty() {
            continue;
        }
        if events.len() == limits.events {
            return Err(HistoryError::TooManyEvents { limit: limits.events });
        }
        let event =
            serde_json::from_slice(text).map_err(|source| HistoryError::NotAnEvent { line, source })?;
        events.push((line, event));
    }
    Ok(events)
}
