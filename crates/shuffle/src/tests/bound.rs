//! A reader that pauses makes senders wait, and keeps nobody else from reading.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::{physical_expr::EquivalenceProperties, physical_plan::Partitioning};
use futures::{StreamExt, TryStreamExt};
use polybolos_env::grpc::STREAM_WINDOW_BYTES;
use polybolos_model::{Exchange, ExecutorId, ReadMode, StageId};
use polybolos_planner::StageInputExec;

use crate::{
    Compression, FetchLimits, MapOutput, ShuffleStore, StageInputs, bind_inputs, encode_ticket,
    sources::MAX_WAITING_BATCHES,
    testing::{JOB, PLENTY, Server, TestNet, context, key, memory, pool_over, store, task, write},
    wire::TARGET_MESSAGE_BYTES,
};

const MIB: usize = 1 << 20;

/// 64 MiB as one output partition.
async fn large(store: &ShuffleStore, partition: u32) {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..MIB as i64 / 8));
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let plan = memory(&batch.schema(), vec![batch; 64]);
    write(store, key(partition, u64::from(partition)), &task(plan, Exchange::Single, vec![], 1), MIB)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_reader_bounds_what_is_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), PLENTY, Compression::None).await;
    large(&store, 0).await;
    let server = Server::start(Arc::clone(&store)).await;
    let net = Arc::new(TestNet::default());
    let pool = pool_over(Arc::clone(&net), FetchLimits::default());
    let map = MapOutput {
        map_partition: 0,
        executor: ExecutorId::new("other").unwrap(),
        address: server.address.to_string(),
        attempt: key(0, 0).attempt,
        outputs: vec![],
    };
    let schema = Arc::clone(store.read(key(0, 0), 0).unwrap().schema());
    let partitioning = Partitioning::UnknownPartitioning(1);
    let input = StageInputExec::new(
        StageId(1),
        ReadMode::Partition,
        partitioning,
        EquivalenceProperties::new(schema),
    );
    let inputs = Arc::new(StageInputs { job: JOB, stages: [(StageId(1), vec![map])].into() });
    let me = ExecutorId::new("me").unwrap();
    let plan = bind_inputs(Arc::new(input), inputs, store, pool, &me).unwrap();
    let mut rows = plan.execute(0, context(8192)).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(net.received.load(Ordering::Relaxed), 0, "nothing is fetched before the first poll");
    let first = rows.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let paused = net.received.load(Ordering::Relaxed) as usize;
    let bound = STREAM_WINDOW_BYTES as usize + (MAX_WAITING_BATCHES + 4) * TARGET_MESSAGE_BYTES;
    assert!(paused > MIB && paused < bound, "{paused} bytes came, at most {bound} may");
    let rest: Vec<RecordBatch> = rows.try_collect().await.unwrap();
    let total = first.num_rows() + rest.iter().map(RecordBatch::num_rows).sum::<usize>();
    assert_eq!(total, 64 * MIB / 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_paused_readers_do_not_starve_another() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), PLENTY, Compression::None).await;
    large(&store, 0).await;
    let server = Server::start(Arc::clone(&store)).await;
    let net = Arc::new(TestNet::default());
    let pool = pool_over(Arc::clone(&net), FetchLimits::default());
    let fetch = || Box::pin(pool.fetch(&server.address.to_string(), encode_ticket(key(0, 0), 0)));
    let mut paused = Vec::new();
    for _ in 0..20 {
        let mut stream = fetch();
        assert!(stream.next().await.unwrap().is_ok());
        paused.push(stream);
    }
    let all = tokio::time::timeout(Duration::from_secs(20), fetch().try_collect::<Vec<_>>()).await;
    let rows: usize = all.expect("it is starved").unwrap().iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 64 * MIB / 8);
    assert_eq!(net.connects.load(Ordering::Relaxed), 6, "four streams share a connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_a_reader_stops_its_fetches() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), PLENTY, Compression::None).await;
    large(&store, 0).await;
    let server = Server::start(Arc::clone(&store)).await;
    let net = Arc::new(TestNet::default());
    let pool = pool_over(Arc::clone(&net), FetchLimits::default());
    let mut stream = Box::pin(pool.fetch(&server.address.to_string(), encode_ticket(key(0, 0), 0)));
    assert!(stream.next().await.unwrap().is_ok());
    drop(stream);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let then = net.received.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(net.received.load(Ordering::Relaxed), then);
    // The connection serves on.
    let again = pool.fetch(&server.address.to_string(), encode_ticket(key(0, 0), 0));
    let rows: usize = again.try_collect::<Vec<_>>().await.unwrap().iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 64 * MIB / 8);
    assert_eq!(net.connects.load(Ordering::Relaxed), 1);
}
