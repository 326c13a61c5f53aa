//! Every shipped scenario means something, and the same each time.

#![allow(clippy::disallowed_methods, reason = "tests read the source tree")]

use std::{collections::BTreeSet, fs, path::Path};

use super::*;
use crate::fault::Target;

fn schedules() -> impl Iterator<Item = Schedule> {
    all().iter().flat_map(|shipped| {
        (1..=20).map(|seed| expand(shipped.name, seed).unwrap_or_else(|e| panic!("{}: {e}", shipped.name)))
    })
}

#[test]
fn each_expands_to_a_schedule_that_can_be_read_again() {
    for schedule in schedules() {
        let text = schedule.to_toml().unwrap();
        let read = Schedule::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(read, schedule);
        assert_eq!(expand(&schedule.scenario, schedule.seed).unwrap(), schedule, "the same each time");
        assert!(tenable::is_tenable(&schedule), "{text}");
        assert!(schedule.faults.iter().all(|planned| planned.at_ms < schedule.phases.heal_at_ms));
        assert!(!schedule.ops.is_empty(), "{text}");
        let ids: BTreeSet<u32> = schedule.ops.iter().map(|op| op.id).collect();
        assert_eq!(ids.len(), schedule.ops.len(), "{text}");
    }
}

#[test]
fn each_is_a_file_with_a_sentence() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().trim_end_matches(".toml").to_owned())
        .collect();
    assert_eq!(files, all().iter().map(|shipped| shipped.name.to_owned()).collect());
    assert!(files.len() > 32);
    for shipped in all() {
        assert_eq!(Scenario::parse(shipped.text).unwrap().about, shipped.about, "{}", shipped.name);
        assert!(shipped.about.ends_with('.') && shipped.about.len() < 140, "{}", shipped.about);
    }
}

/// The names of all failpoints in the real code.
fn failpoints(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            failpoints(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("failpoint!(\"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.filter(|name| name.contains('.')).map(str::to_owned));
        }
    }
}

