//! Outputs that are read while they are written.

use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use bytes::Bytes;
use datafusion::{
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
};
use futures::{Stream, StreamExt, TryStreamExt};
use polybolos_model::{Exchange, PartitionStats};
use polybolos_planner::TaskPlan;
use polybolos_proto::v1::ShuffleTicket;
use prost::Message;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::durable::{numbers, values};
use crate::{
    Compression, FetchError, ShuffleError, ShuffleStore, WriteError, encode_ticket,
    testing::{PLENTY, Server, context, key, pool, read, store, task},
    write_output,
};

/// Rows of a batch.
const ROWS: i64 = 1_000;
const SOON: std::time::Duration = std::time::Duration::from_millis(300);

/// Gives the batches that it is sent, once.
#[derive(Debug)]
struct Fed(Mutex<Option<mpsc::UnboundedReceiver<RecordBatch>>>, arrow::datatypes::SchemaRef);

impl PartitionStream for Fed {
    fn schema(&self) -> &arrow::datatypes::SchemaRef {
        &self.1
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let fed = self.0.lock().unwrap().take().unwrap();
        let batches = futures::stream::unfold(fed, |mut fed| async move {
            let batch = fed.recv().await?;
            Some((Ok(batch), fed))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.1), batches))
    }
}

/// A task that is fed batch by batch until its feed is dropped.
fn fed(exchange: Exchange) -> (TaskPlan, mpsc::UnboundedSender<RecordBatch>) {
    let (feed, batches) = mpsc::unbounded_channel();
    let schema = numbers(1).schema();
    let stream: Arc<dyn PartitionStream> = Arc::new(Fed(Mutex::new(Some(batches)), Arc::clone(&schema)));
    let plan = StreamingTableExec::try_new(schema, vec![stream], None, Vec::new(), false, None).unwrap();
    (task(Arc::new(plan), exchange, vec![], 1), feed)
}

fn start(store: &Arc<ShuffleStore>, task: TaskPlan) -> JoinHandle<Result<Vec<PartitionStats>, WriteError>> {
    let store = Arc::clone(store);
    tokio::spawn(async move {
        write_output(&task, Arc::clone(&task.plan), context(ROWS as usize), &store, key(0, 1)).await
    })
}

/// The numbers of the batch of that number.
fn batch(number: i64) -> RecordBatch {
    numbers((number + 1) * ROWS).slice((number * ROWS) as usize, ROWS as usize)
}

fn ticket() -> Bytes {
    let ticket = ShuffleTicket::decode(encode_ticket(key(0, 1), 0)).unwrap();
    ShuffleTicket { follow: true, ..ticket }.encode_to_vec().into()
}

type Followed = std::pin::Pin<Box<dyn Stream<Item = Result<RecordBatch, FetchError>> + Send>>;

fn follow(server: &Server) -> Followed {
    pool().fetch(&server.address.to_string(), ticket()).boxed()
}

async fn until_written(store: &ShuffleStore) {
    while store.bytes() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn next(followed: &mut Followed) -> Vec<i64> {
    values(&[followed.next().await.unwrap().unwrap()])
}

#[tokio::test]
async fn batches_come_as_they_are_written_and_the_rest_from_the_whole_output() {
    for budget in [PLENTY, 3 * 8 * ROWS as u64 + 100, 0] {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), budget, Compression::None).await;
        let server = Server::start(Arc::clone(&store)).await;
        let (task, feed) = fed(Exchange::Result);
        let writing = start(&store, task);
        feed.send(batch(0)).unwrap();
        until_written(&store).await;
        let mut early = follow(&server);
        if budget > 0 {
            assert_eq!(next(&mut early).await, values(&[batch(0)]), "{budget}");
        }
        if budget == PLENTY {
            assert!(timeout(SOON, early.next()).await.is_err(), "there is no more yet");
            let mut late = follow(&server);
            feed.send(batch(1)).unwrap();
            for followed in [&mut early, &mut late] {
                let first = next(followed).await;
                assert!(first == values(&[batch(0)]) || first == values(&[batch(1)]));
            }
        } else {
            feed.send(batch(1)).unwrap();
        }
        // Beyond the second budget all is moved to a file while it is followed.
        for number in 2..100 {
            feed.send(batch(number)).unwrap();
        }
        drop(feed);
        let rest: Vec<RecordBatch> = early.try_collect().await.unwrap();
        let rows: u64 = writing.await.unwrap().unwrap().iter().map(|stats| stats.rows).sum();
        assert_eq!(rows, 100 * ROWS as u64);
        let all = values(&read(&store, key(0, 1), 0).await.unwrap());
        assert_eq!(all, (0..100 * ROWS).collect::<Vec<_>>());
        let given = values(&rest);
        assert_eq!(given[..], all[all.len() - given.len()..], "{budget}: in order, none twice");
        let missing = match budget {
            PLENTY => 2,
            0 => 0,
            _ => 1,
        };
        assert_eq!(all.len() - given.len(), missing * ROWS as usize, "{budget}: none is missing");
        // Once it is whole, the ticket is as good as any.
        let again: Vec<RecordBatch> = follow(&server).try_collect().await.unwrap();
        assert_eq!(values(&again), all);
    }
}

#[tokio::test]
async fn a_file_is_read_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 0, Compression::Lz4).await;
    let (task, feed) = fed(Exchange::Result);
    let writing = start(&store, task);
    // More than what is held back before the disk gets it.
    for number in 0..200 {
        feed.send(batch(number)).unwrap();
    }
    until_written(&store).await;
    let mut follower = store.follow(key(0, 1)).unwrap();
    assert_eq!(values(&[follower.next().await.unwrap().unwrap()]), values(&[batch(0)]));
    assert!(!writing.is_finished());
    drop(feed);
    let mut rest = Vec::new();
    while let Some(batch) = follower.next().await.unwrap() {
        rest.push(batch);
    }
    assert_eq!(values(&rest), (ROWS..200 * ROWS).collect::<Vec<_>>());
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_given_up_ends_in_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), PLENTY, Compression::None).await;
    let server = Server::start(Arc::clone(&store)).await;
    let (task, feed) = fed(Exchange::Result);
    let writing = start(&store, task);
    feed.send(batch(0)).unwrap();
    until_written(&store).await;
    let mut followed = follow(&server);
    next(&mut followed).await;
    writing.abort();
    let error = followed.next().await.unwrap().unwrap_err();
    assert!(
        matches!(&error, FetchError::Status { status, .. } if status.code() == tonic::Code::NotFound),
        "{error}"
    );
    assert_eq!(store.bytes(), 0, "nobody who follows keeps its rows");
    let error = follow(&server).next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("holds no output"), "{error}");
}

#[tokio::test]
async fn only_results_are_read_before_they_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), PLENTY, Compression::None).await;
    let (task, feed) = fed(Exchange::Single);
    let writing = start(&store, task);
    feed.send(batch(0)).unwrap();
    until_written(&store).await;
    assert!(matches!(store.follow(key(0, 1)).err(), Some(ShuffleError::NotFound { .. })));
    drop(feed);
    writing.await.unwrap().unwrap();
}
