//! What a run showed: from the files in its folder to `verdict.json` and `report.html`.
//!
//! A run passes if no promise was broken, every check had something to judge and could, and each kind of fault that the
//! schedule requires acted at least once.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use jepsen_lite::{History, Model, Operation, Options, ReadLimits, Report};
use serde::Serialize;

use crate::{
    figures::{Figures, Recovery, figures},
    journal::{Entry, What},
    os::files_below,
    pressure::Pressure,
    report,
    run::About,
};

/// In a log: a thread that found a bug.
const PANIC: &str = "panicked at";
const RELEASE: &str = "release";
/// The models of the workloads.
const MODELS: [Model; 3] = [Model::Job, Model::Rows, Model::Register];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Result {
    Pass,
    /// A promise was broken.
    Violation,
    /// A required fault did not act, or a check could not decide.
    Unknown,
}

/// A fault and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Act {
    pub id: u32,
    pub name: String,
    pub target: String,
    pub begins_ms: u64,
    pub ends_ms: Option<u64>,
    pub acted: bool,
    pub evidence: String,
    pub recovery: Recovery,
}

/// `verdict.json`.
#[derive(Debug, Serialize)]
pub struct Verdict {
    pub result: Result,
    #[serde(flatten)]
    pub about: About,
    pub violations: Vec<String>,
    /// Kinds of faults, load and hostile input that had to act and did not.
    pub missing: Vec<String>,
    /// Why a check could not decide.
    pub undecided: Vec<String>,
    pub faults: Vec<Act>,
    pub pressure: Pressure,
    pub figures: Figures,
    pub checks: Vec<Report>,
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Verdict {
    pub fn is_pass(&self) -> bool {
        self.result == Result::Pass
    }

    /// Of the command.
    pub fn exit_code(&self) -> u8 {
        match self.result {
            Result::Pass => 0,
            Result::Violation => 1,
            Result::Unknown => 3,
        }
    }
}

/// Reads the folder of a run, judges it, and writes verdict and report.
///
/// # Errors
/// A file is missing or is none of a run.
pub fn judge(folder: &Path) -> std::result::Result<Verdict, String> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(|error| format!("{} can't be read: {error}", path.display()))
    };
    let wrong = |name: &'static str| move |error: serde_json::Error| format!("{name}: {error}");
    let about: About = serde_json::from_str(&read("run.json")?).map_err(wrong("run.json"))?;
    let events = read("events.jsonl")?;
    let entries: Vec<Entry> = events
        .lines()
        .map(|line| serde_json::from_str(line).map_err(wrong("events.jsonl")))
        .collect::<std::result::Result<_, _>>()?;
    let history = History::from_file(&folder.join("history.jsonl"), &ReadLimits::default())
        .map_err(|error| format!("history.jsonl: {error}"))?;
    let mut violations = broken(&entries, folder);
    let pressure = Pressure::of(&entries);
    violations.extend(pressure.broken(about.max_rss_mib));
    let (mut checks, mut undecided) = (Vec::new(), Vec::new());
    for model in MODELS {
        if !history.operations().iter().any(|operation| operation.model == Some(model)) {
            continue;
        }
        let report = jepsen_lite::check(&history, &Options::new(model)).map_err(|error| error.to_string())?;
        for outcome in &report.checks {
            violations.extend(
                outcome.violations.iter().map(|found| format!("{model}, {}: {}", found.key, found.what)),
            );
            undecided
                .extend(outcome.reasons.iter().map(|reason| format!("{model}, {}: {reason}", outcome.check)));
        }
        if report.verdict == jepsen_lite::Verdict::Invalid {
            let path = folder.join(format!("{model}.html"));
            fs::write(&path, report.html()).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        checks.push(report);
    }
    if checks.is_empty() {
        undecided.push("no client did anything".to_owned());
    }
    // A result that was read is given back by itself: no operation of its own.
    let felt = history.operations().iter().filter(|operation| operation.f != RELEASE);
    let operations: &[Operation] = &felt.cloned().collect::<Vec<_>>();
    let figures = figures(operations, &entries);
    let faults = acts(&entries, &figures, operations);
    let missing = missing(&about, &faults, &pressure);
    let is_unweighed = about.max_rss_mib.is_some() && pressure.peak_mib.is_empty();
    if is_unweighed {
        undecided.push("nobody could say how much memory the nodes took".to_owned());
    }
    let is_invalid = checks.iter().any(|report| report.verdict == jepsen_lite::Verdict::Invalid);
    let is_unknown = checks.iter().any(|report| report.verdict == jepsen_lite::Verdict::Unknown);
    let result = if !violations.is_empty() || is_invalid {
        Result::Violation
    } else if is_unknown || is_unweighed || !missing.is_empty() || checks.is_empty() {
        Result::Unknown
    } else {
        Result::Pass
    };
    let folder = folder.to_owned();
    let verdict =
        Verdict { result, about, violations, missing, undecided, faults, pressure, figures, checks, folder };
    let save = |name: &str, text: String| {
        let path = verdict.folder.join(name);
        fs::write(&path, text).map_err(|error| format!("{} can't be written: {error}", path.display()))
    };
    save("verdict.json", serde_json::to_string_pretty(&verdict).map_err(|error| error.to_string())?)?;
    save("report.html", report::page(&verdict, operations, &entries))?;
    Ok(verdict)
}

