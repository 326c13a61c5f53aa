//! What is written is what is read: from memory, from files, over the network.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringViewArray},
    compute::concat_batches,
    datatypes::{Schema, SchemaRef},
};
use futures::TryStreamExt;
use polybolos_model::Exchange;
use proptest::prelude::*;

use super::rows::{batches, schema};
use crate::{
    Compression, FetchError, encode_ticket,
    testing::{PLENTY, Server, key, memory, pool, read, store, task, write},
};

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

fn joined(schema: &SchemaRef, batches: &[RecordBatch]) -> RecordBatch {
    concat_batches(schema, batches).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn an_output_keeps_rows_and_order(
        batches in batches(),
        batch_size in 1..64usize,
        in_memory: bool,
        lz4: bool,
    ) {
        block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let compression = if lz4 { Compression::Lz4 } else { Compression::None };
            let store = store(dir.path(), if in_memory { PLENTY } else { 0 }, compression).await;
            let task = task(memory(&schema(), batches.clone()), Exchange::Merge, vec![], 1);
            let stats = write(&store, key(0, 1), &task, batch_size).await.unwrap();
            let expected = joined(&schema(), &batches);
            let local = joined(&schema(), &read(&store, key(0, 1), 0).await.unwrap());
            assert_eq!(local, expected);
            assert_eq!(stats.iter().map(|s| s.rows).sum::<u64>(), expected.num_rows() as u64);
            // An output of no rows needs no file.
            assert_eq!(store.disk_bytes() > 0, !in_memory && expected.num_rows() > 0);
            let server = Server::start(Arc::clone(&store)).await;
            let fetched = pool().fetch(&server.address.to_string(), encode_ticket(key(0, 1), 0));
            let remote: Vec<RecordBatch> = fetched.try_collect().await.unwrap();
            assert_eq!(joined(&schema(), &remote), expected);
            store.delete_job(key(0, 1).task.job);
            assert_eq!(store.bytes(), 0);
        });
    }
}

#[tokio::test]
async fn local_readers_share_the_memory_of_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), PLENTY, Compression::None).await;
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..8192));
    let batch = RecordBatch::try_from_iter([("n", Arc::clone(&column))]).unwrap();
    let task = task(memory(&batch.schema(), vec![batch]), Exchange::Single, vec![], 1);
    let stats = write(&store, key(0, 1), &task, 8192).await.unwrap();
    assert_eq!((stats[0].rows, stats[0].bytes, store.bytes()), (8192, 65_536, 65_536));
    let there = read(&store, key(0, 1), 0).await.unwrap();
    let address = |array: &ArrayRef| array.to_data().buffers()[0].as_ptr();
    assert_eq!(address(there[0].column(0)), address(&column));
}

#[tokio::test]
async fn large_batches_of_views_and_batches_without_columns_cross_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), PLENTY, Compression::None).await;
    let server = Server::start(Arc::clone(&store)).await;
    let (address, pool) = (server.address.to_string(), pool());
    let texts: ArrayRef =
        Arc::new(StringViewArray::from_iter_values((0..8000).map(|n| format!("{n:05000}"))));
    let batch = RecordBatch::try_from_iter([("t", texts)]).unwrap();
    let views = task(memory(&batch.schema(), vec![batch.clone()]), Exchange::Single, vec![], 1);
    write(&store, key(0, 1), &views, 8192).await.unwrap();
    let there: Vec<RecordBatch> =
        pool.fetch(&address, encode_ticket(key(0, 1), 0)).try_collect().await.unwrap();
    assert!(there.len() > 10, "40 MB came in {} batches", there.len());
    assert_eq!(joined(&batch.schema(), &there), batch);

    let options = RecordBatchOptions::new().with_row_count(Some(7));
    let bare = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    let counted = task(memory(&bare.schema(), vec![bare.clone(), bare]), Exchange::Single, vec![], 1);
    assert_eq!(write(&store, key(1, 2), &counted, 8192).await.unwrap()[0].rows, 14);
    let there: Vec<RecordBatch> =
        pool.fetch(&address, encode_ticket(key(1, 2), 0)).try_collect().await.unwrap();
    assert_eq!(there.iter().map(RecordBatch::num_rows).sum::<usize>(), 14);
}

#[tokio::test]
async fn an_output_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), PLENTY, Compression::None).await;
    let server = Server::start(Arc::clone(&store)).await;
    let fetched = pool().fetch(&server.address.to_string(), encode_ticket(key(4, 9), 0));
    let error = fetched.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(
        matches!(&error, FetchError::Status { status, .. } if status.code() == tonic::Code::NotFound),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains("stage 1 partition 4 attempt 3.9"), "{text}");
}
