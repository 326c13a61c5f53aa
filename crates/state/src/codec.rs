//! How entries and snapshots are stored, and the hash by which replicas compare themselves.
//!
//! ```text
//!   entry     format · Entry (its version first)
//!   snapshot  format · CRC-32 of the rest · ClusterState (its version first) · from format 2 on: Extension
//!             · from format 3 on: ExtensionV3 · from format 4 on: ExtensionV4
//! ```
//!
//! The bodies are postcard, which numbers enum variants by position: a test pins those numbers. Formats and versions
//! are read before what they describe, so that what a newer program wrote is told from damage.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    ClusterState, ENTRY_VERSION, Entry,
    extension::{Extension, ExtensionV3, ExtensionV4},
};

/// First byte of an encoded entry.
pub const ENTRY_FORMAT: u8 = 1;
/// First byte of an encoded snapshot: the newest that this program reads. It is written once the version in use asks
/// for it, and format 1 before.
pub const SNAPSHOT_FORMAT: u8 = 4;

const CRC_BYTES: usize = 4;

/// Stored bytes are not what this version wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("{what} is cut short: {bytes} bytes")]
    Short { what: &'static str, bytes: usize },
    #[error("{what} has format {found}, and this program knows formats up to {known}: upgrade it")]
    Format { what: &'static str, found: u8, known: u8 },
    #[error("{what} needs version {found}, and this program knows versions up to {known}: upgrade it")]
    Version { what: &'static str, found: u16, known: u16 },
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
        append(ENTRY, self, vec![ENTRY_FORMAT])
    }

    /// An entry that this program can apply.
    ///
    /// # Errors
    /// [`CodecError`] for anything that [`Entry::encode`] did not give.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        Self::decode_up_to(bytes, ENTRY_VERSION)
    }

    /// An entry that a program can apply which knows versions up to `known`.
    ///
    /// # Errors
    /// [`CodecError::Format`] or [`CodecError::Version`] for one that a newer program wrote, other [`CodecError`]s for
    /// anything that [`Entry::encode`] did not give.
    pub fn decode_up_to(bytes: &[u8], known: u16) -> Result<Self, CodecError> {
        let (_, body) = split_format(ENTRY, bytes, ENTRY_FORMAT)?;
        check_version(ENTRY, body, known)?;
        whole(ENTRY, take(ENTRY, body)?)
    }
}

