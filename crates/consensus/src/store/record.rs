//! The envelope of every record, and values that take more than one.

use crate::{
    kv::{Batch, Kv, MAX_VALUE_BYTES},
    store::StoreError,
};

/// CRC-32 (little-endian) and version.
const ENVELOPE_BYTES: usize = 4 + 1;
/// The number of chunks (little-endian), in each of them.
const COUNT_BYTES: usize = 4;
const PART_BYTES: usize = MAX_VALUE_BYTES - ENVELOPE_BYTES - COUNT_BYTES;

fn checksum(key: &[u8], rest: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    // The key's length keeps one key and body from being read as another split of the same bytes.
    hasher.update(&[u8::try_from(key.len()).unwrap_or(u8::MAX)]);
    hasher.update(key);
    hasher.update(rest);
    hasher.finalize().to_le_bytes()
}

pub(super) fn seal(key: &[u8], version: u8, body: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(ENVELOPE_BYTES + body.len());
    sealed.extend_from_slice(&[0; 4]);
    sealed.push(version);
    sealed.extend_from_slice(body);
    let crc = checksum(key, &sealed[4..]);
    sealed[..4].copy_from_slice(&crc);
    sealed
}

/// Version and body.
pub(super) fn unseal<'a>(
    key: &[u8],
    sealed: &'a [u8],
    what: impl Fn() -> String,
) -> Result<(u8, &'a [u8]), StoreError> {
    match sealed.split_at_checked(4) {
        Some((crc, rest)) if checksum(key, rest) == crc => match rest.split_first() {
            Some((version, body)) => Ok((*version, body)),
            None => Err(StoreError::Malformed { what: what(), reason: "it is empty".to_owned() }),
        },
        _ => Err(StoreError::Checksum { what: what() }),
    }
}

pub(super) fn check_version(found: u8, known: u8, what: impl Fn() -> String) -> Result<(), StoreError> {
    if found == known {
        Ok(())
    } else {
        Err(StoreError::Version { what: what(), found: found.into(), known: known.into() })
    }
}

pub(super) fn to_body<T: serde::Serialize>(
    value: &T,
    what: impl Fn() -> String,
) -> Result<Vec<u8>, StoreError> {
    postcard::to_stdvec(value)
        .map_err(|error| StoreError::Malformed { what: what(), reason: error.to_string() })
}

pub(super) fn from_body<T: serde::de::DeserializeOwned>(
    body: &[u8],
    what: impl Fn() -> String,
) -> Result<T, StoreError> {
    let malformed = |reason| StoreError::Malformed { what: what(), reason };
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(malformed(format!("{} bytes are left over", rest.len()))),
        Err(error) => Err(malformed(error.to_string())),
    }
}

fn chunk_key(prefix: &[u8], chunk: u32) -> Vec<u8> {
    [prefix, &chunk.to_be_bytes()].concat()
}

/// Puts `body` as chunks under `prefix`, each sealed.
pub(super) fn put_chunks(batch: &mut Batch, prefix: &[u8], version: u8, body: &[u8]) {
    chunks(prefix, version, body).for_each(|(key, value)| batch.put(key, value));
}

/// `body` as chunks under `prefix`, each sealed.
pub(super) fn chunks(
    prefix: &[u8],
    version: u8,
    body: &[u8],
) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + Send {
    let count = body.len().div_ceil(PART_BYTES).max(1);
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    (0..count).map(move |chunk| {
        let start = chunk as usize * PART_BYTES;
        let part = &body[start..body.len().min(start + PART_BYTES)];
        let key = chunk_key(prefix, chunk);
        let value = seal(&key, version, &[&count.to_le_bytes(), part].concat());
        (key, value)
    })
}

/// What [`put_chunks`] put under `prefix`, and its version; `None` if there is nothing.
pub(super) fn get_chunks(
    kv: &dyn Kv,
    prefix: &[u8],
    what: impl Fn() -> String,
) -> Result<Option<(u8, Vec<u8>)>, StoreError> {
    let mut gathered = Chunks::default();
    for pair in kv.range(&chunk_key(prefix, 0), &chunk_key(prefix, u32::MAX)) {
        let (key, value) = pair?;
        gathered.add(prefix, &key, &value, &what)?;
        if gathered.is_complete() {
            break;
        }
    }
    gathered.finish(&what)
}

/// Chunks of one value, gathered in key order.
#[derive(Default)]
pub(super) struct Chunks {
    version: u8,
    count: u32,
    seen: u32,
    body: Vec<u8>,
}

impl Chunks {
    pub(super) fn is_complete(&self) -> bool {
        self.seen > 0 && self.seen == self.count
    }

    pub(super) fn add(
        &mut self,
        prefix: &[u8],
        key: &[u8],
        value: &[u8],
        what: &impl Fn() -> String,
    ) -> Result<(), StoreError> {
        let expected = chunk_key(prefix, self.seen);
        if key != expected {
            let reason = format!("chunk {} of {}", self.seen, self.count);
            return Err(StoreError::Missing { what: what(), reason });
        }
        let (version, body) = unseal(key, value, || format!("{}, chunk {}", what(), self.seen))?;
        let Some((count, part)) = body.split_first_chunk::<COUNT_BYTES>() else {
            return Err(StoreError::Malformed { what: what(), reason: "a chunk is too short".to_owned() });
        };
        let count = u32::from_le_bytes(*count);
        if self.seen > 0 && (count, version) != (self.count, self.version) {
            return Err(StoreError::Malformed { what: what(), reason: "its chunks disagree".to_owned() });
        }
        (self.count, self.version) = (count, version);
        self.seen += 1;
        self.body.extend_from_slice(part);
        Ok(())
    }

    pub(super) fn finish(self, what: &impl Fn() -> String) -> Result<Option<(u8, Vec<u8>)>, StoreError> {
        if self.seen == 0 {
            return Ok(None);
        }
        if !self.is_complete() {
            let reason = format!("only {} of {} chunks are there", self.seen, self.count);
            return Err(StoreError::Missing { what: what(), reason });
        }
        Ok(Some((self.version, self.body)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kv::{Durability, memory::MemoryKv};

    fn name() -> String {
        "it".to_owned()
    }

    proptest! {
        #[test]
        fn a_sealed_record_opens_unless_a_bit_flips(body: Vec<u8>, version: u8, at: prop::sample::Index, bit in 0..8) {
            let mut sealed = seal(b"key", version, &body);
            prop_assert_eq!(unseal(b"key", &sealed, name).unwrap(), (version, body.as_slice()));
            prop_assert!(unseal(b"kez", &sealed, name).is_err());
            let at = at.index(sealed.len());
            sealed[at] ^= 1u8 << bit;
            prop_assert!(unseal(b"key", &sealed, name).is_err());
        }

        #[test]
        fn a_chunked_value_comes_back(size in 0..4 * PART_BYTES, missing: prop::sample::Index) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let kv = MemoryKv::default();
            let body: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let mut batch = Batch::default();
            put_chunks(&mut batch, b"p", 7, &body);
            runtime.block_on(kv.write(batch, Durability::Flushed)).unwrap();
            prop_assert_eq!(get_chunks(&kv, b"p", name).unwrap(), Some((7, body)));
            prop_assert_eq!(get_chunks(&kv, b"q", name).unwrap(), None);
            let keys: Vec<_> = kv.lock().keys().cloned().collect();
            kv.lock().remove(&keys[missing.index(keys.len())]);
            prop_assert!(keys.len() == 1 || get_chunks(&kv, b"p", name).is_err());
        }
    }
}
