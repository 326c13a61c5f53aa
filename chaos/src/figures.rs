//! Figures of a run as its clients saw it: how many operations, which errors, and how long each fault was felt.

use std::collections::BTreeMap;

use jepsen_lite::{Kind, Operation};
use serde::Serialize;

use crate::{
    history::class,
    journal::{Entry, What},
};

const NS_PER_MS: u64 = 1_000_000;
/// Throughput is normal again when this share of the usual one is reached over a window.
const NORMAL_SHARE: f64 = 0.7;
const WINDOW_S: usize = 3;
/// So long after the end of a fault it is asked how long it was felt.
const FELT_MS: u64 = 15_000;

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    pub operations: usize,
    pub ok: usize,
    pub failed: usize,
    pub unknown: usize,
    /// By class, of operations that failed or whose outcome is unknown.
    pub errors: BTreeMap<&'static str, usize>,
    /// Of operations that ended ok, by their function: number, median and 99th percentile in ms.
    pub latencies: BTreeMap<String, (usize, u64, u64)>,
    pub elections: usize,
    pub executors_lost: usize,
    /// Of seconds without a fault, in operations that ended ok: the median.
    pub usual_per_second: f64,
    #[serde(skip)]
    ok_per_second: Vec<u32>,
}

/// How long a fault was felt. `None` where that can't be told, as nothing ended ok any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// From its begin to the end of the first operation that began after it and ended ok.
    pub first_ok_ms: Option<u64>,
    /// Longest time in which no operation ended ok, of those that it or the 15 s after it meet.
    pub gap_ms: Option<u64>,
    /// From its end until the throughput was normal.
    pub normal_ms: Option<u64>,
}

/// When an operation that ended ok did so, in ms.
fn ok_at(operation: &Operation) -> Option<u64> {
    operation.end_ns.filter(|_| operation.kind == Kind::Ok).map(|end| end / NS_PER_MS)
}

pub fn figures(operations: &[Operation], entries: &[Entry]) -> Figures {
    let mut figures = Figures { operations: operations.len(), ..Figures::default() };
    let mut latencies: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for operation in operations {
        match operation.kind {
            Kind::Ok => figures.ok += 1,
            Kind::Fail => figures.failed += 1,
            Kind::Invoke | Kind::Info => figures.unknown += 1,
        }
        if let Some(error) = &operation.error {
            *figures.errors.entry(class(error)).or_default() += 1;
        }
        if let Some(end) = ok_at(operation) {
            let second = usize::try_from(end / 1_000).unwrap_or(0);
            if figures.ok_per_second.len() <= second {
                figures.ok_per_second.resize(second + 1, 0);
            }
            figures.ok_per_second[second] += 1;
            latencies
                .entry(operation.f.clone())
                .or_default()
                .push(end.saturating_sub(operation.start_ns / NS_PER_MS));
        }
    }
    for (f, mut all) in latencies {
        all.sort_unstable();
        let at = |percent: usize| all.get((all.len() - 1) * percent / 100).copied().unwrap_or(0);
        figures.latencies.insert(f, (all.len(), at(50), at(99)));
    }
    figures.elections = entries.iter().filter(|entry| matches!(entry.what, What::Leads { .. })).count();
    let lost = |what: &What| matches!(what, What::Executor { state, .. } if state == "lost");
    figures.executors_lost = entries.iter().filter(|entry| lost(&entry.what)).count();
    figures.usual_per_second = usual(&figures.ok_per_second, entries);
    figures
}

/// The median of the seconds in which no fault was under way; of all if there is none.
fn usual(per_second: &[u32], entries: &[Entry]) -> f64 {
    let mut under_way = 0_i32;
    let mut changes = entries.iter().peekable();
    let mut quiet = Vec::new();
    for (second, count) in per_second.iter().enumerate() {
        let mut is_quiet = under_way == 0;
        while let Some(entry) = changes.next_if(|entry| entry.at_ms < (second as u64 + 1) * 1_000) {
            match entry.what {
                What::FaultBegins { .. } => (under_way, is_quiet) = (under_way + 1, false),
                What::FaultEnds { .. } => under_way -= 1,
                _ => {}
            }
        }
        if is_quiet {
            quiet.push(*count);
        }
    }
    let mut all = if quiet.is_empty() { per_second.to_vec() } else { quiet };
    all.sort_unstable();
    all.get(all.len() / 2).copied().map_or(0.0, f64::from)
}

impl Figures {
    /// How long a fault that began and ended then was felt.
    pub fn recovery(&self, operations: &[Operation], begins_ms: u64, ends_ms: u64) -> Recovery {
        let began_after = operations.iter().filter(|operation| operation.start_ns / NS_PER_MS >= begins_ms);
        let first = began_after.filter_map(ok_at).min();
        let until_ms = ends_ms + FELT_MS;
        let mut ends: Vec<u64> = operations.iter().filter_map(ok_at).collect();
        ends.sort_unstable();
        let gaps = ends.iter().zip(ends.iter().skip(1));
        let met = gaps.filter(|(from, to)| **to >= begins_ms && **from <= until_ms);
        let first_window = usize::try_from(ends_ms / 1_000).unwrap_or(usize::MAX);
        let is_normal = |second: &usize| {
            let window = self.ok_per_second.get(*second..*second + WINDOW_S).unwrap_or_default();
            let mean = f64::from(window.iter().sum::<u32>()) / WINDOW_S as f64;
            window.len() == WINDOW_S && mean >= self.usual_per_second * NORMAL_SHARE
        };
        let normal = (first_window..self.ok_per_second.len()).find(is_normal);
        Recovery {
            first_ok_ms: first.map(|at| at.saturating_sub(begins_ms)),
            gap_ms: met.map(|(from, to)| to - from).max(),
            normal_ms: normal.map(|second| (second as u64 * 1_000).saturating_sub(ends_ms)),
        }
    }

    /// Operations that ended ok in each second.
    pub fn ok_per_second(&self) -> &[u32] {
        &self.ok_per_second
    }
}

#[cfg(test)]
mod tests {
    use jepsen_lite::{Event, History};

    use super::*;

    fn operations(ends_ms: &[u64]) -> Vec<Operation> {
        let events = ends_ms.iter().zip(0..).flat_map(|(end, process)| {
            let ns = end * NS_PER_MS;
            [Event::invoke(process, ns - NS_PER_MS, "read"), Event::ok(process, ns, "read")]
        });
        History::from_events(events).unwrap().operations().to_vec()
    }

    #[test]
    fn a_fault_is_felt_until_all_is_as_usual() {
        let mut ends: Vec<u64> = (10..400).map(|n| n * 100).collect();
        ends.retain(|at| !(10_000..14_500).contains(at));
        let operations = operations(&ends);
        let entry = |at_ms, what| Entry { at_ms, what };
        let (name, target) = ("pause".to_owned(), "leader".to_owned());
        let entries = [
            entry(10_000, What::FaultBegins { id: 1, name: name.clone(), target: target.clone() }),
            entry(13_000, What::FaultEnds { id: 1, name, target, acted: true, evidence: String::new() }),
            entry(13_100, What::Leads { node: "scheduler-2".to_owned(), term: 2 }),
        ];
        let figures = figures(&operations, &entries);
        assert_eq!((figures.usual_per_second, figures.elections, figures.ok), (10.0, 1, ends.len()));
        let felt = figures.recovery(&operations, 10_000, 13_000);
        assert_eq!((felt.first_ok_ms, felt.gap_ms, felt.normal_ms), (Some(4_500), Some(4_600), Some(1_000)));
    }
}
