//! The index file of an output: where each partition's chunks are in the data file, and their checksums.
//!
//! Little-endian: magic, number of partitions, then for each partition the number of chunks and the chunks
//! (offset, length, CRC32); last a CRC32 of all before it.

use std::ops::RangeInclusive;

use bytes::{Buf, BufMut, Bytes};

/// Names the format and its version.
const MAGIC: u64 = u64::from_le_bytes(*b"PLYSHUF1");
/// The largest index that is read: the entries of 10,000 partitions of 1,000 chunks each.
pub(crate) const MAX_INDEX_BYTES: u64 = 256 * 1024 * 1024;
/// No data file is larger: what an index says of one stays far from where numbers overflow.
const MAX_DATA_BYTES: u64 = 1 << 60;
/// Bytes of a chunk's entry.
const CHUNK_ENTRY_BYTES: usize = 20;

/// A range of the data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) crc: u32,
}

impl Chunk {
    /// Whether `bytes`, which were read of one of `partitions`, are those that were written.
    ///
    /// # Errors
    /// What they are instead.
    pub(crate) fn check(self, partitions: &RangeInclusive<u32>, bytes: &[u8]) -> Result<(), String> {
        let found = crc32fast::hash(bytes);
        if found == self.crc {
            return Ok(());
        }
        let range = format!("bytes {}..{}", self.offset, self.offset.saturating_add(self.length));
        let (first, last) = (partitions.start(), partitions.end());
        let of =
            if last > first { format!("partitions {first} to {last}") } else { format!("partition {first}") };
        Err(format!("{range} of {of} have checksum {found:08x}, not {:08x}", self.crc))
    }
}

/// Chunks of each output partition, in the order in which they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) partitions: Vec<Vec<Chunk>>,
}

impl Index {
    pub(crate) fn new(partitions: usize) -> Self {
        Self { partitions: vec![Vec::new(); partitions] }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let chunks: usize = self.partitions.iter().map(Vec::len).sum();
        let mut out = Vec::with_capacity(16 + self.partitions.len() * 4 + chunks * CHUNK_ENTRY_BYTES);
        out.put_u64_le(MAGIC);
        out.put_u32_le(self.partitions.len() as u32);
        for chunks in &self.partitions {
            out.put_u32_le(chunks.len() as u32);
            for chunk in chunks {
                out.put_u64_le(chunk.offset);
                out.put_u64_le(chunk.length);
                out.put_u32_le(chunk.crc);
            }
        }
        let crc = crc32fast::hash(&out);
        out.put_u32_le(crc);
        out
    }

    /// # Errors
    /// What is wrong with the bytes.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, String> {
        let body_length = bytes.len().checked_sub(4).ok_or("the index is cut short")?;
        let mut body = bytes.slice(..body_length);
        let expected = bytes.slice(body_length..).try_get_u32_le().map_err(|e| e.to_string())?;
        let found = crc32fast::hash(&body);
        if found != expected {
            return Err(format!("the index has checksum {found:08x} and says {expected:08x}"));
        }
        Self::decode_body(&mut body).map_err(|error| format!("the index is malformed: {error}"))
    }

    fn decode_body(body: &mut Bytes) -> Result<Self, String> {
        let short = |error: bytes::TryGetError| error.to_string();
        let magic = body.try_get_u64_le().map_err(short)?;
        if magic != MAGIC {
            return Err(format!("it starts with {magic:016x}"));
        }
        let count = body.try_get_u32_le().map_err(short)?;
        let mut partitions = Vec::new();
        for _ in 0..count {
            let length = body.try_get_u32_le().map_err(short)?;
            let mut chunks = Vec::new();
            for _ in 0..length {
                let chunk = Chunk {
                    offset: body.try_get_u64_le().map_err(short)?,
                    length: body.try_get_u64_le().map_err(short)?,
                    crc: body.try_get_u32_le().map_err(short)?,
                };
                if chunk.offset.checked_add(chunk.length).is_none_or(|end| end > MAX_DATA_BYTES) {
                    return Err(format!("a chunk at {} is {} bytes long", chunk.offset, chunk.length));
                }
                chunks.push(chunk);
            }
            partitions.push(chunks);
        }
        if body.has_remaining() {
            Err(format!("{} bytes are left over", body.remaining()))
        } else {
            Ok(Self { partitions })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index() -> impl Strategy<Value = Index> {
        let within = 0..=MAX_DATA_BYTES / 2;
        let chunk = (within.clone(), within, any::<u32>()).prop_map(|(offset, length, crc)| Chunk {
            offset,
            length,
            crc,
        });
        let chunks = prop::collection::vec(chunk, 0..5);
        prop::collection::vec(chunks, 0..8).prop_map(|partitions| Index { partitions })
    }

    #[test]
    fn a_chunk_beyond_all_files_is_refused() {
        for (offset, length) in [(u64::MAX, 1), (1, u64::MAX), (MAX_DATA_BYTES, 1)] {
            let index = Index { partitions: vec![vec![Chunk { offset, length, crc: 0 }]] };
            assert!(Index::decode(&Bytes::from(index.encode())).is_err());
        }
    }

    proptest! {
        #[test]
        fn an_index_round_trips_and_no_damage_passes(index in index(), at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let mut bytes = index.encode();
            prop_assert_eq!(Index::decode(&Bytes::from(bytes.clone())), Ok(index));
            let at = at.index(bytes.len());
            prop_assert!(Index::decode(&Bytes::copy_from_slice(&bytes[..at])).is_err());
            bytes[at] ^= 1u8 << bit;
            prop_assert!(Index::decode(&Bytes::from(bytes)).is_err());
        }
    }
}
