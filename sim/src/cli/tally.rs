//! What a campaign was, in figures.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use crate::{coverage::Campaign, process::Outcome};

#[derive(Debug, Default)]
pub(super) struct Tally {
    runs: u64,
    /// Violations by oracle.
    broken: BTreeMap<String, u64>,
    faults: BTreeMap<String, u64>,
    ops: u64,
    answers: u64,
    rows: u64,
    failed: u64,
    jobs: u64,
    jobs_hit: u64,
    simulated: Duration,
    /// Real time of all processes together.
    wall: Duration,
    campaign: Campaign,
}

impl Tally {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        let summary = &outcome.summary;
        self.runs += 1;
        if let Some(broken) = &summary.violation {
            *self.broken.entry(broken.oracle.clone()).or_default() += 1;
        }
        for (name, count) in &summary.faults {
            *self.faults.entry(name.clone()).or_default() += count;
        }
        self.ops += summary.ops;
        self.answers += summary.answers;
        self.rows += summary.rows;
        self.failed += summary.failed;
        self.jobs += summary.jobs;
        self.jobs_hit += summary.jobs_hit;
        self.simulated += Duration::from_millis(summary.elapsed_ms);
        self.wall += outcome.wall;
        self.campaign.add(&summary.marks, &summary.failpoints);
    }

    pub(super) fn runs(&self) -> u64 {
        self.runs
    }

    pub(super) fn broken(&self) -> u64 {
        self.broken.values().sum()
    }

    /// For people; `took` is the real time of all.
    pub(super) fn text(&self, took: Duration) -> String {
        let (wall_s, took_s) = (self.wall.as_secs_f64().max(1e-9), took.as_secs_f64().max(1e-9));
        let mut text = format!("{}\n", self.campaign);
        // Writing to a string does not fail.
        let _written = self.figures(&mut text, wall_s, took_s);
        text
    }

    fn figures(&self, text: &mut String, wall_s: f64, took_s: f64) -> std::fmt::Result {
        let (runs, violations) = (self.runs, self.broken());
        let s = |count: u64| if count == 1 { "" } else { "s" };
        writeln!(text, "{runs} seed{}, {violations} violation{}", s(runs), s(violations))?;
        for (oracle, count) in &self.broken {
            writeln!(text, "{count:>10}  {oracle}")?;
        }
        let faults: u64 = self.faults.values().sum();
        writeln!(
            text,
            "{} ops: {} queries answered with {} rows, {} failed",
            self.ops, self.answers, self.rows, self.failed
        )?;
        writeln!(text, "{faults} faults of {} kinds", self.faults.len())?;
        let share = self.jobs_hit as f64 * 100.0 / self.jobs.max(1) as f64;
        writeln!(text, "{} of {} jobs lost an executor ({share:.0} %)", self.jobs_hit, self.jobs)?;
        writeln!(
            text,
            "{:.0} seeds a minute a core, {:.1} simulated seconds a wall second ({:.1} processes at once, {:.1} min)",
            runs as f64 * 60.0 / wall_s,
            self.simulated.as_secs_f64() / wall_s,
            wall_s / took_s,
            took_s / 60.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Broken, Summary};

    #[test]
    fn rates_are_per_process_and_violations_by_oracle() {
        let mut tally = Tally::default();
        let broken = Broken { oracle: "slots".to_owned(), what: String::new(), at_ms: 1 };
        for violation in [None, Some(broken)] {
            let summary = Summary { violation, elapsed_ms: 6_000, ..Summary::default() };
            tally.add(&Outcome { summary, digest: None, wall: Duration::from_secs(2) });
        }
        let text = tally.text(Duration::from_secs(2));
        assert!(text.contains("2 seeds, 1 violation\n"), "{text}");
        assert!(text.contains("1  slots"), "{text}");
        assert!(
            text.contains("30 seeds a minute a core, 3.0 simulated seconds a wall second (2.0 processes"),
            "{text}"
        );
    }
}
