//! How entries and snapshots are stored, and the hash by which replicas compare themselves.
//!
//! A format byte, then postcard, which numbers enum variants by position: a test pins those numbers.

use serde::de::DeserializeOwned;

use crate::{ClusterState, Entry};

/// First byte of an encoded entry.
pub const ENTRY_FORMAT: u8 = 1;
/// First byte of an encoded snapshot; a CRC-32 of the rest follows, little-endian.
pub const SNAPSHOT_FORMAT: u8 = 1;

const CRC_BYTES: usize = 4;

/// Stored bytes are not what this version wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("{what} is cut short: {bytes} bytes")]
    Short { what: &'static str, bytes: usize },
    #[error("{what} has format {found}, and this version knows format {known}: upgrade it")]
    Format { what: &'static str, found: u8, known: u8 },
    #[error("{what} has checksum {found:08x} instead of {expected:08x}: it is damaged")]
    Checksum { what: &'static str, expected: u32, found: u32 },
    #[error("{what} can't be read: {reason}")]
    Malformed { what: &'static str, reason: postcard::Error },
    #[error("{what} is followed by {bytes} bytes that don't belong to it")]
    Trailing { what: &'static str, bytes: usize },
}

const ENTRY: &str = "a log entry";
const SNAPSHOT: &str = "a snapshot";

impl Entry {
    /// # Errors
    /// [`CodecError::Malformed`] when memory runs out; the types themselves always encode.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        postcard::to_extend(self, vec![ENTRY_FORMAT])
            .map_err(|reason| CodecError::Malformed { what: ENTRY, reason })
    }

    /// # Errors
    /// [`CodecError`] for anything that [`Entry::encode`] did not give.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        decode_body(ENTRY, check_format(ENTRY, bytes, ENTRY_FORMAT)?)
    }
}

impl ClusterState {
    /// The whole state, for a snapshot.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] when memory runs out; the types themselves always encode.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let head = vec![SNAPSHOT_FORMAT, 0, 0, 0, 0];
        let mut bytes = postcard::to_extend(self, head)
            .map_err(|reason| CodecError::Malformed { what: SNAPSHOT, reason })?;
        let (head, body) = bytes.split_at_mut(1 + CRC_BYTES);
        head[1..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        Ok(bytes)
    }

    /// # Errors
    /// [`CodecError`] for anything that [`ClusterState::encode`] did not give, damage included.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let rest = check_format(SNAPSHOT, bytes, SNAPSHOT_FORMAT)?;
        let short = CodecError::Short { what: SNAPSHOT, bytes: bytes.len() };
        let (crc, body) = rest.split_first_chunk::<CRC_BYTES>().ok_or(short)?;
        let (expected, found) = (u32::from_le_bytes(*crc), crc32fast::hash(body));
        if expected != found {
            return Err(CodecError::Checksum { what: SNAPSHOT, expected, found });
        }
        decode_body(SNAPSHOT, body)
    }

    /// Equal on replicas that applied the same entries. Reads the whole state.
    pub fn hash(&self) -> u64 {
        let hasher = postcard::serialize_with_flavor::<Self, Hasher, u64>(self, Hasher::default());
        // Our types always encode and the hasher takes everything.
        hasher.unwrap_or(0)
    }
}

fn check_format<'a>(what: &'static str, bytes: &'a [u8], known: u8) -> Result<&'a [u8], CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Short { what, bytes: 0 }),
        Some((&found, _)) if found != known => Err(CodecError::Format { what, found, known }),
        Some((_, rest)) => Ok(rest),
    }
}

fn decode_body<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, CodecError> {
    let (value, rest) =
        postcard::take_from_bytes(body).map_err(|reason| CodecError::Malformed { what, reason })?;
    match rest.len() {
        0 => Ok(value),
        bytes => Err(CodecError::Trailing { what, bytes }),
    }
}

/// Multiply and rotate a word at a time, then mix: quick, and good enough to tell replicas apart that were given no
/// reason to cheat.
#[derive(Default)]
struct Hasher {
    state: u64,
    word: [u8; 8],
    filled: usize,
    length: u64,
}

/// Odd, with bits spread evenly (the golden ratio in 64 bits), as multiplicative hashing wants.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher {
    fn byte(&mut self, byte: u8) {
        self.word[self.filled] = byte;
        self.filled += 1;
        self.length += 1;
        if self.filled == self.word.len() {
            self.absorb();
        }
    }

    fn absorb(&mut self) {
        let word = u64::from_le_bytes(self.word);
        self.state = (self.state.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER);
        self.word = [0; 8];
        self.filled = 0;
    }
}

impl postcard::ser_flavors::Flavor for Hasher {
    type Output = u64;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.byte(byte);
        Ok(())
    }

    fn finalize(mut self) -> postcard::Result<u64> {
        self.absorb();
        let mut hash = self.state ^ self.length;
        for _ in 0..2 {
            hash = (hash ^ (hash >> 32)).wrapping_mul(MULTIPLIER);
        }
        Ok(hash ^ (hash >> 32))
    }
}