impl ClusterState {
    /// The whole state, for a snapshot that every replica can read which knows the version in use.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] when memory runs out; the types themselves always encode.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        if polybolos_model::mutant!("snapshot-without-catalogue") && !self.catalogue.relations.is_empty() {
            return Self { catalogue: crate::Catalogue::default(), ..self.clone() }.encode();
        }
        if polybolos_model::mutant!("snapshot-without-keys") && !self.jobs.keys.is_empty() {
            let mut forgetful = self.clone();
            forgetful.jobs.keys.clear();
            return forgetful.encode();
        }
        let format = format_of(self.version);
        let mut bytes = append(SNAPSHOT, self, vec![format, 0, 0, 0, 0])?;
        if format >= 2 {
            bytes = append(SNAPSHOT, &self.extension, bytes)?;
        }
        if format >= 3 {
            bytes = append(SNAPSHOT, &self.extension.v3, bytes)?;
        }
        if format >= 4 {
            bytes = append(SNAPSHOT, &self.extension.v4, bytes)?;
        }
        let (head, body) = bytes.split_at_mut(1 + CRC_BYTES);
        head[1..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        Ok(bytes)
    }

    /// A state that this program can go on with.
    ///
    /// # Errors
    /// [`CodecError`] for anything that [`ClusterState::encode`] did not give, damage included.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        Self::decode_up_to(bytes, ENTRY_VERSION)
    }

    /// A state that a program can go on with which knows versions up to `known`.
    ///
    /// # Errors
    /// [`CodecError::Format`] or [`CodecError::Version`] for one that a newer program wrote, other [`CodecError`]s for
    /// anything that [`ClusterState::encode`] did not give, damage included.
    pub fn decode_up_to(bytes: &[u8], known: u16) -> Result<Self, CodecError> {
        let (format, rest) = split_format(SNAPSHOT, bytes, format_of(known))?;
        let short = CodecError::Short { what: SNAPSHOT, bytes: bytes.len() };
        let (crc, body) = rest.split_first_chunk::<CRC_BYTES>().ok_or(short)?;
        let (expected, found) = (u32::from_le_bytes(*crc), crc32fast::hash(body));
        if expected != found {
            return Err(CodecError::Checksum { what: SNAPSHOT, expected, found });
        }
        let version = check_version(SNAPSHOT, body, known)?;
        if format > format_of(version) {
            return Err(CodecError::Malformed {
                what: SNAPSHOT,
                reason: postcard::Error::DeserializeBadEncoding,
            });
        }
        let (mut state, rest): (Self, &[u8]) = take(SNAPSHOT, body)?;
        // A program of version 1 that applied the change to version 2 as its last entry still wrote format 1, and so on.
        let (mut extension, rest): (Extension, &[u8]) = match format {
            1 => (Extension::default(), rest),
            _ => take(SNAPSHOT, rest)?,
        };
        let (v3, rest): (ExtensionV3, &[u8]) = match format {
            1 | 2 => (ExtensionV3::default(), rest),
            _ => take(SNAPSHOT, rest)?,
        };
        let v4 = match format {
            1..=3 => (ExtensionV4::default(), rest),
            _ => take(SNAPSHOT, rest)?,
        };
        (extension.v3, extension.v4) = (v3, whole(SNAPSHOT, v4)?);
        state.extension = extension;
        Ok(state)
    }

    /// Equal on replicas that applied the same entries. Reads the whole state.
    pub fn hash(&self) -> u64 {
        let hasher = Hasher::default();
        let hash = match format_of(self.version) {
            1 => postcard::serialize_with_flavor(self, hasher),
            2 => postcard::serialize_with_flavor(&(self, &self.extension), hasher),
            3 => postcard::serialize_with_flavor(&(self, &self.extension, &self.extension.v3), hasher),
            _ => {
                let Extension { v3, v4, .. } = &self.extension;
                postcard::serialize_with_flavor(&(self, &self.extension, v3, v4), hasher)
            }
        };
        // Our types always encode and the hasher takes everything.
        hash.unwrap_or(0)
    }
}

/// The snapshot format that is written while this version is in use.
fn format_of(version: u16) -> u8 {
    match version {
        0 | 1 => 1,
        2 => 2,
        3 => 3,
        _ => SNAPSHOT_FORMAT,
    }
}

fn append(what: &'static str, value: &impl Serialize, to: Vec<u8>) -> Result<Vec<u8>, CodecError> {
    postcard::to_extend(value, to).map_err(|reason| CodecError::Malformed { what, reason })
}

fn split_format<'a>(what: &'static str, bytes: &'a [u8], known: u8) -> Result<(u8, &'a [u8]), CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Short { what, bytes: 0 }),
        Some((&found, _)) if !(1..=known).contains(&found) => Err(CodecError::Format { what, found, known }),
        Some((&found, rest)) => Ok((found, rest)),
    }
}

/// Both bodies begin with the version that they need.
fn check_version(what: &'static str, body: &[u8], known: u16) -> Result<u16, CodecError> {
    let (found, _): (u16, _) = take(what, body)?;
    if found > known { Err(CodecError::Version { what, found, known }) } else { Ok(found) }
}

fn take<'a, T: DeserializeOwned>(what: &'static str, bytes: &'a [u8]) -> Result<(T, &'a [u8]), CodecError> {
    postcard::take_from_bytes(bytes).map_err(|reason| CodecError::Malformed { what, reason })
}

fn whole<T>(what: &'static str, (value, rest): (T, &[u8])) -> Result<T, CodecError> {
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
