//! Shrinking schedules that a made-up bug fails on.

use super::*;
use crate::{fault::Fault, scenario};

fn budget() -> Budget {
    Budget { runs: 2_000, is_over: Box::new(|| false) }
}

fn has(schedule: &Schedule, name: &str) -> bool {
    schedule.faults.iter().any(|planned| planned.fault.name() == name)
}

#[test]
fn what_the_bug_needs_stays_and_everything_else_goes() {
    let big = busy();
    let wanted = big.ops.last().unwrap().id;
    let mut runs = 0;
    let mut run = |schedule: &Schedule| {
        runs += 1;
        let fails = has(schedule, "pause")
            && schedule.ops.iter().any(|op| op.id == wanted)
            && schedule.cluster.slots.len() >= 2
            && schedule.phases.heal_at_ms >= 1_000;
        fails.then(|| "answers".to_owned())
    };
    let small = shrink(&big, "answers", &mut run, budget());
    assert_eq!(small.faults.len(), 1);
    assert!(matches!(small.faults.first().unwrap().fault, Fault::Pause { .. }));
    assert!(small.failpoints.is_empty());
    assert_eq!(small.ops.iter().map(|op| op.id).collect::<Vec<_>>(), [wanted]);
    assert_eq!((small.cluster.schedulers, small.cluster.slots.len(), small.cluster.clients), (1, 2, 1));
    assert!((1_000..2_000).contains(&small.phases.heal_at_ms), "{}", small.phases.heal_at_ms);
    assert_eq!(small.tables.iter().map(|table| table.rows).sum::<u64>(), 0);
    assert!(runs < 150, "{runs} runs");
}

#[test]
fn two_faults_that_only_fail_together_both_stay() {
    let mut run =
        |schedule: &Schedule| (has(schedule, "pause") && has(schedule, "crash")).then(|| "status".to_owned());
    let small = shrink(&busy(), "status", &mut run, budget());
    assert_eq!(small.faults.len(), 2);
}

#[test]
fn another_violation_is_no_success() {
    let big = busy();
    let all = big.faults.len();
    let mut run = |schedule: &Schedule| {
        Some(if schedule.faults.len() == all { "answers" } else { "no-panic" }.to_owned())
    };
    let small = shrink(&big, "answers", &mut run, budget());
    assert_eq!(small.faults.len(), all);
}

#[test]
fn no_schedule_runs_twice_and_the_budget_is_kept() {
    let mut seen = BTreeSet::new();
    let mut run = |schedule: &Schedule| {
        assert!(seen.insert(schedule.to_toml().unwrap()), "twice");
        (schedule.ops.len() > 1).then(|| "x".to_owned())
    };
    let budget = Budget { runs: 30, is_over: Box::new(|| false) };
    shrink(&busy(), "x", &mut run, budget);
    assert!(seen.len() <= 30, "{}", seen.len());
}

#[test]
fn what_does_not_fail_again_stays_as_it_is() {
    let big = busy();
    assert_eq!(shrink(&big, "x", &mut |_| None, budget()), big);
}

#[test]
fn a_cluster_is_not_made_too_small_for_its_faults() {
    let big = scenario::expand("corrupt-replica", 2).unwrap();
    let mut run = |schedule: &Schedule| has(schedule, "corrupt-disk").then(|| "liveness".to_owned());
    assert_eq!(shrink(&big, "liveness", &mut run, budget()).cluster.schedulers, 3);
}

/// Crashes, pauses, failpoints, several clients, five schedulers.
fn busy() -> Schedule {
    let text = "
        about = 'x'
        [cluster]
        schedulers = 5
        executors = 6
        clients = 4
        max_latency_us = 20_000
        [workload]
        ops = 12
        [[random-fault]]
        fault = 'crash'
        target = ['leader', 'executor']
        power_loss = [true, false]
        every_ms = 700
        for_ms = '100..3000'
        [[random-fault]]
        fault = 'pause'
        target = 'leader'
        every_ms = 2_000
        for_ms = '100..3000'
        [[failpoint]]
        point = 'vote.before_saved'
        hit = 3
        then = 'hold'
        ms = 500
    ";
    scenario::Scenario::parse(text).unwrap().expand("busy", 11).unwrap()
}
