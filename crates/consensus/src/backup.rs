//! The file of `cluster snapshot`: the whole state at one entry, by itself.
//!
//! Magic, format byte, CRC-32 (little-endian) of all that follows, the header's length (little-endian, 4 bytes), the
//! header (postcard), the state as a snapshot holds it.

use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"POLYBKUP";
const FORMAT: u8 = 1;

/// What the state in the file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) cluster_id: String,
    /// Of the last entry in it.
    pub(crate) term: u64,
    pub(crate) index: u64,
    /// Version of entries in use.
    pub(crate) version: u16,
}

/// The file is no backup that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    #[error("this is no file of `polybolos cluster snapshot`")]
    Alien,
    #[error(
        "the backup has format {found}, and this version of Polybolos knows only up to {FORMAT} (use a newer one)"
    )]
    Format { found: u8 },
    #[error("the backup is damaged: {reason} (use another copy)")]
    Damaged { reason: String },
}

/// # Errors
/// Memory runs out.
pub(crate) fn encode(header: &Header, state: &[u8]) -> Result<Vec<u8>, postcard::Error> {
    let header = postcard::to_stdvec(header)?;
    let length = u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut hasher = crc32fast::Hasher::new();
    for part in [&length[..], &header, state] {
        hasher.update(part);
    }
    let crc = hasher.finalize().to_le_bytes();
    Ok([&MAGIC[..], &[FORMAT], &crc, &length, &header, state].concat())
}

/// Header and encoded state.
pub(crate) fn decode(file: &[u8]) -> Result<(Header, &[u8]), BackupError> {
    let damaged = |reason: &str| BackupError::Damaged { reason: reason.to_owned() };
    let rest = file.strip_prefix(MAGIC).ok_or(BackupError::Alien)?;
    let (format, rest) = rest.split_first().ok_or_else(|| damaged("it is cut short"))?;
    if *format != FORMAT {
        return Err(BackupError::Format { found: *format });
    }
    let (crc, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it is cut short"))?;
    if crc32fast::hash(rest) != u32::from_le_bytes(*crc) {
        return Err(damaged("its checksum is wrong"));
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it is cut short"))?;
    let length = u32::from_le_bytes(*length) as usize;
    let (header, state) = rest.split_at_checked(length).ok_or_else(|| damaged("it is cut short"))?;
    let header = postcard::from_bytes(header).map_err(|error| damaged(&error.to_string()))?;
    Ok((header, state))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trips_and_every_damage_is_noticed(
            cluster_id: String, term: u64, index: u64, version: u16, state: Vec<u8>,
            at: prop::sample::Index, bit in 0..8,
        ) {
            let header = Header { cluster_id, term, index, version };
            let mut file = encode(&header, &state).unwrap();
            prop_assert_eq!(decode(&file).unwrap(), (header, state.as_slice()));
            prop_assert!(decode(&file[..at.index(file.len())]).is_err());
            let at = at.index(file.len());
            file[at] ^= 1u8 << bit;
            prop_assert!(decode(&file).is_err());
        }
    }
}
