//! openraft's storage test suite, over sled and over memory.

use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use crate::{
    kv::{Kv, memory::MemoryKv, sled::SledKv},
    log_store::LogStore,
    machine::Machine,
    raft::{StorageError, TypeConfig},
};

async fn stores(kv: Arc<dyn Kv>) -> (LogStore, Machine) {
    let log = LogStore::open(Arc::clone(&kv)).unwrap();
    (log, Machine::open(kv, "suite", &super::env()).await.unwrap())
}

struct InMemory;

impl StoreBuilder<TypeConfig, LogStore, Machine> for InMemory {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError> {
        let (log, machine) = stores(Arc::new(MemoryKv::default())).await;
        Ok(((), log, machine))
    }
}

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError> {
        let folder = tempfile::tempdir().unwrap();
        let kv = SledKv::open(folder.path()).await.unwrap();
        let (log, machine) = stores(Arc::new(kv)).await;
        Ok((folder, log, machine))
    }
}

#[test]
fn openrafts_suite_passes_in_memory() {
    Suite::test_all(InMemory).unwrap();
}

#[test]
fn openrafts_suite_passes_on_sled() {
    Suite::test_all(OnDisk).unwrap();
}
