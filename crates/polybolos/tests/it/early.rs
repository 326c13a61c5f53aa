//! Rows that come while their tasks still run.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{DataType, Int64Type},
};
use datafusion::{
    common::Result,
    logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf},
};
use futures::{StreamExt, TryStreamExt};
use polybolos::{EmbeddedCluster, EmbeddedConfig, Env, Extensions};
use polybolos_client::{Answer, JobHandle};
use tokio::time::timeout;

use crate::{
    limits::{set, settings_count},
    support::{Shop, shop_in},
};

/// What waits for others waits no longer, and its test fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// Behind it rows wait for the gate.
const HELD_FROM: i64 = 5_000;

#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_open = self.is_open.lock().unwrap();
        drop(self.opened.wait_timeout_while(is_open, PATIENCE, |is_open| !*is_open).unwrap());
    }
}

/// `held(n)` is `n`, and waits for the gate with rows of [`HELD_FROM`] on.
fn held(gate: &Arc<Gate>) -> Arc<ScalarUDF> {
    let gate = Arc::clone(gate);
    let call = move |args: &[ColumnarValue]| -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        if arrays[0].as_primitive::<Int64Type>().iter().flatten().any(|n| n >= HELD_FROM) {
            gate.pass();
        }
        Ok(ColumnarValue::Array(Arc::clone(&arrays[0])))
    };
    let int = DataType::Int64;
    Arc::new(create_udf("held", vec![int.clone()], int, Volatility::Immutable, Arc::new(call)))
}

async fn gated() -> (Shop, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let extensions = Extensions { scalar_udfs: vec![held(&gate)], ..Extensions::default() };
    let env = Env::production(8).unwrap();
    let cluster = EmbeddedCluster::start_in(EmbeddedConfig::default(), extensions, env).await.unwrap();
    let shop = shop_in(cluster).await;
    settings_count(&shop.client).await;
    (shop, gate)
}

/// One task, in small batches.
async fn submit(shop: &Shop, early: &str) -> JobHandle {
    let options = set(&[
        ("datafusion.execution.batch_size", "500"),
        ("datafusion.execution.target_partitions", "1"),
        ("polybolos.early_results", early),
        ("polybolos.speculation", "false"),
    ]);
    match shop.client.submit("SELECT held(id) AS id FROM orders", options).await.unwrap() {
        Answer::Job(job) => job,
        Answer::Inline(_) => panic!("no job"),
    }
}

fn ids(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_rows_of_a_scan_come_before_its_task_has_ended() {
    let (shop, gate) = gated().await;
    let job = submit(&shop, "true").await;
    let mut stream = job.stream();
    let progress = stream.progress();
    let mut batches = vec![timeout(PATIENCE / 2, stream.next()).await.unwrap().unwrap().unwrap()];
    let done = progress.borrow().as_ref().map(|update| update.stages[0].done);
    assert_eq!(done, Some(0), "its only task is held");
    gate.open();
    batches.extend(stream.try_collect::<Vec<_>>().await.unwrap());
    let mut got = ids(&batches);
    assert_eq!(got[0], 0);
    got.sort_unstable();
    assert_eq!(got, (0..10_000).collect::<Vec<_>>(), "each row once");
    shop.client.settle().await;
    shop.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_comes_early_if_that_is_switched_off() {
    let (shop, gate) = gated().await;
    let mut stream = submit(&shop, "false").await.stream();
    assert!(timeout(Duration::from_secs(1), stream.next()).await.is_err());
    gate.open();
    assert_eq!(ids(&stream.try_collect::<Vec<_>>().await.unwrap()).len(), 10_000);
    shop.cluster.shutdown().await;
}
