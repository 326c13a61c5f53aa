//! Readers in another process on the same machine: files are read without their owner, and nothing is lost when that fails.
#![allow(clippy::disallowed_methods, reason = "the tests look at and change files behind the store's back")]

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::physical_plan::{ExecutionPlan, collect};
use futures::{StreamExt, TryStreamExt};
use polybolos_env::{Disk, DiskFile, DiskLock, Env, OpenFile};
use polybolos_model::ReadMode;

use super::faults::{executor, input, inputs, map_output, numbers, output, quick, values};
use crate::{
    Compression, OutputKey, ShuffleConfig, ShuffleStore, bind_inputs,
    testing::{PLENTY, Server, TestNet, context, env, pool_over},
};

const CHUNKS: i64 = 40;
const ROWS: i64 = CHUNKS * 1000;

async fn open(
    env: &Env,
    dir: &Path,
    memory_budget_bytes: u64,
    compression: Compression,
    host_files: bool,
) -> Arc<ShuffleStore> {
    let config =
        ShuffleConfig { dir: dir.to_owned(), memory_budget_bytes, compression, durable: None, host_files };
    ShuffleStore::open(env, config).await.unwrap()
}

/// An executor that holds an output of [`ROWS`] numbers in [`CHUNKS`] batches.
struct Owner {
    store: Arc<ShuffleStore>,
    server: Server,
    key: OutputKey,
    dir: tempfile::TempDir,
}

impl Owner {
    async fn new(memory_budget_bytes: u64, compression: Compression) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&env(), dir.path(), memory_budget_bytes, compression, true).await;
        let server = Server::start(Arc::clone(&store)).await;
        let batches = (0..CHUNKS).map(|number| numbers(number * 1000, 1000)).collect();
        let key = output(&store, 0, batches).await;
        Self { store, server, key, dir }
    }

    fn data(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "data")).unwrap()
    }
}

/// Another process: a store and connections of its own.
struct Reader {
    store: Arc<ShuffleStore>,
    net: Arc<TestNet>,
    _dir: tempfile::TempDir,
}

impl Reader {
    async fn new(env: &Env, host_files: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(env, dir.path(), PLENTY, Compression::None, host_files).await;
        Self { store, net: Arc::default(), _dir: dir }
    }

    fn plan(&self, owner: &Owner) -> Arc<dyn ExecutionPlan> {
        let map = map_output(&owner.store, owner.key, "you", &owner.server.address.to_string());
        let (store, pool) = (Arc::clone(&self.store), pool_over(Arc::clone(&self.net), quick()));
        let input = input(ReadMode::Partition, 1);
        bind_inputs(input, inputs(vec![map]), store, pool, &executor("me")).unwrap()
    }

    fn received(&self) -> u64 {
        self.net.received.load(Ordering::Relaxed)
    }
}

fn metric(plan: &Arc<dyn ExecutionPlan>, name: &str) -> usize {
    plan.metrics().unwrap().sum_by_name(name).unwrap().as_usize()
}

fn in_order(batches: &[RecordBatch]) -> bool {
    let values: Vec<i64> = batches.iter().flat_map(|batch| values(std::slice::from_ref(batch))).collect();
    values == (0..ROWS).collect::<Vec<_>>()
}

#[tokio::test]
async fn files_are_read_without_their_owner_and_memory_comes_over_the_network() {
    for (budget, compression) in [(0, Compression::None), (0, Compression::Lz4), (PLENTY, Compression::None)]
    {
        let owner = Owner::new(budget, compression).await;
        let reader = Reader::new(&env(), true).await;
        let plan = reader.plan(&owner);
        assert!(in_order(&collect(Arc::clone(&plan), context(1000)).await.unwrap()));
        let bytes = ROWS as usize * 8;
        assert_eq!(metric(&plan, "fetched_bytes"), bytes);
        assert_eq!(metric(&plan, "host_file_failures"), 0);
        if budget == 0 {
            assert_eq!(metric(&plan, "host_file_bytes"), bytes);
            assert!(reader.received() < 10_000, "{} bytes came over the network", reader.received());
        } else {
            assert_eq!(metric(&plan, "host_file_bytes"), 0);
            assert!(reader.received() > bytes as u64);
        }
    }
}

