//! What a run reached, and what a campaign never did.
//!
//! ```text
//!   moments ─▶ Coverage ──▶ counts of one run ─┐
//!               │ state (state.rs)              ├─▶ Campaign ─▶ the table, and what is missing in it
//!               └ names (names.rs)   other runs ┘
//! ```
//!
//! Keys: `fault:CRASH × STATE`, `mark:…` (see `sometimes!`), `acted:…` (a failpoint held somebody or cut a power), and, from
//! a run's summary, `failpoint:…` (it was reached).

mod names;
mod state;

use std::{collections::BTreeMap, fmt};

#[cfg(test)]
pub(crate) use self::names::tests::calls_of;
use self::state::State;
pub use self::{
    names::{FAILPOINTS, FAULTS, MARKS},
    state::STATES,
};
use crate::{
    moment::{Moment, What},
    schedule::Schedule,
};

/// How often something was reached, by key.
pub type Counts = BTreeMap<String, u64>;

/// Of one run.
#[derive(Debug)]
pub struct Coverage {
    state: State,
    counts: Counts,
}

impl Coverage {
    pub fn new(schedule: &Schedule) -> Self {
        Self { state: State::new(schedule), counts: Counts::new() }
    }

    pub fn on(&mut self, moment: &Moment) {
        match &moment.what {
            What::FaultBegins { name, .. } => {
                for state in self.state.names() {
                    self.count(cell(name, state));
                }
            }
            What::Mark(mark) => self.count(format!("mark:{mark}")),
            What::Failpoint { point, .. } => self.count(format!("acted:{point}")),
            _ => {}
        }
        self.state.on(moment);
    }

    fn count(&mut self, key: String) {
        *self.counts.entry(key).or_default() += 1;
    }

    pub fn into_counts(self) -> Counts {
        self.counts
    }
}

fn cell(fault: &str, state: &str) -> String {
    format!("fault:{fault} × {state}")
}

/// Of many runs.
#[derive(Debug, Clone, Default)]
pub struct Campaign {
    runs: u64,
    counts: Counts,
}

impl Campaign {
    /// `counts` are those of [`Coverage`], `failpoints` says how often each one was reached.
    pub fn add(&mut self, counts: &Counts, failpoints: &Counts) {
        self.runs += 1;
        let failpoints = failpoints.iter().map(|(point, count)| (format!("failpoint:{point}"), count));
        let all = counts.iter().map(|(key, count)| (key.clone(), count)).chain(failpoints);
        for (key, count) in all {
            *self.counts.entry(key).or_default() += count;
        }
    }

    pub fn count(&self, key: &str) -> u64 {
        self.counts.get(key).copied().unwrap_or_default()
    }

    /// Cells of the table that were reached, and all of them.
    pub fn cells(&self) -> (usize, usize) {
        let all = FAULTS.iter().flat_map(|fault| STATES.iter().map(move |state| cell(fault, state)));
        (all.filter(|key| self.count(key) > 0).count(), FAULTS.len() * STATES.len())
    }

    /// Marks and failpoints that no run reached.
    pub fn never(&self) -> Vec<String> {
        let marks = MARKS.iter().map(|mark| format!("mark:{mark}"));
        let points = FAILPOINTS.iter().map(|point| format!("failpoint:{point}"));
        marks.chain(points).filter(|key| self.count(key) == 0).collect()
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:20}", "fault began while")?;
        for state in STATES {
            write!(f, "  {state}")?;
        }
        writeln!(f)?;
        for fault in FAULTS {
            write!(f, "{fault:20}")?;
            for state in STATES {
                let width = state.chars().count() + 2;
                match self.count(&cell(fault, state)) {
                    0 => write!(f, "{:>width$}", "-")?,
                    count => write!(f, "{count:>width$}")?,
                }
            }
            writeln!(f)?;
        }
        let (reached, all) = self.cells();
        writeln!(f, "{reached} of {all} cells in {} runs", self.runs)
    }

    fn list(&self, f: &mut fmt::Formatter<'_>, kind: &str, names: &[&str]) -> fmt::Result {
        let count = |name: &str| self.count(&format!("{kind}:{name}"));
        let reached = names.iter().filter(|name| count(name) > 0).count();
        writeln!(f, "\n{kind}s: {reached} of {} reached", names.len())?;
        for name in names {
            writeln!(f, "{:>10}  {name}", count(name))?;
        }
        Ok(())
    }
}

impl fmt::Display for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table(f)?;
        self.list(f, "mark", MARKS)?;
        self.list(f, "failpoint", FAILPOINTS)?;
        let never = self.never();
        if never.is_empty() {
            return writeln!(f, "\nnothing was never reached");
        }
        writeln!(f, "\nnever reached:")?;
        never.iter().try_for_each(|key| writeln!(f, "  {key}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{state::tests::*, *};

    #[test]
    fn a_fault_counts_in_every_state_that_it_meets_and_runs_add_up() {
        let mut run = Coverage::new(&schedule(1));
        run.on(&up("executor-1"));
        run.on(&elected("scheduler-1", 1));
        run.on(&fault_begins(1, "crash"));
        run.on(&fault_begins(2, "pause"));
        run.on(&moment("scheduler-1", What::Mark("a vote was refused")));
        let counts = run.into_counts();
        assert_eq!(counts.get("fault:crash × idle"), Some(&1));
        assert_eq!(counts.get("fault:pause × another fault"), Some(&1));
        let mut campaign = Campaign::default();
        let hits = Counts::from([("shuffle.mid_fetch".to_owned(), 7)]);
        campaign.add(&counts, &hits);
        campaign.add(&counts, &hits);
        assert_eq!(campaign.count("fault:crash × idle"), 2);
        assert_eq!(campaign.cells(), (2, FAULTS.len() * STATES.len()));
        let never = campaign.never();
        assert!(never.contains(&"mark:a snapshot was built".to_owned()));
        assert!(!never.contains(&"mark:a vote was refused".to_owned()));
        assert!(!never.contains(&"failpoint:shuffle.mid_fetch".to_owned()));
        let text = campaign.to_string();
        assert!(text.contains("2 of ") && text.contains("never reached:"), "{text}");
    }
}
