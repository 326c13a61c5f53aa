//! Scenarios: what a seed is expanded to a schedule by. Files that a user can copy and change, see `sim/scenarios/`.
//!
//! ```text
//!   sim/scenarios/NAME.toml ─┐
//!   a file of the user's ────┼─▶ Scenario + seed ─▶ expand ─▶ Schedule
//!   a schedule (has `seed`) ─┘                         └─▶ tenable: nothing that the contract rules out
//! ```
//!
//! Wherever a scenario has a value, it may have a choice: `[1, 3, 5]` is one of these, `"2..6"` a number of this range,
//! both ends included. Each is drawn from a fork of the seed by its own name, so that a change of one leaves the others
//! as they are. Deliberately absent: anything that looks at a clock or a run.

mod draw;
mod error;
mod expand;
mod faults;
mod files;
mod shipped;
pub mod tenable;

use serde::Deserialize;
use toml::{Table, Value};

pub use self::{
    error::ScenarioError,
    files::{Source, load, regressions},
    shipped::{SWARM, Shipped, all},
};
use crate::schedule::{self, Schedule};

/// A scenario file. Tables and ops that it gives take the place of random ones; everything has a default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One sentence.
    pub about: String,
    /// As [`schedule::Cluster`], but `executors` is their number, and `slots` is drawn for each.
    #[serde(default)]
    cluster: Table,
    /// As [`schedule::Phases`].
    #[serde(default)]
    phases: Table,
    /// `size` of the random tables, number of random `ops`, `until_ms` within which they start, and their `mix`.
    #[serde(default)]
    workload: Table,
    /// Multiplies `in_percent` of all faults and failpoints: 0 is a seed without any.
    #[serde(default)]
    intensity_percent: Option<Value>,
    /// More faults than that are thinned out.
    #[serde(default)]
    max_faults: Option<Value>,
    /// Without choices.
    #[serde(default, rename = "table")]
    tables: Vec<schedule::Table>,
    /// As [`schedule::Op`], without `id`.
    #[serde(default, rename = "op")]
    ops: Vec<Table>,
    /// As [`schedule::Planned`], without `id`; `in_percent` of the seeds have it.
    #[serde(default, rename = "fault")]
    faults: Vec<Table>,
    /// As [`schedule::Failpoint`], without `id`; `in_percent` of the seeds have it.
    #[serde(default, rename = "failpoint")]
    failpoints: Vec<Table>,
    /// A fault again and again, `every_ms` on the average, `at_most` so often, from `from_ms` on.
    #[serde(default, rename = "random-fault")]
    random_faults: Vec<Table>,
    /// What only a run of real processes knows (`chaos/`); passed over here.
    #[serde(default, rename = "chaos")]
    _chaos: Table,
}

impl Scenario {
    /// From a file's text.
    ///
    /// # Errors
    /// What of it is no scenario, with its line.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// All that a run of this seed does. `name` is for people. The same for the same text and seed, always.
    ///
    /// # Errors
    /// A value that means nothing where it is.
    pub fn expand(&self, name: &str, seed: u64) -> Result<Schedule, ScenarioError> {
        expand::expand(self, name, seed)
    }
}

/// Expands a shipped scenario by its name, or a file by its path. A file that is a schedule stays what it is.
///
/// # Errors
/// There is no such scenario, or something in it is wrong.
pub fn expand(name: &str, seed: u64) -> Result<Schedule, ScenarioError> {
    if let Some(shipped) = all().iter().find(|shipped| shipped.name == name) {
        return Source::parse(shipped.name, shipped.text)?.expand(seed);
    }
    if !name.contains(['/', '.']) {
        return Err(ScenarioError::Unknown { name: name.to_owned() });
    }
    load(name)?.expand(seed)
}

#[cfg(test)]
mod tests;
