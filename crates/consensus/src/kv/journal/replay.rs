//! Reading a journal: what is whole, what a power cut tore, and what is damaged.
//!
//! ```text
//!   a record is unreadable ──┬─ bits changed, or it is part of the base ───────────▶ refused
//!                            └─ it is torn: it and all after it are dropped ──┐
//!   the file ends ───────────────────────────────────────────────────────────┴─┬─ a batch in it was
//!                                                                              │  acknowledged ─▶ refused
//!                                                                              └─ none was ─▶ opened
//! ```
//!
//! Which batches were acknowledged is told by the witness, by the batches before the end, and by those that can still
//! be read after it: each says how far the journal was durable when it was written. What can't be told: the witness
//! is not synced, so a power cut takes the last numbers from it. Someone who then cuts the file short, or a disk
//! that then gives zeros for the sectors of the last batches, makes them look as if they had never been written.

use std::path::Path;

use bytes::Bytes;
use polybolos_env::Disk;

use super::{
    super::{Changes, KvError},
    format::{self, Kind, Record},
    io_error,
    live::Live,
};

/// What is read at once.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// What a journal holds, and the number of its last batch.
pub(super) struct Replayed {
    pub(super) live: Live,
    pub(super) number: u64,
}

/// Reads the journal at `path`, of which the batches up to `acknowledged` are known to be durable.
///
/// # Errors
/// A batch that was, or may have been, acknowledged is unreadable.
pub(super) async fn replay(disk: &dyn Disk, path: &Path, acknowledged: u64) -> Result<Replayed, KvError> {
    let length = disk.length(path).await.map_err(io_error("read the journal"))?;
    let mut reader = Reader { disk, path, length, window: Bytes::new(), start: 0, salt: 0 };
    reader.salt = format::read_head(&reader.bytes(0, format::HEAD_BYTES).await?)?;
    let (mut replayed, offset) = base(&mut reader).await?;
    let acknowledged = batches(&mut reader, offset, &mut replayed).await?.max(acknowledged);
    if replayed.number < acknowledged {
        let reason = format!("it ends at batch {}, and {acknowledged} were acknowledged", replayed.number);
        return Err(KvError::Damaged { reason });
    }
    Ok(replayed)
}

/// What was written aside and synced before it became the journal, so that every damage of it is one; and the offset of
/// what follows.
async fn base(reader: &mut Reader<'_>) -> Result<(Replayed, u64), KvError> {
    let (mut live, mut part, mut offset) = (Live::default(), 0, format::HEAD_BYTES as u64);
    loop {
        let Found::Whole(record, changes) = reader.record(offset).await? else {
            return Err(KvError::Damaged { reason: format!("its base is unreadable at byte {offset}") });
        };
        offset += record.bytes();
        match record.kind {
            Kind::Base if record.number == part => {
                live.apply(&changes);
                part += 1;
            }
            Kind::End => return Ok((Replayed { live, number: record.number }, offset)),
            Kind::Base | Kind::Batch => {
                let reason = format!("part {part} of its base is missing before byte {offset}");
                return Err(KvError::Damaged { reason });
            }
        }
    }
}

/// Adds the batches from `offset` on; returns the highest that one of them calls durable.
async fn batches(reader: &mut Reader<'_>, mut offset: u64, replayed: &mut Replayed) -> Result<u64, KvError> {
    let mut durable = 0;
    while offset < reader.length {
        let next = replayed.number.saturating_add(1);
        match reader.record(offset).await? {
            Found::Whole(record, changes) if record.kind == Kind::Batch && record.number == next => {
                replayed.live.apply(&changes);
                replayed.number = next;
                durable = durable.max(record.durable);
                offset += record.bytes();
            }
            Found::Whole(record, _) => {
                let reason = format!("batch {} follows batch {}", record.number, replayed.number);
                return Err(KvError::Damaged { reason });
            }
            Found::Changed => {
                let reason = format!("batch {next} at byte {offset} fails its checksum");
                return Err(KvError::Damaged { reason });
            }
            Found::Torn => return Ok(durable.max(reader.durable_after(offset).await?)),
        }
    }
    Ok(durable)
}

enum Found {
    Whole(Record, Changes),
    /// As a power cut leaves what was not synced.
    Torn,
    Changed,
}

struct Reader<'a> {
    disk: &'a dyn Disk,
    path: &'a Path,
    length: u64,
    /// Lies at `start`.
    window: Bytes,
    start: u64,
    salt: u64,
}

impl Reader<'_> {
    /// As many of the `count` bytes at `offset` as the file has.
    async fn bytes(&mut self, offset: u64, count: usize) -> Result<Bytes, KvError> {
        let end = self.length.min(offset.saturating_add(count as u64));
        let window_end = self.start + self.window.len() as u64;
        if offset >= end {
            return Ok(Bytes::new());
        }
        if offset < self.start || end > window_end {
            let ahead = self.length.min(offset.saturating_add(WINDOW_BYTES as u64)).max(end) - offset;
            let read = self.disk.read(self.path, offset, ahead as usize).await;
            self.window = read.map_err(io_error("read the journal"))?;
            self.start = offset;
        }
        let at = (offset - self.start) as usize;
        Ok(self.window.slice(at..at + (end - offset) as usize))
    }

    async fn record(&mut self, offset: u64) -> Result<Found, KvError> {
        let head = self.bytes(offset, format::RECORD_BYTES).await?;
        let Some(record) = format::read_record(self.salt, &head) else {
            return Ok(Found::unreadable(offset, &head, format::RECORD_BYTES));
        };
        let (offset, count) = (offset + format::RECORD_BYTES as u64, record.body_bytes as usize);
        let body = self.bytes(offset, count).await?;
        Ok(match format::read_body(self.salt, &record, &body) {
            Some(changes) => Found::Whole(record, changes),
            None => Found::unreadable(offset, &body, count),
        })
    }

    /// The highest batch that any record after `offset` calls durable.
    async fn durable_after(&mut self, mut offset: u64) -> Result<u64, KvError> {
        let mut durable = 0;
        loop {
            let window = self.bytes(offset, WINDOW_BYTES).await?;
            if window.len() < format::RECORD_BYTES {
                return Ok(durable);
            }
            let heads = window.windows(format::RECORD_BYTES);
            let records = heads.filter_map(|head| format::read_record(self.salt, head));
            durable = records.fold(durable, |durable, record| durable.max(record.durable));
            // The next window begins with what is too short here to be a record's head.
            offset += (window.len() - format::RECORD_BYTES + 1) as u64;
        }
    }
}

impl Found {
    fn unreadable(offset: u64, bytes: &[u8], whole: usize) -> Self {
        if format::is_torn(offset, bytes, whole) { Self::Torn } else { Self::Changed }
    }
}

impl Record {
    /// Of the whole record.
    fn bytes(&self) -> u64 {
        format::RECORD_BYTES as u64 + u64::from(self.body_bytes)
    }
}
