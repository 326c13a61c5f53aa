//! The leader is killed, or paused until it wakes up as a zombie, again and again, under verified queries.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    alone,
    audit::Audit,
    fleet::Fleet,
    load::{Load, Seen, Tpch},
    setting,
};

const CLIENTS: usize = 4;
/// How long a paused leader is paused: far longer than a lease.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Pause,
}

/// Draws the moments of the faults.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = setting("POLYBOLOS_SEED", now.as_nanos() as u64 % 1_000_000);
        eprintln!("POLYBOLOS_SEED={seed}");
        Self(seed)
    }

    /// A time up to `limit_ms`.
    fn below(&mut self, limit_ms: u64) -> Duration {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Duration::from_millis((z ^ (z >> 31)) % limit_ms)
    }
}

async fn strike(fleet: &mut Fleet, fault: Fault, dice: &mut Dice) {
    sleep(Duration::from_millis(200) + dice.below(2_500)).await;
    let at = fleet.leader().await;
    let struck = Instant::now();
    match fault {
        Fault::Kill => fleet.schedulers[at].kill(),
        Fault::Pause => fleet.schedulers[at].pause(),
    }
    let name = fleet.schedulers[at].name.clone();
    let next = loop {
        match fleet.leader_now().await {
            Some((next, term)) => break format!("{} in term {term}", fleet.schedulers[next].name),
            None => sleep(Duration::from_millis(5)).await,
        }
        assert!(struck.elapsed() < Duration::from_secs(20), "nobody leads after {name}");
    };
    eprintln!("{fault:?}: {next} leads {:?} after {name}", struck.elapsed());
    match fault {
        Fault::Kill => {
            sleep(dice.below(1_000)).await;
            fleet.schedulers[at].start().await;
        }
        Fault::Pause => {
            sleep(PAUSE.saturating_sub(struck.elapsed())).await;
            fleet.schedulers[at].resume();
        }
    }
}

async fn lose_leaders(fault: Fault, rounds: u64) {
    let mut fleet = Fleet::plan(3, 2);
    fleet.schedulers.iter_mut().for_each(|node| node.filter = Audit::SCHEDULER_FILTER.to_owned());
    fleet.executors.iter_mut().for_each(|node| node.filter = Audit::EXECUTOR_FILTER.to_owned());
    let tpch = Tpch::make().await;
    fleet.start_all().await;
    tpch.register(&fleet.client()).await;
    let mut dice = Dice::new();
    let load = Load::start(&fleet, &tpch, CLIENTS);
    for _ in 0..rounds {
        strike(&mut fleet, fault, &mut dice).await;
    }
    sleep(Duration::from_secs(1)).await;
    let seen = load.stop().await;
    check(&fleet, &seen).await;
}

async fn check(fleet: &Fleet, seen: &Seen) {
    let slowest = seen.answers.iter().max().copied().unwrap_or_default();
    eprintln!("{} right answers, the slowest after {slowest:?}", seen.answers.len());
    assert!(seen.failures.is_empty(), "{:#?}", seen.failures);
    assert!(seen.answers.len() > CLIENTS, "the clients did not get on");

    fleet.agree().await;
    let jobs = fleet.client().jobs().await.unwrap();
    let unfinished: Vec<_> = jobs.iter().filter(|job| job.tasks_done != job.tasks).collect();
    assert!(unfinished.is_empty(), "{unfinished:#?}");

    let audit = Audit::of(fleet);
    let twice = audit.started_twice();
    eprintln!("{} tasks completed, {} of them started twice: {twice:#?}", audit.completed(), twice.len());
    let (reruns, unexplained) = (audit.reruns(), audit.unexplained());
    assert!(reruns.is_empty(), "committed tasks ran again: {reruns:#?}");
    assert!(unexplained.is_empty() && audit.completed() > seen.answers.len(), "{unexplained:#?}");
}

#[test]
fn a_killed_leader_costs_a_pause_and_nothing_else() {
    let rounds = setting("POLYBOLOS_KILLS", 4);
    alone(Duration::from_secs(120 + 15 * rounds), lose_leaders(Fault::Kill, rounds));
}

#[test]
fn a_paused_leader_wakes_up_as_nobody() {
    let rounds = setting("POLYBOLOS_PAUSES", 2);
    alone(Duration::from_secs(120 + 25 * rounds), lose_leaders(Fault::Pause, rounds));
}
