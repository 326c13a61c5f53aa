//! Scenarios: what a seed is expanded to a schedule by. Files that a user can copy and change, see `chaos/scenarios/`.
//!
//! ```text
//!   chaos/scenarios/NAME.toml ─┐
//!   a file of the user's ──────┼─▶ Scenario + seed + length ─▶ Schedule
//!   a schedule (has `seed`) ───┘
//! ```
//!
//! The format is the simulator's, with the same choices: `[1, 3, 5]` is one of these, `"2..6"` a number of this range. What
//! only real processes know stands in `[chaos]`.

use std::path::Path;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Deserialize;
use toml::{Table, Value};

use crate::{
    draw,
    os::fork,
    schedule::{Chaos, Cluster, Phases, Planned, Schedule, exactly, tables},
};

/// Random faults begin after this, as in the simulator.
const FROM_MS: u64 = 800;
const DEFAULT_HEAL_AT_MS: u64 = 120_000;
const DEFAULT_LIVENESS_MS: u64 = 60_000;
/// Statements that the simulator makes of the small jobs, a second.
const SIMULATED_OPS: u64 = 60;

/// One that comes with the program.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    pub name: &'static str,
    pub text: &'static str,
}

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        &[$(Shipped { name: $name, text: include_str!(concat!("../scenarios/", $name, ".toml")) }),+]
    };
}

/// Ascending by name.
pub fn all() -> &'static [Shipped] {
    shipped![
        "bandwidth",
        "black-hole",
        "bridge",
        "clock-jump",
        "corrupt-shuffle",
        "corrupt-store",
        "crash",
        "crowd",
        "cut-streams",
        "disk-full",
        "drain",
        "executor-loss",
        "flap",
        "hostile",
        "isolate",
        "latency",
        "leader-hunted",
        "leader-in-minority",
        "loss",
        "membership",
        "memory-kill",
        "mixed",
        "one-way",
        "pause",
        "power-cycle",
        "power-loss",
        "quiet",
        "rolling-restart",
        "slow-disk",
    ]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One sentence.
    pub about: String,
    #[serde(default)]
    cluster: Table,
    #[serde(default)]
    phases: Table,
    #[serde(default, rename = "fault")]
    faults: Vec<Table>,
    #[serde(default, rename = "random-fault")]
    random_faults: Vec<Table>,
    #[serde(default)]
    chaos: Table,
    /// The simulator's, which have no meaning here.
    #[serde(default, rename = "workload")]
    _workload: Table,
    #[serde(default, rename = "intensity_percent")]
    _intensity: Option<Value>,
    #[serde(default, rename = "max_faults")]
    _max_faults: Option<Value>,
    #[serde(default, rename = "table")]
    _tables: Vec<Table>,
    #[serde(default, rename = "op")]
    _ops: Vec<Table>,
    #[serde(default, rename = "failpoint")]
    _failpoints: Vec<Table>,
}

impl Scenario {
    /// # Errors
    /// What of the text is no scenario.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// All that a run of this seed and length does. The same for the same text, seed and length, always.
    ///
    /// # Errors
    /// A value that means nothing where it is.
    pub fn expand(&self, name: &str, run_seed: u64, heal_at_ms: Option<u64>) -> Result<Schedule, String> {
        let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let seed = fork(run_seed, &stem);
        let phases = self.phases(seed, heal_at_ms)?;
        let mut chaos = self.chaos.clone();
        let own = tables(&mut chaos, "fault")?;
        let own_random = tables(&mut chaos, "random-fault")?;
        // A list, not a choice.
        let optional = chaos.remove("optional");
        let mut chaos = draw::table(seed, "chaos", &chaos)?;
        chaos.extend(optional.map(|kinds| ("optional".to_owned(), kinds)));
        let chaos: Chaos = exactly("chaos", chaos)?;
        let cluster = self.cluster(seed)?;
        let mut schedule =
            Schedule::new(run_seed, name, cluster, phases, chaos, simulated(run_seed, phases.heal_at_ms));
        let mut found = Vec::new();
        for (index, item) in self.faults.iter().chain(&own).enumerate() {
            found.extend(fixed(seed, &format!("fault {}", index + 1), item.clone())?);
        }
        for (index, item) in self.random_faults.iter().chain(&own_random).enumerate() {
            let name = format!("random-fault {}", named(item, index));
            found.extend(random(seed, &name, item.clone(), phases.heal_at_ms)?);
        }
        found.retain(|(at_ms, _)| *at_ms < phases.heal_at_ms);
        found.sort_by_key(|(at_ms, _)| *at_ms);
        for (id, (_, mut table)) in (1_i64..).zip(found) {
            table.insert("id".to_owned(), Value::Integer(id));
            match Planned::read(table) {
                Ok(Some(planned)) => schedule.faults.push(planned),
                Ok(None) => schedule.left_out.push(format!("fault {id} is one of the simulator alone")),
                Err(reason) if reason.contains("only the simulator") => schedule.left_out.push(reason),
                Err(reason) => return Err(reason),
            }
        }
        Ok(schedule)
    }

