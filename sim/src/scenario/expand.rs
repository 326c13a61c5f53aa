//! A scenario and a seed become a schedule.

use std::path::Path;

use rand::{SeedableRng, rngs::StdRng};
use serde::Deserialize;
use toml::{Table, Value};

use super::{Scenario, ScenarioError, draw, faults, tenable};
use crate::{
    schedule::{self, Action, Cluster, DurableShuffle, Op, Phases, Schedule, fork},
    workload::{self, Mix, Size},
};

/// Ops begin before this share of the safety phase is over, so that faults meet them.
const OPS_UNTIL_PERCENT: u64 = 85;

/// The cluster but for the slots, with what a scenario gets that says nothing.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Drawn {
    schedulers: u64,
    executors: u32,
    memory_mib: u64,
    clients: u32,
    min_latency_us: u64,
    max_latency_us: u64,
    tcp_capacity: usize,
    clock_offset_ms: u64,
    disk_latency_us: u64,
    batch_cost_us: u64,
    snapshot_every: u64,
    durable_shuffle: DurableShuffle,
}

impl Default for Drawn {
    fn default() -> Self {
        Self {
            schedulers: 3,
            executors: 3,
            memory_mib: 256,
            clients: 2,
            min_latency_us: 100,
            max_latency_us: 3_000,
            tcp_capacity: 65_536,
            clock_offset_ms: 200,
            disk_latency_us: 200,
            batch_cost_us: 50,
            snapshot_every: 2_000,
            durable_shuffle: DurableShuffle::Off,
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Times {
    heal_at_ms: u64,
    liveness_ms: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self { heal_at_ms: 10_000, liveness_ms: 60_000 }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Work {
    size: Size,
    ops: Option<u32>,
    until_ms: Option<u64>,
    mix: Mix,
}

pub(super) fn expand(scenario: &Scenario, name: &str, run_seed: u64) -> Result<Schedule, ScenarioError> {
    // One seed of two scenarios has nothing in common, so that a campaign over all of them sees more.
    let seed = fork(run_seed, &stem(name));
    let cluster = cluster(&scenario.cluster, seed)?;
    let Times { heal_at_ms, liveness_ms } =
        draw::read("phases", Value::Table(draw::table(seed, "phases", &scenario.phases)?))?;
    let phases = Phases { heal_at_ms, liveness_ms };
    let (tables, ops) = work(scenario, seed, cluster.clients, heal_at_ms)?;
    let faults = faults::faults(scenario, seed, heal_at_ms)?;
    let failpoints = faults::failpoints(scenario, seed)?;
    let scenario = name.to_owned();
    let mut schedule = Schedule {
        seed: run_seed,
        scenario,
        judge: Vec::new(),
        cluster,
        phases,
        tables,
        ops,
        faults,
        failpoints,
    };
    tenable::mend(&mut schedule);
    Ok(schedule)
}

/// The same for a file wherever it is.
fn stem(name: &str) -> String {
    Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn cluster(table: &Table, seed: u64) -> Result<Cluster, ScenarioError> {
    let mut table = table.clone();
    let slots = table.remove("slots").unwrap_or(Value::Integer(2));
    let drawn: Drawn = draw::read("cluster", Value::Table(draw::table(seed, "cluster", &table)?))?;
    within("cluster.schedulers", drawn.schedulers, 1, 5)?;
    within("cluster.executors", drawn.executors.into(), 1, 64)?;
    within("cluster.clients", drawn.clients.into(), 1, 64)?;
    let slots = (1..=drawn.executors).map(|number| {
        let name = format!("cluster.slots of executor-{number}");
        draw::read(&name, draw::value(seed, &name, &slots)?)
    });
    Ok(Cluster {
        schedulers: drawn.schedulers,
        slots: slots.collect::<Result<_, _>>()?,
        memory_mib: drawn.memory_mib,
        clients: drawn.clients,
        min_latency_us: drawn.min_latency_us,
        max_latency_us: drawn.max_latency_us.max(drawn.min_latency_us),
        tcp_capacity: drawn.tcp_capacity,
        clock_offset_ms: drawn.clock_offset_ms,
        disk_latency_us: drawn.disk_latency_us,
        batch_cost_us: drawn.batch_cost_us,
        snapshot_every: drawn.snapshot_every,
        durable_shuffle: drawn.durable_shuffle,
    })
}

fn within(item: &'static str, value: u64, min: u64, max: u64) -> Result<(), ScenarioError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(ScenarioError::Bounds { item, value, min, max }) }
}

/// Random tables unless the scenario has its own, random ops and the scenario's own.
fn work(
    scenario: &Scenario,
    seed: u64,
    clients: u32,
    heal_at_ms: u64,
) -> Result<(Vec<schedule::Table>, Vec<Op>), ScenarioError> {
    let work: Work =
        draw::read("workload", Value::Table(draw::table(seed, "workload", &scenario.workload)?))?;
    let mut tables = scenario.tables.clone();
    if tables.is_empty() {
        tables = workload::random_tables(&mut StdRng::seed_from_u64(fork(seed, "tables")), work.size);
    }
    let until_ms = work.until_ms.unwrap_or(heal_at_ms * OPS_UNTIL_PERCENT / 100);
    let count = work.ops.unwrap_or(if scenario.ops.is_empty() { 12 } else { 0 });
    let mut random = StdRng::seed_from_u64(fork(seed, "ops"));
    let mut ops = workload::random_ops(&mut random, &tables, &work.mix, clients, count, until_ms);
    let first = ops.iter().map(|op| op.id).max().unwrap_or(0) + 1;
    for (id, given) in (first..).zip(&scenario.ops) {
        let item = format!("op {}", id - first + 1);
        let mut given = given.clone();
        let at_ms = draw::take(seed, &item, &mut given, "at_ms")?.unwrap_or(0);
        let client: u32 = draw::take(seed, &item, &mut given, "client")?.unwrap_or(1);
        within("client of an op", client.into(), 1, clients.into())?;
        let action: Action = draw::read(&item, Value::Table(draw::table(seed, &item, &given)?))?;
        ops.push(Op { id, at_ms, client, action });
    }
    ops.sort_by_key(|op| (op.at_ms, op.id));
    Ok((tables, ops))
}
