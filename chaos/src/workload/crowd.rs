//! Many clients at once, each with connections of its own, that share a number of small queries.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use polybolos_client::ClientError;
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;

use super::{Worker, digest, jobs, texts};
use crate::history::{End, Op, class};

/// A query whose outcome is an error is asked again with its key so often.
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(250);
/// Most of the queries are one task, as small queries are; the others are divided.
const DIVIDED_PERCENT: u32 = 20;

/// What came of it, as it stands in `events.jsonl`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrowdToll {
    pub clients: u32,
    pub queries: u32,
    /// Answered, with exactly the rows that arithmetic gives.
    pub right: u32,
    pub wrong: u32,
    /// By class; a query that was answered at its second try counts here and as right.
    pub errors: std::collections::BTreeMap<String, u32>,
    /// From the first client's begin to the last one's end.
    pub took_ms: u64,
    /// Of the answered ones, from before the first try to the last row.
    pub median_ms: u64,
    pub high_ms: u64,
    pub worst_ms: u64,
}

impl CrowdToll {
    /// Queries that were answered, of one second.
    pub fn per_second(&self) -> f64 {
        f64::from(self.right + self.wrong) * 1_000.0 / self.took_ms.max(1) as f64
    }
}

/// What the clients of a crowd share.
pub(super) struct Crowd {
    queries: u32,
    next: AtomicU32,
    seen: Mutex<(CrowdToll, Vec<u64>)>,
}

impl Crowd {
    pub(super) fn new(clients: u32, queries: u32) -> Arc<Self> {
        let toll = CrowdToll { clients, queries, ..CrowdToll::default() };
        Arc::new(Self { queries, next: AtomicU32::new(0), seen: Mutex::new((toll, Vec::new())) })
    }

    pub(super) fn toll(&self) -> CrowdToll {
        let (mut toll, mut latencies) = self.lock().clone();
        latencies.sort_unstable();
        let at = |percent: usize| {
            let index = latencies.len().saturating_sub(1) * percent / 100;
            latencies.get(index).copied().unwrap_or(0)
        };
        (toll.median_ms, toll.high_ms, toll.worst_ms) = (at(50), at(99), at(100));
        toll
    }

    /// A try has ended, in an answer's digest or an error's class; true if that was the last one.
    fn note(&self, answer: Result<String, String>, expect: &str, began_ms: u64, now_ms: u64) -> bool {
        let mut seen = self.lock();
        let (toll, latencies) = &mut *seen;
        toll.took_ms = now_ms;
        match answer {
            Ok(found) => {
                latencies.push(now_ms.saturating_sub(began_ms));
                *(if found == expect { &mut toll.right } else { &mut toll.wrong }) += 1;
                true
            }
            Err(class) => {
                *toll.errors.entry(class).or_default() += 1;
                false
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (CrowdToll, Vec<u64>)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes queries until there are none left: a crowd is not told to stop.
pub(super) async fn run(mut worker: Worker, crowd: Arc<Crowd>) {
    loop {
        let number = crowd.next.fetch_add(1, Ordering::Relaxed);
        if number >= crowd.queries {
            break;
        }
        one(&mut worker, &crowd, number).await;
    }
    worker.client.settle().await;
}

async fn one(worker: &mut Worker, crowd: &Crowd, number: u32) {
    let key = format!("{:x}-crowd-{number}", worker.scene.seed);
    let jobs::Statement { sql, rows } = jobs::small_query(&mut worker.random);
    let is_divided = worker.random.random_range(0..100) < DIVIDED_PERCENT;
    let expect = digest(rows);
    let began_ms = worker.scene.clock.ms();
    for _ in 0..TRIES {
        let options = jobs::options(&key, if is_divided { 3 } else { 1 });
        let call = async {
            match worker.client.query_with(sql.as_str(), options).await {
                Ok(result) => match texts(&result.batches) {
                    Ok(rows) => {
                        let (count, found) = (rows.len(), digest(rows));
                        let end = End::Ok(json!({"digest": found, "rows": count}));
                        (end, Ok(found))
                    }
                    Err(error) => (End::Info(error.to_string()), Err("unreadable".to_owned())),
                },
                Err(error) => (ended(&error), Err(class(&error.to_string()).to_owned())),
            }
        };
        let input = json!({"expect": expect});
        let answer = worker.process.op(Op::job("query", &key), input, call).await;
        if crowd.note(answer, &expect, began_ms, worker.scene.clock.ms()) {
            return;
        }
        sleep(PAUSE).await;
    }
}

/// A job that failed is there all the same.
fn ended(error: &ClientError) -> End {
    match error {
        ClientError::JobFailed { job, .. } => End::Ok(json!({"job": job.to_string(), "status": "failed"})),
        error => End::of_change(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_answers() {
        let crowd = Crowd::new(2, 100);
        crowd.lock().1.extend((1..=100).rev());
        let toll = crowd.toll();
        assert_eq!((toll.median_ms, toll.high_ms, toll.worst_ms), (50, 99, 100));
        assert_eq!(Crowd::new(1, 0).toll().worst_ms, 0);
    }
}
