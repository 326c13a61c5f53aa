//! What a person names, as an order: a seed of a scenario, a schedule's file, or a trace, which has its schedule within.

use std::{
    fs::File,
    io::{BufReader, Write},
    path::{Path, PathBuf},
};

use super::CliError;
use crate::{
    mutants::{self, CANARY},
    oracles::Judge,
    process::Order,
    scenario,
    schedule::Schedule,
    trace::{self, Header},
};

/// What a trace's first line begins with.
const TRACE: &str = "{\"polybolos_trace\"";

/// Expands `seed` by `scenario`, a name or a file.
pub(super) fn of_seed(scenario: &str, seed: u64, mutant: Option<&str>) -> Result<Order, CliError> {
    finish(Order::new(scenario::expand(scenario, seed)?), mutant)
}

/// `what` is a number or a file.
pub(super) fn of(what: &str, scenario: &str, mutant: Option<&str>) -> Result<Order, CliError> {
    if let Ok(seed) = what.parse() {
        return of_seed(scenario, seed, mutant);
    }
    let path = Path::new(what);
    let text = std::fs::read(path).map_err(|error| file(path, error))?;
    let order = if text.starts_with(TRACE.as_bytes()) {
        let Header { schedule, mutant, .. } = header(path)?;
        Order { schedule, mutant }
    } else {
        let source = scenario::load(path)?;
        // A scenario's file without a seed has none to choose from.
        Order::new(source.expand(0)?)
    };
    finish(order, mutant)
}

fn header(path: &Path) -> Result<Header, CliError> {
    let opened = File::open(path).map_err(|error| file(path, error))?;
    trace::read_header(BufReader::new(opened)).map_err(|error| CliError::Trace { path: text(path), error })
}

fn finish(mut order: Order, mutant: Option<&str>) -> Result<Order, CliError> {
    if let Some(name) = mutant {
        if name != CANARY && mutants::find(name).is_none() {
            return Err(CliError::NoMutant(name.to_owned()));
        }
        order.mutant = Some(name.to_owned());
    }
    Ok(order)
}

/// Held to the promises of these names only, if there are any.
pub(super) fn judged(mut order: Order, promises: &[String]) -> Result<Order, CliError> {
    if !promises.is_empty() {
        order.schedule.judge.clear();
        let known = Judge::new(&order.schedule).names();
        if let Some(name) = promises.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(CliError::NoPromise { name: name.clone(), known: known.join(", ") });
        }
        order.schedule.judge = promises.to_vec();
    }
    Ok(order)
}

/// Writes a schedule for people to read and change.
pub(super) fn write(path: &Path, schedule: &Schedule) -> Result<(), CliError> {
    let toml = schedule.to_toml()?;
    File::create(path).and_then(|mut to| to.write_all(toml.as_bytes())).map_err(|error| file(path, error))
}

/// Where a file about a run goes.
pub(super) fn place(folder: Option<&PathBuf>, schedule: &Schedule, end: &str) -> Result<PathBuf, CliError> {
    let folder = folder.cloned().unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&folder).map_err(|error| file(&folder, error))?;
    let scenario = Path::new(&schedule.scenario).file_stem().unwrap_or_default().to_string_lossy();
    Ok(folder.join(format!("polybolos-{scenario}-{}{end}", schedule.seed)))
}

pub(super) fn file(path: &Path, error: std::io::Error) -> CliError {
    CliError::File { path: text(path), error }
}

pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}
