//! Other executors that refuse, fall silent, break off or are gone.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::{
    physical_expr::EquivalenceProperties,
    physical_plan::{ExecutionPlan, Partitioning, collect},
};
use futures::{StreamExt, TryStreamExt};
use polybolos_model::{ErrorClass, Exchange, ExecutorId, ReadMode, StageId, TaskError};
use polybolos_planner::StageInputExec;

use crate::{
    Compression, FetchError, FetchLimits, MapOutput, OutputKey, ShuffleStore, StageInputs, bind_inputs,
    encode_ticket, task_error,
    testing::{JOB, PLENTY, Server, TestNet, context, key, memory, pool, pool_over, store, task, write},
};

pub(super) fn quick() -> FetchLimits {
    FetchLimits {
        first_message: Duration::from_millis(300),
        next_message: Duration::from_millis(300),
        attempts: 3,
        back_off: Duration::from_millis(10),
    }
}

pub(super) fn numbers(from: i64, count: i64) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + count));
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

pub(super) fn executor(name: &str) -> ExecutorId {
    ExecutorId::new(name).unwrap()
}

/// Stores `batches` as the output of map task `partition`.
pub(super) async fn output(store: &ShuffleStore, partition: u32, batches: Vec<RecordBatch>) -> OutputKey {
    let key = key(partition, u64::from(partition) + 1);
    let task = task(memory(&batches[0].schema(), batches), Exchange::Single, vec![], 1);
    write(store, key, &task, 1000).await.unwrap();
    key
}

pub(super) fn map_output(store: &ShuffleStore, key: OutputKey, name: &str, address: &str) -> MapOutput {
    let outputs = store.read(key, 0).map(|reader| vec![reader.stats()]).unwrap_or_default();
    MapOutput {
        map_partition: key.task.partition,
        executor: executor(name),
        address: address.to_owned(),
        attempt: key.attempt,
        outputs,
    }
}

pub(super) fn inputs(maps: Vec<MapOutput>) -> Arc<StageInputs> {
    Arc::new(StageInputs { job: JOB, stages: [(StageId(1), maps)].into() })
}

pub(super) fn input(read: ReadMode, partitions: usize) -> Arc<dyn ExecutionPlan> {
    let partitioning = Partitioning::UnknownPartitioning(partitions);
    let equivalences = EquivalenceProperties::new(numbers(0, 1).schema());
    Arc::new(StageInputExec::new(StageId(1), read, partitioning, equivalences))
}

pub(super) fn values(batches: &[RecordBatch]) -> Vec<i64> {
    let mut values: Vec<i64> = batches
        .iter()
        .flat_map(|b| b.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec())
        .collect();
    values.sort_unstable();
    values
}

#[tokio::test]
async fn readers_join_local_and_remote_outputs_and_report_metrics() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let here = store(near.path(), PLENTY, Compression::None).await;
    let there = store(far.path(), 0, Compression::Lz4).await;
    let server = Server::start(Arc::clone(&there)).await;
    let address = server.address.to_string();
    let mut maps = Vec::new();
    for partition in 0..8u32 {
        let from = i64::from(partition) * 100;
        let (store, name) = if partition % 2 == 0 { (&here, "me") } else { (&there, "you") };
        let key = output(store, partition, vec![numbers(from, 60), numbers(from + 60, 40)]).await;
        maps.push(map_output(store, key, name, &address));
    }
    // One that is known to be empty is not looked for.
    maps[3].outputs[0].rows = 0;
    let (store, me) = (Arc::clone(&here), executor("me"));
    let plan = bind_inputs(input(ReadMode::Partition, 1), inputs(maps.clone()), store, pool(), &me).unwrap();
    let rows = collect(Arc::clone(&plan), context(1000)).await.unwrap();
    let expected: Vec<i64> = (0..300).chain(400..800).collect();
    assert_eq!(values(&rows), expected);
    let metrics = plan.metrics().unwrap();
    assert_eq!(metrics.output_rows(), Some(700));
    assert_eq!(metrics.sum_by_name("local_bytes").unwrap().as_usize(), 4 * 800);
    assert_eq!(metrics.sum_by_name("fetched_bytes").unwrap().as_usize(), 3 * 800);
    assert!(metrics.sum_by_name("fetch_time").unwrap().as_usize() > 0);

    // With `All`, partition m is upstream task m, in its own order.
    let plan = bind_inputs(input(ReadMode::All, 8), inputs(maps), here, pool(), &me).unwrap();
    for partition in [0, 5, 3] {
        let rows: Vec<RecordBatch> =
            plan.execute(partition, context(1000)).unwrap().try_collect().await.unwrap();
        let from = partition as i64 * 100;
        let expected: Vec<i64> = if partition == 3 { vec![] } else { (from..from + 100).collect() };
        let found: Vec<i64> = rows.iter().flat_map(|batch| values(std::slice::from_ref(batch))).collect();
        assert_eq!(found, expected);
    }
}

