//! Small outputs in one piece.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringViewArray},
    compute::concat_batches,
};
use bytes::Bytes;
use polybolos_model::Exchange;
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use super::rows::{batches, schema};
use crate::{
    Compression, ShuffleError, chunk, small_rows,
    testing::{PLENTY, key, memory, store, task, write},
};

const LIMIT: usize = 16 * 1024;

fn numbers(rows: i64) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

#[tokio::test]
async fn rows_of_all_types_come_as_they_were_written_from_memory_and_from_files() {
    let mut runner = TestRunner::deterministic();
    for (counter, budget) in [(1, PLENTY), (2, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), budget, Compression::Lz4).await;
        let wanted = batches().prop_filter("no rows", |all| all.iter().any(|batch| batch.num_rows() > 0));
        let all = wanted.new_tree(&mut runner).unwrap().current();
        let task = task(memory(&schema(), all.clone()), Exchange::Merge, vec![], 1);
        write(&store, key(0, counter), &task, 8).await.unwrap();
        let encoded = small_rows(&store, key(0, counter), 1 << 20).await.unwrap().unwrap();
        let decoded = chunk::decode(Bytes::from(encoded)).unwrap();
        let (got, expected) = (concat_batches(&schema(), &decoded), concat_batches(&schema(), &all));
        assert_eq!(got.unwrap(), expected.unwrap());
    }
}

#[tokio::test]
async fn large_empty_and_divided_outputs_stay_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), PLENTY, Compression::None).await;
    for (counter, rows, partitions, comes) in
        [(1, 1, 1, true), (2, 0, 1, false), (3, 2_047, 1, false), (4, 9, 2, false)]
    {
        let batch = numbers(rows);
        let exchange = if partitions == 1 { Exchange::Merge } else { Exchange::RoundRobin };
        let task = task(memory(&batch.schema(), vec![batch]), exchange, vec![], partitions);
        write(&store, key(0, counter), &task, 8_192).await.unwrap();
        let encoded = small_rows(&store, key(0, counter), LIMIT).await.unwrap();
        assert_eq!(encoded.is_some(), comes, "{rows} rows, {partitions} partitions");
        assert!(encoded.is_none_or(|encoded| encoded.len() <= LIMIT));
    }
    let error = small_rows(&store, key(0, 9), LIMIT).await.unwrap_err();
    assert!(matches!(error, ShuffleError::NotFound { .. }), "{error}");
}

/// A few rows of a large array of views share its buffers.
#[tokio::test]
async fn what_rows_share_with_others_does_not_come_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), PLENTY, Compression::None).await;
    let texts = StringViewArray::from_iter_values((0..10_000).map(|n| format!("{n:0100}")));
    let few: ArrayRef = Arc::new(texts.slice(5_000, 3));
    let batch = RecordBatch::try_from_iter([("t", few)]).unwrap();
    let task = task(memory(&batch.schema(), vec![batch]), Exchange::Merge, vec![], 1);
    write(&store, key(0, 1), &task, 8_192).await.unwrap();
    assert!(small_rows(&store, key(0, 1), LIMIT).await.unwrap().is_some());
}
