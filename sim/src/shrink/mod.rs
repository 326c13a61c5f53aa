//! Makes a failing schedule small: takes away whatever it fails without.
//!
//! ```text
//!   schedule ─▶ steps (items, hosts, data, times) ─▶ candidate ─▶ run ─▶ the same oracle is violated? ─┬─▶ keep it
//!                 ▲                                                                                    └─▶ drop it
//!                 └────────────────────────────── until none is kept, or the budget is spent ◀────────────┘
//! ```
//!
//! Lists are made smaller by delta debugging (Zeller, Hildebrandt: "Simplifying and Isolating Failure-Inducing Input"):
//! halves first, then smaller and smaller pieces. Every part of a run has its own fork of the seed, so that the rest of
//! a schedule means the same without a part of it. Deliberately absent: how a schedule is run.

mod hosts;
mod items;
mod values;

use std::collections::BTreeSet;

use crate::{scenario::tenable, schedule::Schedule};

/// What shrinking may cost.
pub struct Budget {
    pub runs: u32,
    /// Asked before each run: whether the time is up.
    pub is_over: Box<dyn FnMut() -> bool>,
}

/// Runs a schedule and tells which oracle was violated.
pub type Run<'a> = dyn FnMut(&Schedule) -> Option<String> + 'a;

/// The smallest schedule found that violates the same oracle; the same schedule if it violates it no more. Says on
/// standard error how far it is.
pub fn shrink(schedule: &Schedule, oracle: &str, run: &mut Run<'_>, budget: Budget) -> Schedule {
    let mut shrink = Shrink { best: schedule.clone(), oracle, run, budget, runs: 0, tried: BTreeSet::new() };
    if !shrink.fails(schedule) {
        shrink.say("it does not violate the oracle again, so it stays as it is");
        return shrink.best;
    }
    loop {
        let before = shrink.best.clone();
        // What makes runs shorter comes first.
        items::ops(&mut shrink);
        items::faults(&mut shrink);
        items::failpoints(&mut shrink);
        hosts::all(&mut shrink);
        values::times(&mut shrink);
        values::data(&mut shrink);
        values::defaults(&mut shrink);
        if shrink.best == before || shrink.is_over() {
            shrink.say("done");
            return shrink.best;
        }
    }
}

/// The search. Its steps only call [`Shrink::attempt`].
struct Shrink<'a, 'b> {
    best: Schedule,
    oracle: &'a str,
    run: &'a mut Run<'b>,
    budget: Budget,
    runs: u32,
    /// What was run, as text: no schedule runs twice.
    tried: BTreeSet<String>,
}

impl Shrink<'_, '_> {
    /// Keeps what `change` makes of the best one, if it is another and still fails. Tells whether it was kept.
    fn attempt(&mut self, change: impl FnOnce(&mut Schedule)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        if candidate == self.best || !tenable::is_tenable(&candidate) || !self.fails(&candidate) {
            return false;
        }
        self.best = candidate;
        self.say("smaller");
        true
    }

    fn fails(&mut self, candidate: &Schedule) -> bool {
        let Ok(text) = candidate.to_toml() else { return false };
        if self.is_over() || !self.tried.insert(text) {
            return false;
        }
        self.runs += 1;
        (self.run)(candidate).as_deref() == Some(self.oracle)
    }

    fn is_over(&mut self) -> bool {
        self.runs >= self.budget.runs || (self.budget.is_over)()
    }

    fn say(&self, what: &str) {
        let Schedule { cluster, tables, ops, faults, failpoints, phases, .. } = &self.best;
        let rows: u64 = tables.iter().map(|table| table.rows).sum();
        eprintln!(
            "shrink: run {}: {what}: {} schedulers, {} executors, {} clients, {} ops, {} faults, {} failpoints, \
             {} tables of {rows} rows, {} ms",
            self.runs,
            cluster.schedulers,
            cluster.slots.len(),
            cluster.clients,
            ops.len(),
            faults.len(),
            failpoints.len(),
            tables.len(),
            phases.heal_at_ms,
        );
    }
}

#[cfg(test)]
mod tests;
