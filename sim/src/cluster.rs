//! One run: scheduler replicas, executors and a client as turmoil hosts, crashes of replicas, and what the client saw.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use polybolos_client::{Client, SubmitOptions};
use polybolos_executor::{Executor, ExecutorConfig, Spill};
use polybolos_model::{ExecutorId, ReplicaId};
use polybolos_planner::Extensions;
use polybolos_scheduler::{LogKind, Scheduler, SchedulerConfig, Store, Timing};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::sleep;

use crate::{
    env::{MemoryDisk, MemorySpill, simulated},
    faults::Faults,
    workload,
};

/// Simulated time within which a run must end.
const DEADLINE: Duration = Duration::from_secs(300);
/// How long the replicas may take to agree once no more faults come.
const AGREEMENT_DEADLINE: Duration = Duration::from_secs(30);
/// Segments of a connection under way; turmoil's default overflows with a panic.
const TCP_CAPACITY: usize = 65_536;

type BoxError = Box<dyn std::error::Error>;

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub replicas: u64,
    pub executors: u32,
    pub queries: u32,
    pub rows: usize,
    /// Replicas that lost their power and came back.
    pub crashes: u32,
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

pub(crate) fn replica_host(id: u64) -> String {
    format!("scheduler-{id}")
}

fn replica_address(id: u64) -> String {
    format!("{}:7701", replica_host(id))
}

fn addresses(replicas: u64) -> Vec<String> {
    (1..=replicas).map(replica_address).collect()
}

/// Runs one seed: random queries on a cluster of random size whose replicas crash, each answer compared with plain
/// DataFusion's, and in the end all replicas with each other.
///
/// # Errors
/// [`Violation`] names the seed and what went wrong.
pub fn run(seed: u64) -> Result<Summary, Violation> {
    let mut random = StdRng::seed_from_u64(seed);
    let executors = random.random_range(1..=3);
    let replicas = if random.random_range(0..4) == 0 { 1 } else { 3 };
    let mut sim = turmoil::Builder::new()
        .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .simulation_duration(DEADLINE)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_micros(100))
        .max_message_latency(Duration::from_millis(random.random_range(1..20)))
        .tcp_capacity(TCP_CAPACITY)
        .rng_seed(random.random())
        .build();

    let mut faults = Faults::new(random.random(), replicas);
    for id in 1..=replicas {
        let (seed, disk) = (random.random(), faults.disk(id));
        // Each life draws other numbers.
        let lives = Arc::new(AtomicU64::new(seed));
        sim.host(replica_host(id), move || {
            scheduler(id, replicas, lives.fetch_add(1, Ordering::Relaxed), disk.clone())
        });
    }
    for number in 1..=executors {
        let (seed, slots): (u64, u32) = (random.random(), random.random_range(1..=2));
        sim.host(format!("executor-{number}"), move || executor(number, slots, seed, replicas));
    }
    let summary = Arc::new(Mutex::new(Summary { replicas, executors, ..Summary::default() }));
    let work = client(StdRng::seed_from_u64(random.random()), replicas, faults.calm(), Arc::clone(&summary));
    sim.client("client", work);

    let outcome = loop {
        match sim.step() {
            Ok(true) => break Ok(()),
            Ok(false) => faults.step(&mut sim),
            Err(error) => break Err(error),
        }
    };
    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (summary.elapsed, summary.crashes) = (sim.elapsed(), faults.crashes());
    match outcome {
        Ok(()) => Ok(summary),
        Err(error) => Err(Violation { seed, violation: error.to_string() }),
    }
}

async fn scheduler(id: u64, replicas: u64, seed: u64, disk: MemoryDisk) -> Result<(), BoxError> {
    let cluster = (1..=replicas).map(|id| (ReplicaId(id), replica_address(id))).collect();
    let LogKind::Durable { cluster, data_dir, version, .. } = LogKind::durable(cluster, "/data") else {
        return Err("a durable log is durable".into());
    };
    // sled has threads of its own, which no simulation can order.
    let (store, timing) = (Store::Journal, Timing::default());
    let log = LogKind::Durable { cluster, data_dir, store, timing, version };
    let config = SchedulerConfig::new(ReplicaId(id), replica_address(id), log);
    let env = simulated(&replica_host(id), seed, &disk);
    let running = Scheduler::start(config, env, Extensions::default()).await?;
    let fatal = running.failed().await;
    Err(format!("replica {id}: {fatal}").into())
}

async fn executor(number: u32, slots: u32, seed: u64, replicas: u64) -> Result<(), BoxError> {
    let name = format!("executor-{number}");
    let work_dir = PathBuf::from("/simulated").join(&name);
    let mut config = ExecutorConfig::new(ExecutorId::new(name.as_str())?, addresses(replicas), work_dir);
    config.listen = format!("{name}:7711");
    config.slots = slots;
    config.spill = Spill::Custom(Arc::new(MemorySpill));
    let env = simulated(&name, seed, &MemoryDisk::default());
    let _running = Executor::start(config, env, Extensions::default()).await?;
    std::future::pending().await
}

async fn client(
    mut random: StdRng,
    replicas: u64,
    calm: impl Fn(),
    summary: Arc<Mutex<Summary>>,
) -> Result<(), BoxError> {
    let env = simulated("client", random.random(), &MemoryDisk::default());
    let client = Client::connect(addresses(replicas), env)?;
    for _ in 0..random.random_range(3..8) {
        sleep(Duration::from_millis(random.random_range(0..1_000))).await;
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
    calm();
    agreement(&client, replicas).await
}

/// Waits until every replica has applied the same entries, and compares what they made of them.
async fn agreement(client: &Client, replicas: u64) -> Result<(), BoxError> {
    let agreed = tokio::time::timeout(AGREEMENT_DEADLINE, async {
        loop {
            if let Ok(status) = client.status().await {
                let seen: Vec<(u64, u64)> =
                    status.replicas.iter().map(|one| (one.applied_index, one.state_hash)).collect();
                let mut by_index = BTreeMap::new();
                for (index, hash) in seen.iter().filter(|(index, _)| *index > 0) {
                    if by_index.insert(*index, *hash).is_some_and(|other| other != *hash) {
                        return Err(format!("replicas differ at one index: {:?}", status.replicas));
                    }
                }
                if seen.len() as u64 == replicas
                    && by_index.len() == 1
                    && seen.iter().all(|(index, _)| *index > 0)
                {
                    return Ok(());
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    match agreed.await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(format!("the replicas did not agree within {AGREEMENT_DEADLINE:?}").into()),
    }
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