/// What a reader of one output at `address` ends with.
async fn failure(maps: Vec<MapOutput>, limits: FetchLimits) -> TaskError {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), PLENTY, Compression::None).await;
    let pool = pool_over(Arc::default(), limits);
    let plan =
        bind_inputs(input(ReadMode::Partition, 1), inputs(maps), store, pool, &executor("me")).unwrap();
    task_error(collect(plan, context(1000)).await.unwrap_err())
}

#[track_caller]
fn assert_lost(error: &TaskError, name: &str, partition: u32) {
    assert_eq!(error.class, ErrorClass::Retryable, "{error}");
    let lost = error.fetch.as_ref().unwrap_or_else(|| panic!("no lost output in: {error}"));
    assert_eq!((lost.executor.as_str(), lost.stage, lost.map_partition), (name, StageId(1), partition));
    assert_eq!(lost.attempt, key(partition, u64::from(partition) + 1).attempt);
}

#[tokio::test]
async fn each_way_to_lose_an_output_names_it() {
    let far = tempfile::tempdir().unwrap();
    let there = store(far.path(), PLENTY, Compression::None).await;
    let key = output(&there, 2, vec![numbers(0, 10)]).await;
    // A closed port.
    let closed = crate::testing::env().net.listen("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = failure(vec![map_output(&there, key, "gone", &closed.to_string())], quick()).await;
    assert_lost(&error, "gone", 2);
    // A host that accepts and says nothing.
    let silent = crate::testing::env().net.listen("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let error = failure(vec![map_output(&there, key, "silent", &address)], quick()).await;
    assert_lost(&error, "silent", 2);
    // An executor that has lost the output, and one that is this executor.
    let server = Server::start(Arc::clone(&there)).await;
    let map = map_output(&there, key, "forgetful", &server.address.to_string());
    there.delete(key.attempt);
    let error = failure(vec![map.clone()], quick()).await;
    assert_lost(&error, "forgetful", 2);
    assert!(error.message.contains("holds no output of"), "{}", error.message);
    let error = failure(vec![MapOutput { executor: executor("me"), ..map }], quick()).await;
    assert_lost(&error, "me", 2);
}

#[tokio::test]
async fn a_reader_of_an_executor_that_hangs_fails_as_soon_as_that_is_lost() {
    let silent = crate::testing::env().net.listen("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let hours = FetchLimits { first_message: Duration::from_secs(36_000), ..quick() };
    let pool = pool_over(Arc::default(), hours);
    let reading = tokio::spawn(pool.fetch(&address, encode_ticket(key(0, 1), 0)).try_collect::<Vec<_>>());
    // Long enough for it to be asked, and to be waited for.
    tokio::time::sleep(Duration::from_millis(100)).await;
    pool.lose("127.0.0.1:1");
    assert!(!reading.is_finished());
    pool.lose(&address);
    let error = reading.await.unwrap().unwrap_err();
    assert!(matches!(&error, FetchError::Lost { address: lost } if *lost == address), "{error}");
    // Another may serve there later.
    let there = tempfile::tempdir().unwrap();
    let store = store(there.path(), PLENTY, Compression::None).await;
    let key = output(&store, 0, vec![numbers(0, 10)]).await;
    let server = Server::start(Arc::clone(&store)).await;
    pool.lose(&server.address.to_string());
    let fetched = pool.fetch(&server.address.to_string(), encode_ticket(key, 0));
    assert_eq!(values(&fetched.try_collect::<Vec<_>>().await.unwrap()), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn rows_that_are_missing_are_noticed() {
    let far = tempfile::tempdir().unwrap();
    let there = store(far.path(), PLENTY, Compression::None).await;
    let server = Server::start(Arc::clone(&there)).await;
    let key = output(&there, 0, vec![numbers(0, 10)]).await;
    let mut map = map_output(&there, key, "you", &server.address.to_string());
    map.outputs[0].rows = 11;
    let error = failure(vec![map], quick()).await;
    assert_lost(&error, "you", 0);
    assert!(error.message.contains("10 rows came"), "{}", error.message);
}

#[tokio::test]
async fn a_first_failure_is_tried_again_and_connections_are_shared() {
    let far = tempfile::tempdir().unwrap();
    let there = store(far.path(), PLENTY, Compression::None).await;
    let server = Server::start(Arc::clone(&there)).await;
    let key = output(&there, 0, vec![numbers(0, 10)]).await;
    let net = Arc::new(TestNet::default());
    net.refuse.store(2, Ordering::Relaxed);
    let pool = pool_over(Arc::clone(&net), quick());
    for _ in 0..5 {
        let fetched = pool.fetch(&server.address.to_string(), encode_ticket(key, 0));
        let rows: Vec<RecordBatch> = fetched.try_collect().await.unwrap();
        assert_eq!(values(&rows), (0..10).collect::<Vec<_>>());
    }
    assert_eq!(net.connects.load(Ordering::Relaxed), 3, "two refused, one for all five fetches");
    net.refuse.store(9, Ordering::Relaxed);
    let elsewhere = pool.fetch("127.0.0.1:1", encode_ticket(key, 0));
    let error = elsewhere.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }), "{error}");
    assert_eq!(net.connects.load(Ordering::Relaxed), 6, "three tries");
}

#[tokio::test]
async fn an_output_deleted_half_way_ends_the_stream_with_its_name() {
    let far = tempfile::tempdir().unwrap();
    let there = store(far.path(), PLENTY, Compression::None).await;
    let server = Server::start(Arc::clone(&there)).await;
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1 << 20); 64]));
    let batch = RecordBatch::try_from_iter([("t", text)]).unwrap();
    let key = output(&there, 0, vec![batch]).await;
    let mut fetched = std::pin::pin!(pool().fetch(&server.address.to_string(), encode_ticket(key, 0)));
    assert!(fetched.next().await.unwrap().is_ok());
    there.delete(key.attempt);
    let mut rows = 0;
    let error = loop {
        match fetched.next().await {
            Some(Ok(batch)) => rows += batch.num_rows(),
            Some(Err(error)) => break error,
            // The pieces of a batch that was cut already still come.
            None => break FetchError::Rows { rows: rows as u64, expected: 64 },
        }
    };
    let cut_already = matches!(error, FetchError::Rows { .. });
    assert!(cut_already || error.to_string().contains("was deleted while partition 0 was read"), "{error}");
}

#[tokio::test]
async fn a_server_that_dies_half_way_is_no_end_of_rows() {
    let far = tempfile::tempdir().unwrap();
    let there = store(far.path(), PLENTY, Compression::None).await;
    let server = Server::start(Arc::clone(&there)).await;
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1 << 20); 64]));
    let batch = RecordBatch::try_from_iter([("t", text)]).unwrap();
    let key = output(&there, 0, vec![batch]).await;
    // Breaks the connection after some megabytes.
    let net = Arc::new(TestNet { break_after: 10 << 20, ..TestNet::default() });
    let fetched = pool_over(net, quick()).fetch(&server.address.to_string(), encode_ticket(key, 0));
    let ends: Vec<Result<RecordBatch, FetchError>> = fetched.collect().await;
    assert!(ends.len() > 1 && ends[0].is_ok(), "{} results", ends.len());
    let error = ends.last().unwrap().as_ref().unwrap_err();
    assert!(matches!(error, FetchError::Status { .. }), "{error}");
    assert_eq!(ends.iter().filter(|end| end.is_err()).count(), 1, "no rows after an error");
}
