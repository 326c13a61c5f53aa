//! openraft's storage test suite, over every store.

use std::{path::Path, sync::Arc};

use openraft::testing::{StoreBuilder, Suite};
use polybolos_state::ENTRY_VERSION;
use tempfile::TempDir;

use crate::{
    kv::{Kv, crash_disk::simulated, journal::JournalKv, memory::MemoryKv, patient::PatientKv, sled::SledKv},
    log_store::LogStore,
    machine::Machine,
    raft::{StorageError, TypeConfig},
};

async fn stores(kv: Arc<dyn Kv>) -> (LogStore, Machine) {
    let kv: Arc<dyn Kv> = Arc::new(PatientKv::with_reserve(kv, 0));
    let log = LogStore::open(Arc::clone(&kv), ENTRY_VERSION).unwrap();
    (log, Machine::open(kv, &super::env(), ENTRY_VERSION).await.unwrap())
}

struct InMemory;

impl StoreBuilder<TypeConfig, LogStore, Machine> for InMemory {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError> {
        let (log, machine) = stores(Arc::new(MemoryKv::default())).await;
        Ok(((), log, machine))
    }
}

struct Sled;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Sled {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError> {
        let folder = tempfile::tempdir().unwrap();
        let kv = SledKv::open(folder.path()).await.unwrap();
        let (log, machine) = stores(Arc::new(kv)).await;
        Ok((folder, log, machine))
    }
}

struct Journal;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Journal {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError> {
        let folder = tempfile::tempdir().unwrap();
        let kv = JournalKv::open(&super::env(), folder.path()).await.unwrap();
        let (log, machine) = stores(Arc::new(kv)).await;
        Ok((folder, log, machine))
    }
}

struct SimulatedJournal;

impl StoreBuilder<TypeConfig, LogStore, Machine> for SimulatedJournal {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError> {
        let (_, env) = simulated(1);
        let kv = JournalKv::open(&env, Path::new("/data/log")).await.unwrap();
        let (log, machine) = stores(Arc::new(kv)).await;
        Ok(((), log, machine))
    }
}

#[test]
fn openrafts_suite_passes_in_memory() {
    Suite::test_all(InMemory).unwrap();
}

#[test]
fn openrafts_suite_passes_on_sled() {
    Suite::test_all(Sled).unwrap();
}

#[test]
fn openrafts_suite_passes_on_a_journal() {
    Suite::test_all(Journal).unwrap();
}

#[test]
fn openrafts_suite_passes_on_a_journal_of_a_simulated_disk() {
    Suite::test_all(SimulatedJournal).unwrap();
}