    fn phases(&self, seed: u64, heal_at_ms: Option<u64>) -> Result<Phases, String> {
        let mut table = self.phases.clone();
        let written = draw::take(seed, "phases", &mut table, "heal_at_ms")?;
        let liveness = draw::take(seed, "phases", &mut table, "liveness_ms")?;
        Ok(Phases {
            heal_at_ms: heal_at_ms.or(written).unwrap_or(DEFAULT_HEAL_AT_MS),
            liveness_ms: liveness.unwrap_or(DEFAULT_LIVENESS_MS),
        })
    }

    fn cluster(&self, seed: u64) -> Result<Cluster, String> {
        let mut table = self.cluster.clone();
        let slots = table.remove("slots").unwrap_or(Value::Integer(2));
        let schedulers = draw::take(seed, "cluster", &mut table, "schedulers")?.unwrap_or(3);
        let executors = draw::take(seed, "cluster", &mut table, "executors")?.unwrap_or(3_u32);
        // A real process needs more than a simulated one.
        let memory_mib =
            draw::take::<u64>(seed, "cluster", &mut table, "memory_mib")?.unwrap_or(256).max(256);
        if !(1..=9).contains(&schedulers) || !(1..=64).contains(&executors) {
            return Err(format!(
                "cluster: {schedulers} schedulers and {executors} executors; 1 to 9 and 1 to 64"
            ));
        }
        let slots = (1..=executors).map(|number| {
            let name = format!("cluster.slots of executor-{number}");
            let drawn = draw::value(seed, &name, &slots)?;
            drawn.try_into().map_err(|error| format!("{name}: {error}"))
        });
        Ok(Cluster { schedulers, slots: slots.collect::<Result<_, _>>()?, memory_mib })
    }
}

/// A shipped scenario by its name, or a file, scenario or schedule, by its path. `heal_at_ms` is the length of the run
/// up to the healing; a schedule keeps its own.
///
/// # Errors
/// There is no such scenario, or something in it is wrong.
pub fn expand(name: &str, seed: u64, heal_at_ms: Option<u64>) -> Result<Schedule, String> {
    if let Some(shipped) = all().iter().find(|shipped| shipped.name == name) {
        return Scenario::parse(shipped.text)?.expand(shipped.name, seed, heal_at_ms);
    }
    if !name.contains(['/', '.']) {
        let names: Vec<&str> = all().iter().map(|shipped| shipped.name).collect();
        return Err(format!("there is no scenario '{name}'; there are {}", names.join(", ")));
    }
    let text = std::fs::read_to_string(name).map_err(|error| format!("{name} can't be read: {error}"))?;
    let table: Table = toml::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
    let expanded = match table.contains_key("seed") {
        true => Schedule::parse(&text),
        false => Scenario::parse(&text).and_then(|scenario| scenario.expand(name, seed, heal_at_ms)),
    };
    expanded.map_err(|reason| format!("{name}: {reason}"))
}

fn named(item: &Table, index: usize) -> String {
    let name = item.get("name").or_else(|| item.get("fault")).and_then(Value::as_str);
    name.map_or_else(|| (index + 1).to_string(), str::to_owned)
}

/// Whether this seed has the item.
fn takes_part(seed: u64, name: &str, item: &mut Table) -> Result<bool, String> {
    let percent = draw::take::<u64>(seed, name, item, "in_percent")?.unwrap_or(100);
    Ok(StdRng::seed_from_u64(fork(seed, &format!("{name} takes part"))).random_range(0..100) < percent)
}

fn fixed(seed: u64, name: &str, mut item: Table) -> Result<Option<(u64, Table)>, String> {
    if !takes_part(seed, name, &mut item)? {
        return Ok(None);
    }
    let at_ms = draw::take(seed, name, &mut item, "at_ms")?.ok_or(format!("{name}: `at_ms` is missing"))?;
    let for_ms = draw::take(seed, name, &mut item, "for_ms")?;
    Ok(Some(timed(at_ms, for_ms, draw::table(seed, name, &item)?)))
}

