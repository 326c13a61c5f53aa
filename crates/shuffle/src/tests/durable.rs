//! Durable copies: the same rows in the same order, damage that is found, and readers that go on there.
#![allow(clippy::disallowed_methods, reason = "the test looks at the folder behind the store's back")]

use std::{
    path::Path as Folder,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use datafusion::{
    physical_expr::EquivalenceProperties,
    physical_plan::{ExecutionPlan, Partitioning},
};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, local::LocalFileSystem, memory::InMemory, path::Path};
use polybolos_model::{Exchange, ExecutorId, ReadMode, StageId, TaskError};
use polybolos_planner::StageInputExec;
use polybolos_proto::v1::ShuffleTicket;
use proptest::prelude::*;
use prost::Message as _;

use super::rows::{batches, lines, schema};
use crate::{
    Compression, DurableShuffle, FetchLimits, FlightPool, MapOutput, OutputKey, ShuffleConfig, ShuffleError,
    ShuffleStore, StageInputs, bind_inputs, encode_ticket, task_error,
    testing::{JOB, PLENTY, Server, TestNet, context, env, key, memory, pool, pool_over, read, task, write},
};

/// Needs a runtime.
fn durable(store: &Arc<dyn ObjectStore>, compression: Compression) -> Arc<DurableShuffle> {
    let (store, prefix) = (Arc::clone(store), Path::from("some/prefix"));
    let durable = DurableShuffle::new(&env(), store, prefix, "memory:///".to_owned(), compression);
    durable.set_cluster("cluster-1");
    durable
}

async fn store(dir: &Folder, memory_budget_bytes: u64, durable: &Arc<DurableShuffle>) -> Arc<ShuffleStore> {
    let (dir, durable) = (dir.to_owned(), Some(Arc::clone(durable)));
    let config =
        ShuffleConfig { dir, memory_budget_bytes, compression: Compression::Lz4, durable, host_files: false };
    ShuffleStore::open(&env(), config).await.unwrap()
}

fn in_memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

pub(super) fn numbers(count: i64) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

pub(super) fn values(batches: &[RecordBatch]) -> Vec<i64> {
    let column = |batch: &RecordBatch| {
        batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
    };
    batches.iter().flat_map(column).collect()
}

/// The numbers up to `count` in batches of 1000, as the output of map task 0.
pub(super) async fn output(store: &ShuffleStore, count: i64) -> OutputKey {
    let (key, batch) = (key(0, 1), numbers(count));
    let task = task(memory(&batch.schema(), vec![batch]), Exchange::Single, vec![], 1);
    write(store, key, &task, 1000).await.unwrap();
    key
}

/// Reads what task 0 wrote, as executor `me` that was told `executor` and `address`.
pub(super) fn reader(
    store: &Arc<ShuffleStore>,
    pool: Arc<FlightPool>,
    executor: &str,
    address: &str,
) -> Arc<dyn ExecutionPlan> {
    let map = MapOutput {
        map_partition: 0,
        executor: ExecutorId::new(executor).unwrap(),
        address: address.to_owned(),
        attempt: key(0, 1).attempt,
        outputs: vec![],
    };
    let partitioning = Partitioning::UnknownPartitioning(1);
    let equivalences = EquivalenceProperties::new(numbers(0).schema());
    let input = StageInputExec::new(StageId(1), ReadMode::Partition, partitioning, equivalences);
    let inputs = Arc::new(StageInputs { job: JOB, stages: [(StageId(1), vec![map])].into() });
    bind_inputs(Arc::new(input), inputs, Arc::clone(store), pool, &ExecutorId::new("me").unwrap()).unwrap()
}

pub(super) async fn rows(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<i64>, TaskError> {
    let batches: Result<Vec<_>, _> = plan.execute(0, context(1000)).unwrap().try_collect().await;
    batches.map(|batches| values(&batches)).map_err(task_error)
}

async fn objects(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    let mut all: Vec<String> =
        store.list(None).map_ok(|object| object.location.to_string()).try_collect().await.unwrap();
    all.sort();
    all
}

/// Waits for what is deleted in the background.
async fn until(store: &Arc<dyn ObjectStore>, count: usize) -> Vec<String> {
    for _ in 0..500 {
        if objects(store).await.len() == count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    objects(store).await
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_copy_gives_the_same_rows_in_the_same_order(
        batches in batches(), budget in prop_oneof![Just(0), Just(PLENTY)], compressed in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let dir = tempfile::tempdir().unwrap();
            let compression = if compressed { Compression::Lz4 } else { Compression::None };
            let durable = durable(&in_memory(), compression);
            let store = store(dir.path(), budget, &durable).await;
            let task = task(memory(&schema(), batches), Exchange::RoundRobin, vec![], 3);
            let key = key(0, 1);
            write(&store, key, &task, 16).await.unwrap();
            store.make_durable(key).await.unwrap();
            for partition in 0..3 {
                let local = read(&store, key, partition).await.unwrap();
                let mut copy = durable.read(key, &(partition..partition + 1)).await.unwrap();
                let mut copied = Vec::new();
                while let Some(batch) = copy.next().await.unwrap() {
                    copied.push(batch);
                }
                assert_eq!(lines(&copied), lines(&local));
                // Any rest of it.
                let rows: usize = local.iter().map(RecordBatch::num_rows).sum();
                let mut rest = durable.read(key, &(partition..partition + 1)).await.unwrap().after(rows as u64 / 2);
                let mut left = 0;
                while let Some(batch) = rest.next().await.unwrap() {
                    left += batch.num_rows();
                }
                assert_eq!(left, rows - rows / 2);
            }
            let beyond = durable.read(key, &(3..4)).await.unwrap_err();
            assert!(matches!(beyond, ShuffleError::NoSuchPartition { .. }), "{beyond}");
        });
    }
}

