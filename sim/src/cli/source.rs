//! What a person names, as an order: a seed of a scenario, a schedule's file, a trace, which has its schedule within, or
//! the export of a job, which is made to one.

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
    recorded::{self, Replayed},
    scenario,
    schedule::{Action, Op, Planned, Schedule, When},
    trace::{self, Header},
};

/// What a trace's first line begins with.
const TRACE: &str = "{\"polybolos_trace\"";

/// Expands `seed` by `scenario`, a name or a file.
pub(super) fn of_seed(scenario: &str, seed: u64, mutant: Option<&str>) -> Result<Order, CliError> {
    finish(Order::new(scenario::expand(scenario, seed)?), mutant)
}

/// `what` is a number or a file. `seed` is for an export of a job, which says itself what is not in it.
pub(super) fn of(
    what: &str,
    scenario: &str,
    seed: Option<u64>,
    mutant: Option<&str>,
) -> Result<Order, CliError> {
    if let Ok(seed) = what.parse() {
        return of_seed(scenario, seed, mutant);
    }
    let path = Path::new(what);
    let text = std::fs::read(path).map_err(|error| file(path, error))?;
    let order = if text.starts_with(TRACE.as_bytes()) {
        let Header { schedule, mutant, .. } = header(path)?;
        Order { schedule, mutant }
    } else if recorded::is_recorded(&text) {
        Order::new(exported(path, &text, seed)?)
    } else {
        let source = scenario::load(path)?;
        // A scenario's file without a seed has none to choose from.
        Order::new(source.expand(0)?)
    };
    finish(order, mutant)
}

/// The schedule of an exported job; says what of it is another.
fn exported(path: &Path, bytes: &[u8], seed: Option<u64>) -> Result<Schedule, CliError> {
    let wrong = |error| CliError::Recorded { path: text(path), error: Box::new(error) };
    let recorded = recorded::parse(&String::from_utf8_lossy(bytes)).map_err(wrong)?;
    let seed = seed.unwrap_or_else(|| recorded::own_seed(&recorded));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| file(path, error))?;
    let Replayed { schedule, notes } =
        runtime.block_on(recorded::schedule(&recorded, seed)).map_err(wrong)?;
    say!(
        "export of query {}, {}: {}",
        recorded.job.id,
        recorded.job.state,
        schedule.ops.last().map(sql).unwrap_or_default()
    );
    for planned in &schedule.faults {
        say!("  {}", fault(planned));
    }
    for note in notes {
        say!("  note: {note}");
    }
    Ok(schedule)
}

fn sql(op: &Op) -> String {
    match &op.action {
        Action::Query { sql, .. } | Action::Ddl { sql } => {
            sql.split_whitespace().collect::<Vec<_>>().join(" ")
        }
        Action::Status => String::new(),
    }
}

/// A fault in a line.
fn fault(planned: &Planned) -> String {
    let moment = |when: &When| {
        let mut parts = Vec::new();
        if !when.done.is_empty() {
            parts.push(format!("tasks done of stages 0…: {:?}", when.done));
        }
        if when.total > 0 {
            parts.push(format!("{} tasks done", when.total));
        }
        if when.losses > 0 {
            parts.push(format!("{} executors lost", when.losses));
        }
        parts.extend(when.runs_on.iter().map(|host| format!("a task runs on {host}")));
        if parts.is_empty() { "it was submitted".to_owned() } else { parts.join(", ") }
    };
    let target = planned.fault.target().map(|target| format!(" of {target}")).unwrap_or_default();
    let mut line = format!("fault {}: {}{target}", planned.id, planned.fault.name());
    match &planned.when {
        Some(when) => line.push_str(&format!(", once {}", moment(when))),
        None => line.push_str(&format!(", at {} ms", planned.at_ms)),
    }
    if let Some(ms) = planned.for_ms {
        line.push_str(&format!(", for {ms} ms"));
    }
    if let Some(until) = &planned.until {
        line.push_str(&format!(", until {}", moment(until)));
    }
    line
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
