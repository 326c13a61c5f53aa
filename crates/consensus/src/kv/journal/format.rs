//! How the journal lies in its file. All numbers are little-endian.
//!
//! ```text
//!   head │ base 0 │ base 1 │ … │ end │ batch n+1 │ batch n+2 │ …
//!        └─ what the batches up to n left ─┘ └─ one for each write since
//!
//!   head:    magic 8 · version 4 · salt 8 · CRC 4
//!   record:  mark 3 · kind 1 · bytes of the body 4 · number 8 · durable 8 · CRC of the body 4 · CRC 4 · 0x55 │ body
//!   body:    pieces of up to 127 bytes, each after a byte 0x80 | length · 0x55
//! ```
//!
//! A power cut leaves an append that was not synced cut short, or with sectors that were never written and read as
//! zeros. So no part of a written record that a sector can hold is all zeros, and stays so when one bit flips: the
//! pieces' lengths and the closing bytes see to that. A record that was never written is thereby told from one
//! that changed.
//!
//! The checksums begin with the file's salt, so that neither a record of another file nor a copy of one inside a
//! value is taken for a record.

use super::super::{Changes, KvError};

const MAGIC: [u8; 8] = *b"pbjournl";
/// Raised with every change of the layout below the head, which itself never changes.
const VERSION: u32 = 1;
pub(super) const HEAD_BYTES: usize = 8 + 4 + 8 + 4;

const MARK: [u8; 3] = [0xb5, 0x4a, 0xd3];
/// What heads and bodies of records close with.
const CLOSE: u8 = 0x55;
pub(super) const RECORD_BYTES: usize = 3 + 1 + 4 + 8 + 8 + 4 + 4 + 1;

const PIECE_BYTES: usize = 127;
const PIECE_MARK: u8 = 0x80;

/// The smallest unit that a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Base = 0x33,
    End = 0x3c,
    Batch = 0x5a,
}

/// What stands before a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    /// Of the batch. The base's records count from 0, and its end has the number of the last batch in it.
    pub(super) number: u64,
    /// The highest batch that was known to be durable when this was written.
    pub(super) durable: u64,
    pub(super) body_bytes: u32,
    body_crc: u32,
}