#[tokio::test]
async fn a_large_output_goes_up_in_parts() {
    let (dir, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder: Arc<dyn ObjectStore> =
        Arc::new(LocalFileSystem::new_with_prefix(shared.path()).unwrap().with_automatic_cleanup(true));
    let durable = durable(&folder, Compression::None);
    let store = store(dir.path(), 0, &durable).await;
    let key = output(&store, 4_000_000).await;
    store.make_durable(key).await.unwrap();
    let found = objects(&folder).await;
    let at = format!("some/prefix/cluster-1/{JOB}/1/0/{}", key.attempt);
    assert_eq!(found, [format!("{at}/data"), format!("{at}/index")]);
    assert!(folder.head(&Path::from(found[0].as_str())).await.unwrap().size > 8 * 1024 * 1024);
    store.forget(key.attempt);
    let gone = reader(&store, pool(), "gone", "");
    assert_eq!(rows(&gone).await.unwrap(), (0..4_000_000).collect::<Vec<_>>());
    store.delete_job(JOB);
    assert!(until(&folder, 0).await.is_empty());
    assert_eq!(std::fs::read_dir(shared.path()).unwrap().count(), 0, "no folder is left behind");
}

#[tokio::test]
async fn readers_go_on_from_the_copy_wherever_they_broke() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shared = in_memory();
    let there = store(far.path(), PLENTY, &durable(&shared, Compression::Lz4)).await;
    let here = store(near.path(), PLENTY, &durable(&shared, Compression::Lz4)).await;
    let expected: Vec<i64> = (0..400_000).collect();
    let key = output(&there, 400_000).await;
    let server = Server::start(Arc::clone(&there)).await;
    let address = server.address.to_string();
    // The connection breaks after some of it came.
    let broken = || {
        let net = Arc::new(TestNet { break_after: 1_000_000, ..TestNet::default() });
        (pool_over(Arc::clone(&net), FetchLimits::default()), net)
    };
    let (pool_, net) = broken();
    let error = rows(&reader(&here, pool_, "there", &address)).await.unwrap_err();
    assert_eq!(error.fetch.unwrap().attempt, key.attempt);
    assert!(net.received.load(Ordering::Relaxed) > 1_000_000);
    there.make_durable(key).await.unwrap();
    let (pool_, _) = broken();
    assert_eq!(rows(&reader(&here, pool_, "there", &address)).await.unwrap(), expected);
    // Nobody is there, or nobody holds it any more.
    let limits = FetchLimits { back_off: Duration::from_millis(1), ..FetchLimits::default() };
    let pool_ = pool_over(Arc::default(), limits);
    assert_eq!(rows(&reader(&here, Arc::clone(&pool_), "there", "127.0.0.1:1")).await.unwrap(), expected);
    there.forget(key.attempt);
    assert_eq!(rows(&reader(&here, pool_, "there", &address)).await.unwrap(), expected);
    // Of an earlier life of this very executor, and one that it forgets while it is read.
    assert_eq!(rows(&reader(&here, pool(), "me", "")).await.unwrap(), expected);
    output(&here, 400_000).await;
    let mut local = reader(&here, pool(), "me", "here").execute(0, context(1000)).unwrap();
    let mut read = values(&[local.next().await.unwrap().unwrap()]);
    here.forget(key.attempt);
    read.extend(values(&local.try_collect::<Vec<_>>().await.unwrap()));
    assert_eq!(read, expected);
}

#[tokio::test]
async fn damage_is_found_and_what_is_not_whole_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let shared = in_memory();
    let store = store(dir.path(), PLENTY, &durable(&shared, Compression::None)).await;
    let key = output(&store, 5_000).await;
    store.make_durable(key).await.unwrap();
    store.forget(key.attempt);
    let found: Vec<Path> = objects(&shared).await.into_iter().map(Path::from).collect();
    let [data, index] = found.as_slice() else { panic!("{found:?}") };
    for (object, at) in [(data, 20_000), (index, 30), (data, 700), (index, 3)] {
        let whole = shared.get(object).await.unwrap().bytes().await.unwrap();
        let mut damaged = whole.to_vec();
        damaged[at] ^= 4;
        shared.put(object, damaged.into()).await.unwrap();
        let error = rows(&reader(&store, pool(), "gone", "")).await.unwrap_err();
        assert!(error.message.contains("is damaged in"), "{error}");
        assert_eq!(error.fetch.unwrap().attempt, key.attempt);
        let cut = whole.slice(..whole.len() - 5);
        shared.put(object, cut.into()).await.unwrap();
        assert!(rows(&reader(&store, pool(), "gone", "")).await.unwrap_err().fetch.is_some());
        shared.put(object, whole.into()).await.unwrap();
    }
    assert_eq!(rows(&reader(&store, pool(), "gone", "")).await.unwrap().len(), 5_000);
    shared.delete(data).await.unwrap();
    let error = rows(&reader(&store, pool(), "gone", "")).await.unwrap_err();
    assert!(error.message.contains("the data is not"), "{error}");
    shared.delete(index).await.unwrap();
    let error = rows(&reader(&store, pool(), "gone", "")).await.unwrap_err();
    assert!(error.message.contains("holds no whole output"), "{error}");
}