#[test]
fn each_kind_of_fault_and_each_failpoint_is_in_one_that_is_named() {
    let mut points = BTreeSet::new();
    failpoints(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates"), &mut points);
    // The example of the macro's documentation.
    points.remove("log.after_append");
    let (mut faults, mut used) = (BTreeSet::new(), BTreeSet::new());
    for schedule in schedules().filter(|schedule| schedule.scenario != SWARM) {
        faults.extend(schedule.faults.iter().map(|planned| planned.fault.name()));
        used.extend(schedule.failpoints.into_iter().map(|failpoint| failpoint.point));
    }
    assert_eq!(used, points);
    let source = include_str!("../fault.rs");
    let names = source.lines().filter_map(|line| line.split_once("=> \"")).map(|(_, name)| name);
    for name in names.filter_map(|name| name.split('"').next()) {
        assert!(faults.contains(name), "no scenario has {name}");
    }
}

#[test]
fn the_swarm_has_quiet_seeds_and_busy_ones_and_all_kinds_of_faults() {
    let swarm: Vec<Schedule> = (1..=400).map(|seed| expand(SWARM, seed).unwrap()).collect();
    let trouble = |schedule: &Schedule| schedule.faults.len() + schedule.failpoints.len();
    let quiet = swarm.iter().filter(|schedule| trouble(schedule) == 0).count();
    assert!((20..120).contains(&quiet), "{quiet} of 400 are quiet");
    assert!(swarm.iter().any(|schedule| schedule.faults.len() >= 6));
    assert!(swarm.iter().all(|schedule| schedule.faults.len() <= 9));
    let kinds: BTreeSet<&str> =
        swarm.iter().flat_map(|schedule| &schedule.faults).map(|planned| planned.fault.name()).collect();
    assert_eq!(kinds.len(), 32, "{kinds:?}");
    let sizes: BTreeSet<u64> = swarm.iter().map(|schedule| schedule.cluster.schedulers).collect();
    assert_eq!(sizes, BTreeSet::from([1, 3, 5]));
}

#[test]
fn a_fault_taken_out_leaves_the_others_as_they_are() {
    let crash = "\n[[random-fault]]\nfault = 'crash'\ntarget = 'leader'\npower_loss = [true, false]\nevery_ms = 900\n";
    let pause =
        "\n[[random-fault]]\nfault = 'pause'\ntarget = 'executor'\nevery_ms = 700\nfor_ms = '1..900'\n";
    let expand = |text: String| Scenario::parse(&text).unwrap().expand("x", 7).unwrap();
    let both = expand(format!("about = 'x'{crash}{pause}"));
    let one = expand(format!("about = 'x'{pause}"));
    assert_eq!((&one.tables, &one.ops, &one.cluster), (&both.tables, &both.ops, &both.cluster));
    let pauses = |schedule: &Schedule| -> Vec<_> {
        let paused = schedule.faults.iter().filter(|planned| planned.fault.name() == "pause");
        paused.map(|planned| (planned.at_ms, planned.for_ms)).collect()
    };
    assert!(!pauses(&one).is_empty() && both.faults.len() > one.faults.len());
    assert_eq!(pauses(&one), pauses(&both));
}

#[test]
fn what_is_misspelt_is_refused() {
    let wrong = |text: &str| match Source::parse("x", text) {
        Ok(source) => source.expand(1).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(wrong("about = 'x'\n[cluster]\nexecuters = 2").contains("executers"));
    assert!(wrong("about = 'x'\n[[faults]]\nat_ms = 1").contains("faults"));
    assert!(wrong("about = 'x'\n[cluster]\nschedulers = 9").contains("not within 1 and 5"));
    let fault = "about = 'x'\n[[fault]]\nat_ms = 1\nfault = 'pause'\ntarget = 'leader'\nfor = 3";
    assert!(wrong(fault).contains("no `for` here"), "{}", wrong(fault));
    let fault = "about = 'x'\n[[fault]]\nfault = 'pause'\ntarget = 'leader'";
    assert!(wrong(fault).contains("`at_ms` is missing"), "{}", wrong(fault));
    assert!(expand("no-such", 1).is_err() && expand("./no/such.toml", 1).is_err());
}

#[test]
fn a_schedule_in_the_place_of_a_scenario_stays_what_it_is() {
    let schedule = expand("baseline", 3).unwrap();
    let source = Source::parse("x", &schedule.to_toml().unwrap()).unwrap();
    assert_eq!(source.expand(99).unwrap(), schedule);
}

#[test]
fn what_the_contract_rules_out_is_not_asked_for() {
    let mut schedule = expand("two-of-five-lost", 1).unwrap();
    let lost =
        |schedule: &Schedule| schedule.faults.iter().filter(|p| p.fault.name() == "corrupt-disk").count();
    assert_eq!(lost(&schedule), 2);
    for (schedulers, left) in [(3, 1), (1, 0)] {
        schedule.cluster.schedulers = schedulers;
        assert!(!tenable::is_tenable(&schedule));
        tenable::mend(&mut schedule);
        assert!(tenable::is_tenable(&schedule));
        assert_eq!(lost(&schedule), left);
    }
    let mut schedule = expand("executor-lost", 1).unwrap();
    for planned in &mut schedule.faults {
        if let crate::fault::Fault::Crash { target, .. } = &mut planned.fault {
            *target = Target::new("scheduler-2");
        }
    }
    assert!(!tenable::is_tenable(&schedule));
}

#[test]
fn the_example_in_the_comments_means_something() {
    let text = all().iter().find(|shipped| shipped.name == "baseline").unwrap().text;
    let lines = text.lines().filter(|line| !line.starts_with('#') || line.starts_with("#   "));
    let text = lines.map(|line| line.trim_start_matches("#   ")).collect::<Vec<_>>().join("\n");
    let schedule = Scenario::parse(&text).unwrap().expand("example", 3).unwrap();
    assert!(!schedule.faults.is_empty() && !schedule.failpoints.is_empty());
}