/// What the run itself saw, and panics in logs.
fn broken(entries: &[Entry], folder: &Path) -> Vec<String> {
    let mut found: Vec<String> = entries
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Violation { what } => Some(format!("{:.1} s: {what}", entry.at_ms as f64 / 1_000.0)),
            _ => None,
        })
        .collect();
    for log in files_below(&folder.join("logs")) {
        let Ok(file) = fs::File::open(&log) else { continue };
        let lines = BufReader::new(file).lines().map_while(std::result::Result::ok);
        let panics: Vec<String> = lines.filter(|line| line.contains(PANIC)).collect();
        if let Some(first) = panics.first() {
            let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push(format!("{name}: {} panics, the first: {first}", panics.len()));
        }
    }
    found
}

fn acts(entries: &[Entry], figures: &Figures, operations: &[Operation]) -> Vec<Act> {
    let mut acts: BTreeMap<u32, Act> = BTreeMap::new();
    for entry in entries {
        match &entry.what {
            What::FaultBegins { id, name, target } => {
                let act = Act {
                    id: *id,
                    name: name.clone(),
                    target: target.clone(),
                    begins_ms: entry.at_ms,
                    ends_ms: None,
                    acted: false,
                    evidence: "it never ended".to_owned(),
                    recovery: Recovery::default(),
                };
                acts.insert(*id, act);
            }
            What::FaultEnds { id, acted, evidence, .. } => {
                if let Some(act) = acts.get_mut(id) {
                    (act.ends_ms, act.acted, act.evidence) = (Some(entry.at_ms), *acted, evidence.clone());
                }
            }
            _ => {}
        }
    }
    let mut acts: Vec<Act> = acts.into_values().collect();
    for act in &mut acts {
        act.recovery = figures.recovery(operations, act.begins_ms, act.ends_ms.unwrap_or(act.begins_ms));
    }
    acts
}

fn missing(about: &About, faults: &[Act], pressure: &Pressure) -> Vec<String> {
    let acted =
        |kind: &String| faults.iter().any(|act| act.acted && act.name == *kind) || pressure.acted(kind);
    about.required.iter().filter(|kind| !acted(kind)).cloned().collect()
}

/// The verdict for a terminal.
pub fn summary(verdict: &Verdict) -> String {
    let figures = &verdict.figures;
    let mut lines = vec![format!(
        "{} seed {}: {} operations, {} ok, {} failed, {} unknown; {} elections, {} executors lost",
        verdict.about.scenario,
        verdict.about.seed,
        figures.operations,
        figures.ok,
        figures.failed,
        figures.unknown,
        figures.elections,
        figures.executors_lost
    )];
    let mut kinds: BTreeMap<&str, (usize, usize, Vec<u64>)> = BTreeMap::new();
    for act in &verdict.faults {
        let kind = kinds.entry(&act.name).or_default();
        kind.0 += 1;
        kind.1 += usize::from(act.acted);
        kind.2.extend(act.recovery.gap_ms.filter(|_| act.acted));
    }
    for (name, (planned, acted, mut gaps)) in kinds {
        gaps.sort_unstable();
        let median = gaps.get(gaps.len() / 2).copied().unwrap_or(0);
        let worst = gaps.last().copied().unwrap_or(0);
        lines.push(format!(
            "  {name:<20} {acted:>3} of {planned:>3} acted; longest time without an answer: median {median} ms, worst {worst} ms"
        ));
    }
    lines.extend(verdict.pressure.lines());
    for (class, count) in &figures.errors {
        lines.push(format!("  error {class:<14} {count:>6}"));
    }
    for report in &verdict.checks {
        lines.push(format!("  {}: {:?}, {} operations", report.model, report.verdict, report.operations));
    }
    lines.extend(verdict.undecided.iter().map(|reason| format!("undecided: {reason}")));
    lines.extend(verdict.missing.iter().map(|kind| format!("this had to act and never did: {kind}")));
    for act in verdict.faults.iter().filter(|act| !act.acted) {
        lines.push(format!("could not act: fault {} {} {}: {}", act.id, act.name, act.target, act.evidence));
    }
    lines.extend(verdict.violations.iter().map(|what| format!("VIOLATION: {what}")));
    let result = match verdict.result {
        Result::Pass => "passed",
        Result::Violation => "A PROMISE WAS BROKEN",
        Result::Unknown => "NO PASS: nothing was broken, but not all was shown",
    };
    lines.push(format!("{result}; {}", verdict.folder.join("report.html").display()));
    lines.join("\n")
}
