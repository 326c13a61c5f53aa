//! Scenario files, and schedules in their place.

use std::path::{Path, PathBuf};

use toml::Table;

use super::{Scenario, ScenarioError};
use crate::schedule::Schedule;

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Scenario {
        name: String,
        scenario: Box<Scenario>,
    },
    /// Written by a failing run or by `shrink`: it says all by itself.
    Schedule(Box<Schedule>),
}

impl Source {
    /// # Errors
    /// What of the text is wrong, with its line.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let wrong = |error| ScenarioError::Parse { name: name.to_owned(), error: Box::new(error) };
        let table: Table = toml::from_str(text).map_err(wrong)?;
        if table.contains_key("seed") {
            return Ok(Self::Schedule(Box::new(Schedule::parse(text).map_err(wrong)?)));
        }
        let scenario = Box::new(Scenario::parse(text).map_err(wrong)?);
        Ok(Self::Scenario { name: name.to_owned(), scenario })
    }

    /// A schedule stays as it is, with its own seed.
    ///
    /// # Errors
    /// A value of the scenario that means nothing where it is.
    pub fn expand(&self, seed: u64) -> Result<Schedule, ScenarioError> {
        match self {
            Self::Scenario { name, scenario } => scenario.expand(name, seed),
            Self::Schedule(schedule) => Ok((**schedule).clone()),
        }
    }
}

/// Reads a scenario or a schedule.
///
/// # Errors
/// The file can't be read, or something in it is wrong.
#[allow(clippy::disallowed_methods, reason = "a file of the user's, before any simulation")]
pub fn load(path: impl AsRef<Path>) -> Result<Source, ScenarioError> {
    let path = path.as_ref();
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Source::parse(&name, &text),
        Err(error) => Err(ScenarioError::Read { path: name, error }),
    }
}

/// The schedules of a folder, such as `sim/regressions/`, by name.
///
/// # Errors
/// The folder can't be read.
#[allow(clippy::disallowed_methods, reason = "a folder of the user's, before any simulation")]
pub fn regressions(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>, ScenarioError> {
    let wrong = |error| ScenarioError::Read { path: folder.as_ref().display().to_string(), error };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder.as_ref()).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