/// Gaps are equally often anything up to twice their mean.
fn random(seed: u64, name: &str, mut item: Table, heal_at_ms: u64) -> Result<Vec<(u64, Table)>, String> {
    if !takes_part(seed, name, &mut item)? {
        return Ok(Vec::new());
    }
    item.remove("name");
    let every_ms: u64 =
        draw::take(seed, name, &mut item, "every_ms")?.ok_or(format!("{name}: `every_ms` is missing"))?;
    let at_most = draw::take::<usize>(seed, name, &mut item, "at_most")?.unwrap_or(usize::MAX);
    let mut at_ms = draw::take(seed, name, &mut item, "from_ms")?.unwrap_or(FROM_MS);
    let mut gaps = StdRng::seed_from_u64(fork(seed, &format!("{name} gaps")));
    let mut faults = Vec::new();
    loop {
        at_ms += gaps.random_range(1..=every_ms.max(1) * 2);
        if faults.len() >= at_most || at_ms >= heal_at_ms {
            return Ok(faults);
        }
        let name = format!("{name}, {}", faults.len() + 1);
        let mut item = item.clone();
        let for_ms = draw::take(seed, &name, &mut item, "for_ms")?;
        faults.push(timed(at_ms, for_ms, draw::table(seed, &name, &item)?));
    }
}

fn timed(at_ms: u64, for_ms: Option<u64>, mut table: Table) -> (u64, Table) {
    let number = |value: u64| Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
    table.insert("at_ms".to_owned(), number(at_ms));
    if let Some(for_ms) = for_ms {
        table.insert("for_ms".to_owned(), number(for_ms));
    }
    (at_ms, table)
}

/// The small jobs as statements of the simulator, so that a schedule that fails here is tried there.
fn simulated(seed: u64, heal_at_ms: u64) -> Table {
    let mut random = StdRng::seed_from_u64(fork(seed, "simulated ops"));
    let ops = (1..=SIMULATED_OPS).map(|id| {
        let statement = crate::workload::small_query(&mut random);
        let at_ms = heal_at_ms * id / (SIMULATED_OPS + 1);
        let number = |value: u64| Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
        let op: Table = [
            ("id", number(id)),
            ("at_ms", number(at_ms)),
            ("client", number(1 + id % 3)),
            ("do", Value::from("query")),
            ("sql", Value::from(statement.sql)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect();
        Value::Table(op)
    });
    [("op".to_owned(), Value::Array(ops.collect()))].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn each_file_is_shipped_and_means_something() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files: BTreeSet<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().trim_end_matches(".toml").to_owned())
            .collect();
        assert_eq!(files, all().iter().map(|shipped| shipped.name.to_owned()).collect());
        for shipped in all() {
            let about = Scenario::parse(shipped.text).unwrap().about;
            assert!(about.ends_with('.') && about.len() < 140, "{about}");
            for seed in 1..=20 {
                let schedule = expand(shipped.name, seed, Some(60_000)).unwrap();
                assert_eq!(expand(shipped.name, seed, Some(60_000)).unwrap(), schedule, "the same each time");
                assert!(schedule.left_out.is_empty(), "{:?}", schedule.left_out);
                let has_none = ["quiet", "crowd", "hostile"].contains(&shipped.name);
                assert_eq!(schedule.faults.is_empty(), has_none, "{} {seed}", shipped.name);
                assert_eq!(schedule.required().is_empty(), shipped.name == "quiet", "{}", shipped.name);
            }
        }
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        let wrong =
            |text: &str| Scenario::parse(text).and_then(|found| found.expand("x", 1, None)).unwrap_err();
        assert!(wrong("about = 'x'\n[[faults]]\nat_ms = 1").contains("faults"));
        assert!(wrong("about = 'x'\n[chaos]\nworkloads = 1").contains("workloads"));
        assert!(wrong("about = 'x'\n[[fault]]\nat_ms = 1\nfault = 'pause'").contains("target"));
        assert!(wrong("about = 'x'\n[[fault]]\nfault = 'pause'\ntarget = 'leader'").contains("at_ms"));
        assert!(expand("no-such", 1, None).is_err() && expand("./no/such.toml", 1, None).is_err());
    }
}