#[tokio::test]
async fn an_executor_without_a_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let plain = crate::testing::store(dir.path(), PLENTY, Compression::None).await;
    let error = rows(&reader(&plain, pool(), "gone", "")).await.unwrap_err();
    assert!(error.message.contains("--shuffle-durable") && error.fetch.is_some(), "{error}");
    let error = plain.make_durable(output(&plain, 1).await).await.unwrap_err();
    assert!(matches!(error, ShuffleError::NoDurableStore { .. }), "{error}");
}

#[tokio::test]
async fn clients_get_a_durable_result_from_any_executor() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shared = in_memory();
    let maker = store(far.path(), PLENTY, &durable(&shared, Compression::Lz4)).await;
    let other = store(near.path(), PLENTY, &durable(&shared, Compression::Lz4)).await;
    let key = output(&maker, 3_000).await;
    maker.make_durable(key).await.unwrap();
    let server = Server::start(other).await;
    let address = server.address.to_string();
    let ticket = ShuffleTicket { durable: true, ..ShuffleTicket::decode(encode_ticket(key, 0)).unwrap() };
    let fetched = pool().fetch(&address, ticket.encode_to_vec().into());
    assert_eq!(values(&fetched.try_collect::<Vec<_>>().await.unwrap()), (0..3_000).collect::<Vec<_>>());
    let plain: Result<Vec<_>, _> = pool().fetch(&address, encode_ticket(key, 0)).try_collect().await;
    assert!(plain.unwrap_err().to_string().contains("holds no output"));
}

#[tokio::test]
async fn what_is_not_wanted_is_deleted_there_too() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shared = in_memory();
    let maker = store(far.path(), PLENTY, &durable(&shared, Compression::Lz4)).await;
    let other = store(near.path(), PLENTY, &durable(&shared, Compression::Lz4)).await;
    let key_ = output(&maker, 10).await;
    maker.make_durable(key_).await.unwrap();
    // Another executor knows nothing of the attempt.
    other.delete(key_.attempt);
    maker.delete(key_.attempt);
    assert!(until(&shared, 0).await.is_empty());
    // A job is deleted by any, with those of many other jobs, and those of no others.
    output(&maker, 10).await;
    maker.make_durable(key_).await.unwrap();
    let kept = OutputKey {
        task: polybolos_model::TaskId { job: polybolos_model::JobId(1), ..key_.task },
        ..key(0, 9)
    };
    let plan = memory(&numbers(1).schema(), vec![]);
    write(&maker, kept, &task(plan, Exchange::Single, vec![], 1), 10).await.unwrap();
    maker.make_durable(kept).await.unwrap();
    assert_eq!(objects(&shared).await.len(), 3, "one without rows has no data");
    (100..120).for_each(|job| other.delete_job(polybolos_model::JobId(job)));
    other.delete_job(JOB);
    let left = until(&shared, 1).await;
    assert!(left[0].contains("0000000000000001") && left[0].ends_with("index"), "{left:?}");
    other.delete_job(kept.task.job);
    assert!(until(&shared, 0).await.is_empty());
}

#[tokio::test]
async fn who_moves_to_another_cluster_deletes_nothing_there_and_nothing_here() {
    let dir = tempfile::tempdir().unwrap();
    let shared = in_memory();
    let store = store(dir.path(), PLENTY, &durable(&shared, Compression::Lz4)).await;
    let copies = store.durable().unwrap();
    let key = output(&store, 10).await;
    store.make_durable(key).await.unwrap();
    copies.leave_cluster("restored");
    store.delete_job(JOB);
    copies.set_cluster("restored");
    // Deletions are carried out in their order.
    store.delete_job(polybolos_model::JobId(7));
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(objects(&shared).await.len(), 2);
}

#[tokio::test]
async fn an_output_that_is_deleted_before_its_copy_is_whole_leaves_none() {
    let dir = tempfile::tempdir().unwrap();
    let shared = in_memory();
    // From a file, as what is all in memory is copied without a pause.
    let store = store(dir.path(), 0, &durable(&shared, Compression::Lz4)).await;
    let key = output(&store, 200_000).await;
    let copying = store.make_durable(key);
    tokio::pin!(copying);
    assert!(futures::poll!(&mut copying).is_pending());
    store.delete(key.attempt);
    assert!(copying.await.is_err());
    assert!(until(&shared, 0).await.is_empty());
}
