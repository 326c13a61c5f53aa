//! Outputs that another executor takes over: they are the same there, and readers find them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt};
use polybolos_model::{Exchange, PartitionStats};

use super::durable::{numbers, output, reader, rows, values};
use crate::{
    Compression, FetchError, Handover, OutputKey, ShuffleError, ShuffleStore,
    testing::{JOB, PLENTY, Server, context, key, memory, pool, read, store, task, write},
};

/// Numbers in four partitions, and what the log knows of them.
async fn spread(store: &ShuffleStore, count: i64) -> (OutputKey, Vec<PartitionStats>) {
    let (key, batch) = (key(0, 1), numbers(count));
    let task = task(memory(&batch.schema(), vec![batch]), Exchange::RoundRobin, vec![], 4);
    let stats = write(store, key, &task, 1000).await.unwrap();
    (key, stats)
}

fn from(server: &Server, key: OutputKey, outputs: Vec<PartitionStats>) -> Handover {
    Handover { key, address: server.address.to_string(), outputs }
}

#[tokio::test]
async fn all_partitions_come_over_in_their_order_from_and_to_memory_and_files() {
    for (there, here) in [(PLENTY, PLENTY), (0, PLENTY), (PLENTY, 0), (0, 0)] {
        let (dirs, pool) = ([tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()], pool());
        let a = store(dirs[0].path(), there, Compression::Lz4).await;
        let b = store(dirs[1].path(), here, Compression::None).await;
        let (key, stats) = spread(&a, 100_000).await;
        let server = Server::start(Arc::clone(&a)).await;
        b.pull(&pool, &from(&server, key, stats.clone())).await.unwrap();
        for (partition, stats) in (0..4).zip(stats) {
            let (old, new) =
                (read(&a, key, partition).await.unwrap(), read(&b, key, partition).await.unwrap());
            assert_eq!(values(&old), values(&new));
            assert_eq!(new.iter().map(RecordBatch::num_rows).sum::<usize>() as u64, stats.rows);
        }
        assert_eq!(b.disk_bytes() > 0, here == 0);
        b.delete_job(JOB);
        assert_eq!(b.bytes(), 0);
    }
}

#[tokio::test]
async fn nothing_stays_of_what_is_not_whole() {
    let (dirs, pool) = ([tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()], pool());
    let a = store(dirs[0].path(), PLENTY, Compression::None).await;
    let b = store(dirs[1].path(), PLENTY, Compression::None).await;
    let (key, stats) = spread(&a, 10_000).await;
    let server = Server::start(Arc::clone(&a)).await;
    let expected = usize::try_from(stats[0].rows).unwrap();
    let mut more = stats.clone();
    more[3].rows += 1;
    let error = b.pull(&pool, &from(&server, key, more)).await.unwrap_err();
    assert!(matches!(error, FetchError::Rows { rows, expected } if rows + 1 == expected), "{error}");
    assert!(matches!(b.read(key, 0), Err(ShuffleError::NotFound { .. })));
    assert_eq!(b.bytes(), 0);
    let other = OutputKey { attempt: polybolos_model::AttemptId { counter: 77, ..key.attempt }, ..key };
    let error = b.pull(&pool, &from(&server, other, stats.clone())).await.unwrap_err();
    assert!(error.to_string().contains("holds no output"), "{error}");
    b.pull(&pool, &from(&server, key, stats.clone())).await.unwrap();
    let error = b.pull(&pool, &from(&server, key, stats)).await.unwrap_err();
    assert!(matches!(error, FetchError::Local(ShuffleError::Duplicate { .. })), "{error}");
    assert_eq!(values(&read(&b, key, 0).await.unwrap()).len(), expected);
}

#[tokio::test]
async fn an_output_without_rows_needs_no_fetch() {
    let (dir, pool) = (tempfile::tempdir().unwrap(), pool());
    let b = store(dir.path(), PLENTY, Compression::None).await;
    let (address, outputs) = ("127.0.0.1:1".to_owned(), vec![PartitionStats::default(); 3]);
    b.pull(&pool, &Handover { key: key(0, 1), address, outputs }).await.unwrap();
    assert!(read(&b, key(0, 1), 2).await.unwrap().is_empty());
    assert!(matches!(b.read(key(0, 1), 3), Err(ShuffleError::NoSuchPartition { .. })));
}

#[tokio::test]
async fn a_reader_goes_on_where_the_output_has_moved_to() {
    const COUNT: i64 = 2_000_000;
    let dirs = [0; 3].map(|_| tempfile::tempdir().unwrap());
    let a = store(dirs[0].path(), PLENTY, Compression::None).await;
    let b = store(dirs[1].path(), PLENTY, Compression::None).await;
    let me = store(dirs[2].path(), PLENTY, Compression::None).await;
    let key = output(&a, COUNT).await;
    let stats = vec![a.read(key, 0).unwrap().stats()];
    let (server, other) = (Server::start(Arc::clone(&a)).await, Server::start(Arc::clone(&b)).await);
    b.pull(&pool(), &from(&server, key, stats)).await.unwrap();

    let plan = || reader(&me, pool(), "a", &server.address.to_string());
    let mut begun = plan().execute(0, context(1000)).unwrap();
    let first = begun.next().await.unwrap().unwrap();
    a.forget(key.attempt);
    assert!(rows(&plan()).await.is_err(), "nobody has said where it is");
    me.note_moved(JOB, key.attempt, other.address.to_string());
    let expected: Vec<i64> = (0..COUNT).collect();
    assert_eq!(rows(&plan()).await.unwrap(), expected);
    let rest: Vec<RecordBatch> = begun.try_collect().await.unwrap();
    assert_eq!(values(&[vec![first], rest].concat()), expected, "each row once");
    me.delete_job(JOB);
    assert!(rows(&plan()).await.is_err(), "the place is forgotten with the job");
}
