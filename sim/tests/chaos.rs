//! A schedule is one thing: what `chaos/` writes the simulator reads, and the other way round.

#![allow(clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;

use polybolos_chaos::{scenario as theirs, schedule::Schedule as TheirSchedule};
use polybolos_sim::{
    scenario::{self, Scenario},
    schedule::Schedule,
};
use toml::{Table, Value};

const HEAL_AT_MS: u64 = 60_000;

/// Time, length, kind and target of each fault.
type Faults = Vec<(u64, Option<u64>, String, Option<String>)>;

fn of_simulator(schedule: &Schedule) -> Faults {
    let mut faults: Faults = schedule
        .faults
        .iter()
        .map(|planned| {
            let target = planned.fault.target().map(ToString::to_string);
            (planned.at_ms, planned.for_ms, planned.fault.name().to_owned(), target)
        })
        .collect();
    faults.sort();
    faults
}

fn of_chaos(schedule: &TheirSchedule) -> Faults {
    let shared = schedule.faults.iter().filter(|planned| !planned.fault.is_only_here());
    let mut faults: Faults = shared
        .map(|planned| {
            let target = planned.fault.target().map(ToString::to_string);
            (planned.at_ms, planned.for_ms, planned.fault.name().to_owned(), target)
        })
        .collect();
    faults.sort();
    faults
}

#[test]
fn the_simulator_reads_the_schedules_of_chaos() {
    for shipped in theirs::all() {
        for seed in 1..=10 {
            let schedule = theirs::expand(shipped.name, seed, Some(HEAL_AT_MS)).expect("it means something");
            let text = schedule.to_toml().expect("it can be written");
            let read =
                Schedule::parse(&text).unwrap_or_else(|error| panic!("{}: {error}\n{text}", shipped.name));
            assert_eq!(of_simulator(&read), of_chaos(&schedule), "{}", shipped.name);
            assert_eq!(read.phases.heal_at_ms, HEAL_AT_MS);
            assert!(!read.ops.is_empty(), "nothing would be asked of the simulated cluster");
        }
    }
}

#[test]
fn a_scenario_and_seed_mean_the_same_to_both() {
    for shipped in theirs::all() {
        let mut file: Table = toml::from_str(shipped.text).expect("a scenario");
        let phases = file.entry("phases").or_insert_with(|| Value::Table(Table::new()));
        let phases = phases.as_table_mut().expect("a table");
        phases.insert("heal_at_ms".to_owned(), Value::Integer(60_000));
        let text = toml::to_string(&file).expect("it can be written");
        for seed in 1..=10 {
            let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", shipped.name));
            let simulated = scenario.expand(shipped.name, seed).expect("it means something");
            let real = theirs::expand(shipped.name, seed, Some(HEAL_AT_MS)).expect("it means something");
            assert_eq!(of_simulator(&simulated), of_chaos(&real), "{} {seed}", shipped.name);
            assert_eq!(simulated.cluster.slots, real.cluster.slots, "{}", shipped.name);
        }
    }
}

/// Each kind of fault is in one of the simulator's scenarios, so that all are met here.
#[test]
fn chaos_reads_the_schedules_of_the_simulator() {
    let mut kinds = BTreeSet::new();
    for shipped in scenario::all() {
        for seed in 1..=5 {
            let schedule = scenario::expand(shipped.name, seed).expect("it means something");
            let text = schedule.to_toml().expect("it can be written");
            let read = TheirSchedule::parse(&text)
                .unwrap_or_else(|error| panic!("{}: {error}\n{text}", shipped.name));
            let (all, kept) = (of_simulator(&schedule), of_chaos(&read));
            assert_eq!(kept.len() + read.left_out.len(), all.len(), "{}: {:?}", shipped.name, read.left_out);
            assert!(kept.iter().all(|fault| all.contains(fault)), "{}", shipped.name);
            kinds.extend(kept.into_iter().map(|(_, _, kind, _)| kind));
        }
    }
    for kind in ["clock-jump", "slow-disk", "power-loss", "power-cycle", "black-hole", "cut-streams"] {
        assert!(kinds.contains(kind), "{kind} is left out, or met nowhere: {kinds:?}");
    }
}
