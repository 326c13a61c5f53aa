//! Clients that only stand there: with a result that they don't read, or with nothing at all.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::StreamExt;
use polybolos_client::{Client, ClientError};
use rand::Rng;
use tokio::{task::JoinSet, time::timeout};

use super::{Scene, Worker, jobs};
use crate::hostile::{Ending, Idle, Target, Tolls, hold};

/// Much more than all the windows between here and an executor hold.
const ROWS: std::ops::Range<u64> = 3_000_000..6_000_000;
const PARTITIONS: u32 = 4;
/// Of the first rows: those who have them are known to be served.
const FIRST_ROWS: Duration = Duration::from_secs(60);
pub(crate) const NON_READER: &str = "non-reader";

/// Asks for a long result, takes its first rows, and no more until the end of the run.
pub(super) async fn unread(mut worker: Worker, tolls: Arc<Tolls>) {
    let mut number = 0;
    while worker.goes_on().await {
        number += 1;
        let key = format!("{:x}-unread-{}-{number}", worker.scene.seed, worker.process.id());
        let rows = worker.random.random_range(ROWS);
        let sql = format!("SELECT n * 3 AS m FROM generate_series(1, {rows}) AS t(n) WHERE n % 5 <> 2");
        let input = serde_json::json!({});
        let submitted = jobs::submit(&worker.client, &worker.process, &key, &sql, PARTITIONS, &input);
        let Some(job) = submitted.await else { continue };
        let mut stream = job.stream();
        let ending = match timeout(FIRST_ROWS, stream.next()).await {
            Err(_) => Ending::Hung,
            Ok(None) => Ending::Elsewhere("no rows".to_owned()),
            Ok(Some(Err(error))) => Ending::Elsewhere(error_class(&error)),
            Ok(Some(Ok(_))) => {
                let mut stop = worker.scene.stop.clone();
                // The sender outlives the clients.
                let _ = stop.wait_for(|stop| *stop).await;
                Ending::Answered
            }
        };
        tolls.note(NON_READER, &ending, true, || format!("no rows of {key} within {FIRST_ROWS:?}"));
        // Gives the result back.
        drop(stream);
    }
    worker.client.settle().await;
}

fn error_class(error: &ClientError) -> String {
    crate::history::class(&error.to_string()).to_owned()
}

/// Opens `count` connections to the nodes in turn; every second one never says a word.
pub(super) fn idle(
    scene: &Scene,
    targets: &[Target],
    count: u32,
    tolls: &Arc<Tolls>,
    clients: &mut JoinSet<()>,
) -> Arc<Idle> {
    let idle = Arc::new(Idle::default());
    for (number, target) in (0..count).zip(targets.iter().cycle()) {
        let (idle, tolls, address) = (Arc::clone(&idle), Arc::clone(tolls), target.address.clone());
        let stop = scene.stop.clone();
        let round = number as usize / targets.len();
        clients.spawn(async move { hold(&idle, &tolls, &address, round.is_multiple_of(2), stop).await });
    }
    idle
}

/// Most connections at one moment.
pub(super) fn most(idle: &Idle) -> u64 {
    idle.most.load(Ordering::Relaxed)
}

/// Nodes by what the cluster says of itself.
///
/// # Errors
/// It does not answer.
pub(super) async fn targets(client: &Client) -> Result<Vec<Target>, ClientError> {
    let status = client.status().await?;
    let schedulers = status.replicas.into_iter().map(|row| Target {
        name: format!("scheduler-{}", row.id),
        address: row.address,
        is_executor: false,
    });
    let live = status.executors.into_iter().filter(|row| row.state == "live");
    let executors = live.map(|row| Target { name: row.executor_id, address: row.address, is_executor: true });
    Ok(schedulers.chain(executors).collect())
}