fn crc(salt: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

pub(super) fn head(salt: u64) -> Vec<u8> {
    let mut head = [&MAGIC[..], &VERSION.to_le_bytes(), &salt.to_le_bytes()].concat();
    let crc = crc(0, &head);
    head.extend_from_slice(&crc.to_le_bytes());
    head
}

/// The salt.
pub(super) fn read_head(head: &[u8]) -> Result<u64, KvError> {
    let mut rest = head;
    let (magic, version, salt) = (take::<8>(&mut rest), take(&mut rest), take(&mut rest));
    let whole = head.get(..HEAD_BYTES - 4).map(|bytes| crc(0, bytes).to_le_bytes());
    match (magic, version, salt) {
        (Some(MAGIC), Some(version), Some(salt)) if take::<4>(&mut rest) == whole => {
            match u32::from_le_bytes(version) {
                VERSION => Ok(u64::from_le_bytes(salt)),
                found => Err(KvError::Version { found, known: VERSION }),
            }
        }
        _ => Err(KvError::Damaged { reason: "its head is unreadable".to_owned() }),
    }
}

/// A record with its body; `None` if it would be larger than a record can be.
pub(super) fn record(
    salt: u64,
    kind: Kind,
    (number, durable): (u64, u64),
    changes: &Changes,
) -> Option<Vec<u8>> {
    let body = to_body(changes)?;
    let mut record = Vec::with_capacity(RECORD_BYTES + body.len());
    record.extend_from_slice(&MARK);
    record.push(kind as u8);
    record.extend_from_slice(&u32::try_from(body.len()).ok()?.to_le_bytes());
    record.extend_from_slice(&number.to_le_bytes());
    record.extend_from_slice(&durable.to_le_bytes());
    record.extend_from_slice(&crc(salt, &body).to_le_bytes());
    record.extend_from_slice(&crc(salt, &record).to_le_bytes());
    record.push(CLOSE);
    record.extend_from_slice(&body);
    Some(record)
}

/// What [`record`] wrote before the body, unless it has changed since.
pub(super) fn read_record(salt: u64, bytes: &[u8]) -> Option<Record> {
    let (rest, whole) = (&mut &*bytes, bytes.get(..RECORD_BYTES - 5)?);
    if take(rest)? != MARK {
        return None;
    }
    let kind = match take::<1>(rest)? {
        [kind] if kind == Kind::Base as u8 => Kind::Base,
        [kind] if kind == Kind::End as u8 => Kind::End,
        [kind] if kind == Kind::Batch as u8 => Kind::Batch,
        [_] => return None,
    };
    let body_bytes = u32::from_le_bytes(take(rest)?);
    let (number, durable) = (u64::from_le_bytes(take(rest)?), u64::from_le_bytes(take(rest)?));
    let body_crc = u32::from_le_bytes(take(rest)?);
    let is_whole = u32::from_le_bytes(take(rest)?) == crc(salt, whole) && take(rest)? == [CLOSE];
    is_whole.then_some(Record { kind, number, durable, body_bytes, body_crc })
}

/// The changes in a record's body, unless it has changed since.
pub(super) fn read_body(salt: u64, record: &Record, body: &[u8]) -> Option<Changes> {
    let is_whole = body.len() == record.body_bytes as usize && crc(salt, body) == record.body_crc;
    if is_whole { from_body(body) } else { None }
}

/// Whether a power cut may have left `bytes`, which lie at `offset`, of an append of `whole` bytes that was not synced.
pub(super) fn is_torn(offset: u64, mut bytes: &[u8], whole: usize) -> bool {
    if bytes.len() < whole {
        return true;
    }
    let mut length = SECTOR_BYTES - offset % SECTOR_BYTES;
    while !bytes.is_empty() {
        let (part, rest) = bytes.split_at(bytes.len().min(length as usize));
        if part.iter().all(|byte| *byte == 0) {
            return true;
        }
        (bytes, length) = (rest, SECTOR_BYTES);
    }
    false
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn to_body(changes: &Changes) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    for pairs in [&changes.removals, &changes.puts] {
        plain.extend_from_slice(&u32::try_from(pairs.len()).ok()?.to_le_bytes());
        for bytes in pairs.iter().flat_map(|(a, b)| [a, b]) {
            plain.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
            plain.extend_from_slice(bytes);
        }
    }
    let mut body = Vec::with_capacity(plain.len() + plain.len().div_ceil(PIECE_BYTES) + 1);
    for piece in plain.chunks(PIECE_BYTES) {
        body.push(PIECE_MARK | piece.len() as u8);
        body.extend_from_slice(piece);
    }
    body.push(CLOSE);
    Some(body)
}

fn from_body(body: &[u8]) -> Option<Changes> {
    let (close, mut rest) = body.split_last()?;
    let mut plain = Vec::with_capacity(rest.len());
    while let Some((length, piece)) = rest.split_first() {
        let (piece, next) = piece.split_at_checked(usize::from(length.checked_sub(PIECE_MARK)?))?;
        plain.extend_from_slice(piece);
        rest = next;
    }
    let plain = &mut plain.as_slice();
    let changes = Changes { removals: pairs(plain)?, puts: pairs(plain)? };
    (*close == CLOSE && plain.is_empty()).then_some(changes)
}

fn pairs(plain: &mut &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let count = u32::from_le_bytes(take(plain)?);
    (0..count).map(|_| Some((byte_string(plain)?, byte_string(plain)?))).collect()
}

fn byte_string(plain: &mut &[u8]) -> Option<Vec<u8>> {
    let length = u32::from_le_bytes(take(plain)?);
    let (bytes, rest) = plain.split_at_checked(length as usize)?;
    *plain = rest;
    Some(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// With many zeros, which is what an unwritten sector could be mistaken for.
    fn byte_strings() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
        let bytes = || {
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                (0..3_000usize).prop_map(|length| vec![0; length])
            ]
        };
        prop::collection::vec((bytes(), bytes()), 0..4)
    }

    fn whole(salt: u64, written: &[u8]) -> Option<(Record, Changes)> {
        let record = read_record(salt, written)?;
        Some((record, read_body(salt, &record, written.get(RECORD_BYTES..)?)?))
    }

    /// As `replay` asks: of the head, and of the body if the head is whole.
    fn torn(salt: u64, offset: u64, written: &[u8]) -> bool {
        let head = &written[..written.len().min(RECORD_BYTES)];
        match read_record(salt, head) {
            None => is_torn(offset, head, RECORD_BYTES),
            Some(record) => {
                let body = &written[RECORD_BYTES..];
                is_torn(offset + RECORD_BYTES as u64, body, record.body_bytes as usize)
            }
        }
    }

    proptest! {
        #[test]
        fn a_record_comes_back_and_what_happened_to_it_is_told_apart(
            removals in byte_strings(),
            puts in byte_strings(),
            (salt, number, durable) in any::<(u64, u64, u64)>(),
            offset in 0..2_000u64,
            (at, bit) in any::<(prop::sample::Index, u8)>(),
        ) {
            let changes = Changes { removals, puts };
            let written = record(salt, Kind::Batch, (number, durable), &changes).unwrap();
            let (read, back) = whole(salt, &written).unwrap();
            prop_assert_eq!((read.kind, read.number, read.durable), (Kind::Batch, number, durable));
            prop_assert_eq!(back, changes);
            prop_assert!(whole(salt ^ 1, &written).is_none());

            let at = at.index(written.len());
            let mut flipped = written.clone();
            flipped[at] ^= 1 << (bit % 8);
            prop_assert!(whole(salt, &flipped).is_none());
            prop_assert!(!torn(salt, offset, &flipped));

            prop_assert!(whole(salt, &written[..at]).is_none());
            prop_assert!(torn(salt, offset, &written[..at]));

            // The sector of a byte was never written.
            let mut holed = written.clone();
            let sector = (offset + at as u64) / SECTOR_BYTES;
            for (index, byte) in holed.iter_mut().enumerate() {
                if (offset + index as u64) / SECTOR_BYTES == sector {
                    *byte = 0;
                }
            }
            prop_assert!(whole(salt, &holed).is_none());
            prop_assert!(torn(salt, offset, &holed));
        }

        #[test]
        fn a_head_opens_unless_a_bit_flips(salt: u64, at in 0..HEAD_BYTES, bit in 0..8) {
            let mut written = head(salt);
            prop_assert_eq!(read_head(&written).unwrap(), salt);
            written[at] ^= 1u8 << bit;
            let is_damaged = matches!(read_head(&written), Err(KvError::Damaged { .. }));
            prop_assert!(is_damaged);
            prop_assert!(read_head(&written[..at]).is_err());
        }
    }

    #[test]
    fn a_newer_layout_is_told_from_damage() {
        let mut newer = [&MAGIC[..], &(VERSION + 1).to_le_bytes(), &[7; 8]].concat();
        let crc = crc(0, &newer);
        newer.extend_from_slice(&crc.to_le_bytes());
        let error = read_head(&newer).unwrap_err();
        assert!(matches!(error, KvError::Version { found: 2, known: 1 }), "{error}");
    }
}
