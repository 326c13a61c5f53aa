//! How far the database file was known to be durable, kept beside it.
//!
//! sled takes damage for the torn end of its log: it opens, without a word, with all that it wrote before the damage
//! and nothing after. So every durable write has a number, inside the database and, once it is synced, here. A
//! database that ends before the number here has lost what was acknowledged.
//!
//! The file is not synced: its number is never ahead of the database's, and a power cut may only set it back.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Mutex, PoisonError},
};

use super::KvError;

/// Number and CRC-32, both little-endian.
pub(super) const SLOT_BYTES: usize = 8 + 4;
/// Even and odd numbers alternate, so that one torn write leaves the number before.
const SLOTS: usize = 2;

pub(super) struct Witness {
    file: File,
    /// The highest number written.
    highest: Mutex<u64>,
}

impl Witness {
    /// # Errors
    /// The disk fails, or no number in the file can be believed.
    #[allow(clippy::disallowed_methods, reason = "part of the production side of the `Kv` seam")]
    pub(super) fn open(path: &Path) -> Result<Self, KvError> {
        let io = |source| KvError::Io { operation: "open the file of durable writes", source };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let mut slots = [[0; SLOT_BYTES]; SLOTS];
        for (at, slot) in slots.iter_mut().enumerate() {
            let mut read = 0;
            while read < SLOT_BYTES {
                match file.read_at(&mut slot[read..], offset(at) + read as u64).map_err(io)? {
                    0 => break,
                    bytes => read += bytes,
                }
            }
        }
        // Zeros are a slot that was not written yet.
        let is_new = slots.contains(&[0; SLOT_BYTES]);
        match slots.iter().filter_map(number).max() {
            Some(highest) => Ok(Self { file, highest: Mutex::new(highest) }),
            None if is_new => Ok(Self { file, highest: Mutex::new(0) }),
            None => Err(KvError::Damaged {
                reason: "the number of its last durable write is unreadable".to_owned(),
            }),
        }
    }

    pub(super) fn highest(&self) -> u64 {
        *self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that write `number`, and every write before it, is durable.
    pub(super) fn note(&self, number: u64) -> io::Result<()> {
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        if number > *highest {
            self.file.write_all_at(&slot(number), offset((number % SLOTS as u64) as usize))?;
            *highest = number;
        }
        Ok(())
    }
}

fn offset(slot: usize) -> u64 {
    (slot * SLOT_BYTES) as u64
}

pub(super) fn slot(number: u64) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    let (bytes, crc) = slot.split_at_mut(8);
    bytes.copy_from_slice(&number.to_le_bytes());
    crc.copy_from_slice(&crc32fast::hash(bytes).to_le_bytes());
    slot
}

/// What [`slot`] wrote, unless it has changed since.
pub(super) fn number(slot: &[u8; SLOT_BYTES]) -> Option<u64> {
    let (bytes, crc) = slot.split_first_chunk::<8>()?;
    (crc32fast::hash(bytes).to_le_bytes() == crc).then(|| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "these tests damage a real file")]

    use super::*;

    #[test]
    fn the_highest_number_is_kept_and_a_torn_write_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("durable");
        let witness = Witness::open(&path).unwrap();
        assert_eq!(witness.highest(), 0);
        for number in [1, 2, 5, 4, 6] {
            witness.note(number).unwrap();
        }
        assert_eq!(Witness::open(&path).unwrap().highest(), 6);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Witness::open(&path).unwrap().highest(), 5);
        bytes[SLOT_BYTES + 3] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(Witness::open(&path), Err(KvError::Damaged { .. })));
    }
}
