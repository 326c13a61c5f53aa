//! Keys in memory, for tests.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{Batch, Durability, Kv, KvError, MAX_VALUE_BYTES, Pairs};

#[derive(Default)]
pub(crate) struct MemoryKv(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl MemoryKv {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Kv for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.lock().get(key).cloned())
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        if from >= to {
            return Box::new(std::iter::empty());
        }
        let pairs: Vec<_> =
            self.lock().range(from.to_vec()..to.to_vec()).map(|(k, v)| Ok((k.clone(), v.clone()))).collect();
        Box::new(pairs.into_iter())
    }

    async fn write(&self, batch: Batch, _: Durability) -> Result<(), KvError> {
        let mut map = self.lock();
        for (from, to) in &batch.0.removals {
            map.retain(|key, _| key < from || key >= to);
        }
        for (key, value) in &batch.0.puts {
            assert!(value.len() <= MAX_VALUE_BYTES, "a value of {} bytes at {key:?}", value.len());
            map.insert(key.clone(), value.clone());
        }
        Ok(())
    }

    async fn free_bytes(&self) -> Result<u64, KvError> {
        Ok(u64::MAX)
    }
}
