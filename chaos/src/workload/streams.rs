//! Long results that are read slowly, so that faults meet them in the middle.

use std::time::Duration;

use arrow::{
    array::{Int64Array, RecordBatch},
    datatypes::Int64Type,
};
use futures::TryStreamExt;
use polybolos_client::{ClientError, JobHandle};
use rand::Rng;
use serde_json::json;
use tokio::time::sleep;

use super::{Worker, jobs};
use crate::history::{End, Op};

const ROWS: std::ops::Range<u64> = 50_000..400_000;
const PARTITIONS: u32 = 4;
/// Between two batches.
const SLOW: Duration = Duration::from_millis(20);

pub(super) async fn run(mut worker: Worker) {
    let mut number = 0;
    while worker.goes_on().await {
        number += 1;
        let key = format!("{:x}-stream-{}-{number}", worker.scene.seed, worker.process.id());
        let rows = worker.random.random_range(ROWS);
        let sql = format!("SELECT n * 3 AS m FROM generate_series(1, {rows}) AS t(n) WHERE n % 5 <> 2");
        let (count, sum) = expected(rows);
        let input = json!({"expect": summary(count, sum)});
        let submitted = jobs::submit(&worker.client, &worker.process, &key, &sql, PARTITIONS, &input);
        let Some(job) = submitted.await else { continue };
        let releases = worker.scene.recorder.process();
        let process = &worker.process;
        let fetch = process.op(Op::job("fetch", &key), input.clone(), async {
            let end = match read(&job).await {
                Ok((count, sum)) => End::Ok(
                    json!({"digest": summary(count, sum), "rows": count, "job": job.id().to_string()}),
                ),
                Err(error) => End::of_question(&error),
            };
            (end, ())
        });
        // The client gives the result back by itself, at a time that nobody tells.
        let null = serde_json::Value::Null;
        releases.op(Op::job("release", &key), null.clone(), async { (End::Ok(null), fetch.await) }).await;
    }
    worker.client.settle().await;
}

/// Number and sum of the rows.
fn expected(rows: u64) -> (u64, i128) {
    let kept = (1..=rows).filter(|n| n % 5 != 2);
    kept.fold((0, 0), |(count, sum), n| (count + 1, sum + i128::from(n) * 3))
}

fn summary(count: u64, sum: i128) -> String {
    format!("{count} rows, sum {sum}")
}

async fn read(job: &JobHandle) -> Result<(u64, i128), ClientError> {
    let mut stream = job.stream();
    let (mut count, mut sum) = (0, 0);
    while let Some(batch) = stream.try_next().await? {
        let (rows, total) = totals(&batch)?;
        count += rows;
        sum += total;
        sleep(SLOW).await;
    }
    Ok((count, sum))
}

fn totals(batch: &RecordBatch) -> Result<(u64, i128), ClientError> {
    let column = batch.columns().first().and_then(|column| column.as_any().downcast_ref::<Int64Array>());
    let Some(column) = column else {
        return Err(ClientError::Protocol { what: "the column is none of numbers".to_owned() });
    };
    let sum = arrow::array::PrimitiveArray::<Int64Type>::iter(column).flatten().map(i128::from).sum();
    Ok((column.len() as u64, sum))
}