#[tokio::test]
async fn nobody_reads_files_who_is_elsewhere_or_told_not_to() {
    let owner = Owner::new(0, Compression::None).await;
    let elsewhere = Env { host: Some("another machine".into()), ..env() };
    let nowhere = Env { host: None, ..env() };
    for (env, host_files) in [(elsewhere, true), (nowhere, true), (env(), false)] {
        let reader = Reader::new(&env, host_files).await;
        let plan = reader.plan(&owner);
        assert!(in_order(&collect(Arc::clone(&plan), context(1000)).await.unwrap()));
        assert_eq!((metric(&plan, "host_file_bytes"), metric(&plan, "host_file_failures")), (0, 0));
        assert!(reader.received() > ROWS as u64 * 8);
    }
}

#[tokio::test]
async fn a_link_in_place_of_the_file_is_not_followed() {
    let owner = Owner::new(0, Compression::None).await;
    let data = owner.data();
    let elsewhere = owner.dir.path().join("elsewhere");
    std::fs::rename(&data, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &data).unwrap();
    let reader = Reader::new(&env(), true).await;
    let plan = reader.plan(&owner);
    assert!(in_order(&collect(Arc::clone(&plan), context(1000)).await.unwrap()));
    assert_eq!((metric(&plan, "host_file_bytes"), metric(&plan, "host_file_failures")), (0, 1));
}

#[tokio::test]
async fn damage_is_the_owners_to_tell() {
    let owner = Owner::new(0, Compression::None).await;
    let mut bytes = std::fs::read(owner.data()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(owner.data(), bytes).unwrap();
    let reader = Reader::new(&env(), true).await;
    let plan = reader.plan(&owner);
    let error = crate::task_error(collect(Arc::clone(&plan), context(1000)).await.unwrap_err());
    assert!(error.fetch.is_some() && error.message.contains("is damaged"), "{error}");
    assert_eq!(metric(&plan, "host_file_failures"), 1);
}

#[tokio::test]
async fn what_is_deleted_while_it_is_read_is_read_to_its_end() {
    let owner = Owner::new(0, Compression::None).await;
    let reader = Reader::new(&env(), true).await;
    let plan = reader.plan(&owner);
    let mut rows = plan.execute(0, context(1000)).unwrap();
    let first = rows.next().await.unwrap().unwrap();
    let data = owner.data();
    owner.store.delete(owner.key.attempt);
    for _ in 0..200 {
        if !data.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!data.exists());
    let mut batches = vec![first];
    batches.extend(rows.try_collect::<Vec<_>>().await.unwrap());
    assert!(in_order(&batches));
    assert_eq!(metric(&plan, "host_file_failures"), 0);
    // A reader that comes later is told that it is gone.
    let error = crate::task_error(collect(reader.plan(&owner), context(1000)).await.unwrap_err());
    assert!(error.message.contains("holds no output of"), "{error}");
}

#[tokio::test]
async fn a_file_that_fails_half_way_goes_on_over_the_network_behind_what_was_read() {
    let owner = Owner::new(0, Compression::None).await;
    for good in [0, 1, 17, CHUNKS as u64 - 1] {
        let shaky = Env { disk: Arc::new(ShakyDisk { disk: env().disk, good }), ..env() };
        let reader = Reader::new(&shaky, true).await;
        let plan = reader.plan(&owner);
        assert!(in_order(&collect(Arc::clone(&plan), context(1000)).await.unwrap()), "after {good}");
        assert_eq!(metric(&plan, "host_file_bytes") as u64, good * 8_000);
        assert_eq!(metric(&plan, "host_file_failures"), 1);
    }
}

/// Files can be read so many times after they were opened.
struct ShakyDisk {
    disk: Arc<dyn Disk>,
    good: u64,
}

struct ShakyFile {
    file: Box<dyn OpenFile>,
    left: AtomicU64,
}

#[async_trait]
impl OpenFile for ShakyFile {
    async fn read(&mut self, offset: u64, length: usize) -> io::Result<Bytes> {
        let fewer = |left: u64| left.checked_sub(1);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer) {
            Ok(_) => self.file.read(offset, length).await,
            Err(_) => Err(io::Error::other("a bad sector")),
        }
    }
}

#[async_trait]
impl Disk for ShakyDisk {
    async fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        let file = self.disk.open(path).await?;
        Ok(Box::new(ShakyFile { file, left: AtomicU64::new(self.good) }))
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path).await
    }

    async fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(path).await
    }

    async fn read(&self, path: &Path, offset: u64, length: usize) -> io::Result<Bytes> {
        self.disk.read(path, offset, length).await
    }

    async fn length(&self, path: &Path) -> io::Result<u64> {
        self.disk.length(path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path).await
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path).await
    }

    async fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path).await
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(path).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path).await
    }

    async fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path).await
    }

    async fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        self.disk.lock(path).await
    }
}
