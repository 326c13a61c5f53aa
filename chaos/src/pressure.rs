//! What load and hostile input did to the cluster, from the events of a run.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    hostile::Toll,
    journal::{Entry, What},
    workload::CrowdToll,
};

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Whether it acted, and what came of it, by kind.
    pub kinds: BTreeMap<String, (bool, Toll)>,
    pub crowd: Option<CrowdToll>,
    /// The most that a process of a node had in memory, in MiB, over all its lives.
    pub peak_mib: BTreeMap<String, u64>,
}

impl Pressure {
    pub fn of(entries: &[Entry]) -> Self {
        let mut pressure = Self::default();
        for entry in entries {
            match &entry.what {
                What::Pressed { kind, acted, toll } => {
                    pressure.kinds.insert(kind.clone(), (*acted, toll.clone()));
                }
                What::Crowd { toll } => pressure.crowd = Some(toll.clone()),
                What::Memory { node, peak_mib, .. } => {
                    let most = pressure.peak_mib.entry(node.clone()).or_default();
                    *most = (*most).max(*peak_mib);
                }
                _ => {}
            }
        }
        pressure
    }

    pub fn acted(&self, kind: &str) -> bool {
        self.kinds.get(kind).is_some_and(|(acted, _)| *acted)
    }

    /// Promises that were broken.
    pub fn broken(&self, max_rss_mib: Option<u64>) -> Vec<String> {
        let mut found = Vec::new();
        for (kind, (_, toll)) in &self.kinds {
            let first = &toll.first_wrong;
            if toll.hung > 0 {
                found.push(format!(
                    "{kind}: {} tries had no end at their deadline; the first wrong one: {first}",
                    toll.hung
                ));
            }
            if toll.taken > 0 {
                found.push(format!(
                    "{kind}: {} tries were answered like right requests; the first wrong one: {first}",
                    toll.taken
                ));
            }
        }
        if let Some(crowd) = self.crowd.as_ref().filter(|crowd| crowd.right < crowd.queries) {
            let CrowdToll { right, wrong, queries, .. } = crowd;
            found.push(format!(
                "the crowd: {right} of {queries} queries were answered rightly, and {wrong} wrongly"
            ));
        }
        for (node, peak) in &self.peak_mib {
            if let Some(max) = max_rss_mib.filter(|max| peak > max) {
                found.push(format!("{node} had {peak} MiB in memory, and may have {max}"));
            }
        }
        found
    }

    /// For a terminal.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(crowd) = &self.crowd {
            lines.push(format!(
                "  crowd of {}: {} of {} queries right, {:.0} a second, median {} ms, 99 % {} ms, worst {} ms, {} errors",
                crowd.clients,
                crowd.right,
                crowd.queries,
                crowd.per_second(),
                crowd.median_ms,
                crowd.high_ms,
                crowd.worst_ms,
                crowd.errors.values().sum::<u32>()
            ));
        }
        for (kind, (_, toll)) in &self.kinds {
            let ends: Vec<String> = toll.ends.iter().map(|(end, count)| format!("{end} {count}")).collect();
            lines.push(format!("  {kind:<20} {:>5} tries: {}", toll.sent, ends.join(", ")));
        }
        if !self.peak_mib.is_empty() {
            let peaks: Vec<String> =
                self.peak_mib.iter().map(|(node, mib)| format!("{node} {mib}")).collect();
            lines.push(format!("  most in memory, MiB: {}", peaks.join(", ")));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(what: What) -> Entry {
        Entry { at_ms: 1, what }
    }

    #[test]
    fn what_hangs_is_taken_or_grows_is_a_broken_promise() {
        let toll = Toll { sent: 3, hung: 1, taken: 1, first_wrong: "it".to_owned(), ..Toll::default() };
        let memory = |peak_mib| What::Memory { node: "executor-1".to_owned(), now_mib: 1, peak_mib };
        let crowd = CrowdToll { queries: 5, right: 4, ..CrowdToll::default() };
        let entries = [
            entry(What::Pressed { kind: "empty".to_owned(), acted: false, toll }),
            entry(memory(700)),
            entry(memory(80)),
            entry(What::Crowd { toll: crowd }),
        ];
        let pressure = Pressure::of(&entries);
        assert_eq!(pressure.peak_mib["executor-1"], 700);
        assert!(!pressure.acted("empty") && !pressure.acted("malformed"));
        assert_eq!(pressure.broken(Some(699)).len(), 4, "{:?}", pressure.broken(Some(699)));
        assert_eq!(pressure.broken(Some(700)).len(), 3);
        assert_eq!(pressure.broken(None).len(), 3);
        assert!(Pressure::default().broken(Some(1)).is_empty());
    }
}
