//! One run: a scheduler, executors and a client as turmoil hosts, and what the client saw.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use polybolos_client::{Client, SubmitOptions};
use polybolos_executor::{Executor, ExecutorConfig, Spill};
use polybolos_model::{ExecutorId, ReplicaId};
use polybolos_planner::Extensions;
use polybolos_scheduler::{LogKind, Scheduler, SchedulerConfig};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    env::{MemorySpill, simulated},
    workload,
};

/// Simulated time within which a run must end.
const DEADLINE: Duration = Duration::from_secs(300);
/// Segments of a connection under way; turmoil's default overflows with a panic.
const TCP_CAPACITY: usize = 65_536;
const SCHEDULER: &str = "scheduler:7701";

type BoxError = Box<dyn std::error::Error>;

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub executors: u32,
    pub queries: u32,
    pub rows: usize,
    /// Simulated.
    pub elapsed: Duration,
}

/// A run that broke a promise.
#[derive(Debug, thiserror::Error)]
#[error("seed {seed}: {violation}\nreplay it: cargo run -p polybolos-sim -- run --seed {seed}")]
pub struct Violation {
    pub seed: u64,
    pub violation: String,
}

/// Runs one seed: random queries on a cluster of random size, each answer compared with plain DataFusion's.
///
/// # Errors
/// [`Violation`] names the seed and what went wrong.
pub fn run(seed: u64) -> Result<Summary, Violation> {
    let mut random = StdRng::seed_from_u64(seed);
    let executors = random.random_range(1..=3);
    let mut sim = turmoil::Builder::new()
        .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .simulation_duration(DEADLINE)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_micros(100))
        .max_message_latency(Duration::from_millis(random.random_range(1..20)))
        .tcp_capacity(TCP_CAPACITY)
        .rng_seed(random.random())
        .build();

    sim.host("scheduler", {
        let seed: u64 = random.random();
        move || scheduler(seed)
    });
    for number in 1..=executors {
        let (seed, slots): (u64, u32) = (random.random(), random.random_range(1..=2));
        sim.host(format!("executor-{number}"), move || executor(number, slots, seed));
    }
    let summary = Arc::new(Mutex::new(Summary { executors, ..Summary::default() }));
    sim.client("client", client(StdRng::seed_from_u64(random.random()), Arc::clone(&summary)));

    let outcome = sim.run();
    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner).clone();
    summary.elapsed = sim.elapsed();
    match outcome {
        Ok(()) => Ok(summary),
        Err(error) => Err(Violation { seed, violation: error.to_string() }),
    }
}

async fn scheduler(seed: u64) -> Result<(), BoxError> {
    let config = SchedulerConfig::new(ReplicaId(1), SCHEDULER, LogKind::InMemory);
    let _running = Scheduler::start(config, simulated("scheduler", seed), Extensions::default()).await?;
    std::future::pending().await
}

async fn executor(number: u32, slots: u32, seed: u64) -> Result<(), BoxError> {
    let name = format!("executor-{number}");
    let work_dir = PathBuf::from("/simulated").join(&name);
    let mut config =
        ExecutorConfig::new(ExecutorId::new(name.as_str())?, vec![SCHEDULER.to_owned()], work_dir);
    config.listen = format!("{name}:7711");
    config.slots = slots;
    config.spill = Spill::Custom(Arc::new(MemorySpill));
    let _running = Executor::start(config, simulated(&name, seed), Extensions::default()).await?;
    std::future::pending().await
}

async fn client(mut random: StdRng, summary: Arc<Mutex<Summary>>) -> Result<(), BoxError> {
    let client = Client::connect(vec![SCHEDULER.to_owned()], simulated("client", random.random()))?;
    for _ in 0..random.random_range(3..8) {
        let sql = workload::random_query(&mut random);
        let answer = client.query_with(sql.as_str(), options(&mut random)).await;
        let got = workload::rows(&answer.map_err(|error| format!("{error}\n{sql}"))?.batches)?;
        let expected = workload::expected(&sql).await?;
        if got != expected {
            return Err(format!("a wrong answer\n{sql}\nexpected {expected:?}\ngot      {got:?}").into());
        }
        let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
        summary.queries += 1;
        summary.rows += got.len();
    }
    Ok(())
}

/// Plans of different shapes for the same query.
fn options(random: &mut StdRng) -> SubmitOptions {
    let mut options = BTreeMap::from([
        // More than one partition although the data is small: that is what makes exchanges.
        ("datafusion.execution.target_partitions".to_owned(), random.random_range(1..=4).to_string()),
        (
            "datafusion.optimizer.enable_round_robin_repartition".to_owned(),
            random.random::<bool>().to_string(),
        ),
        ("datafusion.optimizer.prefer_hash_join".to_owned(), random.random::<bool>().to_string()),
    ]);
    if random.random() {
        let thresholds =
            ["hash_join_single_partition_threshold", "hash_join_single_partition_threshold_rows"];
        options.extend(thresholds.map(|name| (format!("datafusion.optimizer.{name}"), "0".to_owned())));
    }
    SubmitOptions { options, ..SubmitOptions::default() }
}
