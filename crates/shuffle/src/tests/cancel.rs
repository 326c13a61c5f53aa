//! A write that is given up frees all that it held.
#![allow(clippy::disallowed_methods, reason = "the tests look at files behind the store's back")]

use std::{sync::Arc, time::Duration};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::{
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
};
use futures::{StreamExt, stream};
use polybolos_model::Exchange;
use polybolos_planner::TaskPlan;

use crate::{
    Compression, ShuffleError, ShuffleStore, WriteError,
    testing::{PLENTY, context, key, store, task},
    write_output,
};

fn batch() -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
    RecordBatch::try_from_iter([("n", numbers)]).unwrap()
}

/// Yields some batches, then nothing for ever.
#[derive(Debug)]
struct Stuck(arrow::datatypes::SchemaRef);

impl PartitionStream for Stuck {
    fn schema(&self) -> &arrow::datatypes::SchemaRef {
        &self.0
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = stream::iter((0..10).map(|_| Ok(batch()))).chain(stream::pending());
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.0), batches))
    }
}

fn stuck() -> TaskPlan {
    let schema = batch().schema();
    let partitions: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(Stuck(Arc::clone(&schema)))];
    let plan = StreamingTableExec::try_new(schema, partitions, None, Vec::new(), false, None).unwrap();
    task(Arc::new(plan), Exchange::Single, vec![], 1)
}

async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..300 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}

fn start(store: &Arc<ShuffleStore>) -> tokio::task::JoinHandle<Result<(), WriteError>> {
    let store = Arc::clone(store);
    tokio::spawn(async move {
        let task = stuck();
        write_output(&task, Arc::clone(&task.plan), context(1000), &store, key(0, 1)).await.map(|_| ())
    })
}

#[tokio::test]
async fn dropping_a_write_frees_its_bytes_and_files() {
    for budget in [PLENTY, 30_000] {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), budget, Compression::None).await;
        let writing = start(&store);
        until("all batches came", || store.bytes() >= 80_000).await;
        assert!(matches!(store.read(key(0, 1), 0), Err(ShuffleError::NotFound { .. })), "not visible yet");
        writing.abort();
        assert!(writing.await.unwrap_err().is_cancelled());
        assert_eq!(store.bytes(), 0);
        until("the files are gone", || std::fs::read_dir(dir.path()).unwrap().count() == 0).await;
        // The attempt is forgotten, too.
        let writing = start(&store);
        until("it writes again", || store.bytes() > 0).await;
        writing.abort();
    }
}

#[tokio::test]
async fn an_output_that_is_deleted_while_written_never_appears() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), PLENTY, Compression::None).await;
    let writer =
        crate::output_writer::OutputWriter::new(&store, key(0, 1), batch().schema(), 1, 100).unwrap();
    store.delete_job(key(0, 1).task.job);
    let error = writer.finish().await.unwrap_err();
    assert!(matches!(error, ShuffleError::DeletedWhileWritten { .. }), "{error}");
    assert!(store.read(key(0, 1), 0).is_err());
    assert_eq!(store.bytes(), 0);
}
