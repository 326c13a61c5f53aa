//! Scheduler replicas and executors as processes of their own: killed, paused, cut down to a minority, operated, upgraded.
//!
//! ```text
//!   test ──▶ Fleet (schedulers, executors: real processes, real signals)
//!     ├────▶ Load (clients that compare every answer with DataFusion's)
//!     ├────▶ probe (what each replica says: who leads, which hash at which index)
//!     └────▶ Audit (what the logs of all processes say: starts and commits of tasks)
//! ```
//!
//! The tests are heavy and run one at a time. `POLYBOLOS_KILLS` and `POLYBOLOS_PAUSES` make them longer,
//! `POLYBOLOS_SEED` repeats the random moments (not the rest) of a run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]
#![allow(clippy::disallowed_methods, reason = "drives real processes on the real machine")]

#[path = "replicas/anywhere.rs"]
mod anywhere;
#[path = "replicas/audit.rs"]
mod audit;
#[path = "replicas/benches.rs"]
mod benches;
#[path = "replicas/disk_full.rs"]
mod disk_full;
#[path = "replicas/early.rs"]
mod early;
#[path = "replicas/executor_lost.rs"]
mod executor_lost;
#[path = "replicas/fleet.rs"]
mod fleet;
#[path = "replicas/incident.rs"]
mod incident;
#[path = "replicas/leader_lost.rs"]
mod leader_lost;
#[path = "replicas/leaving.rs"]
mod leaving;
#[path = "replicas/load.rs"]
mod load;
#[path = "replicas/node.rs"]
mod node;
#[path = "replicas/operating.rs"]
mod operating;
#[path = "replicas/outage.rs"]
mod outage;
#[path = "replicas/probe.rs"]
mod probe;
#[path = "replicas/refusals.rs"]
mod refusals;
#[path = "replicas/results_lost.rs"]
mod results_lost;
#[path = "replicas/saving.rs"]
mod saving;
#[allow(dead_code, reason = "the other process tests use the rest")]
#[path = "cli/support.rs"]
mod support;
#[path = "replicas/upgrade.rs"]
mod upgrade;
#[path = "replicas/writing.rs"]
mod writing;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Runs a test alone and within `limit`.
pub(crate) fn alone(limit: Duration, body: impl Future<Output = ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        // Dropped after the panic has begun, so that its processes tell what they logged.
        let mut body = Box::pin(body);
        if tokio::time::timeout(limit, &mut body).await.is_err() {
            panic!("the test was not done within {limit:?}");
        }
    });
}

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}
