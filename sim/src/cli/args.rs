//! What may be asked for.

use std::{num::NonZero, path::PathBuf};

use clap::{Args as Group, Parser, Subcommand};

use super::ranges::{Seeds, SimTime};
use crate::{mutants::CANARY, scenario::SWARM};

/// Whole Polybolos clusters in one process, from one seed.
#[derive(Debug, Parser)]
#[command(name = "polybolos-sim", version)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) action: Action,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Run one seed and say what it did.
    Run(Run),
    /// Run each seed of a range, one process a seed, and say what was found and what was reached.
    Explore(Explore),
    /// Run a schedule, a trace's schedule, a seed or the export of a job, and print what happens in it.
    ///
    /// An export is what `polybolos jobs export` writes. Its tables are made up under the recorded schemas, its faults
    /// come at the progress that the query had made, and what of it is different here is said.
    Replay(Replay),
    /// Make a failing schedule smaller while it breaks the same promise.
    Shrink(Shrink),
    /// Draw a trace as one HTML page.
    Report(Report),
    /// Run each seed in two processes and compare the traces byte for byte.
    VerifyDeterminism(Verify),
    /// List the scenarios with a sentence each.
    Scenarios,
    /// Run planted bugs until they are found, and say how soon and by which check.
    Mutants(Mutants),
}

#[derive(Debug, Group)]
pub(super) struct Run {
    #[arg(long)]
    pub(super) seed: u64,
    /// A shipped scenario, or a file of a scenario or a schedule.
    #[arg(long, value_name = "NAME|FILE", default_value = SWARM)]
    pub(super) scenario: String,
    /// Write what happens as JSON lines.
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    /// With what the code says to its developers.
    #[arg(long)]
    pub(super) verbose: bool,
    /// Write the schedule to this file, also if no promise is broken.
    #[arg(long, value_name = "FILE")]
    pub(super) schedule: Option<PathBuf>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// What every command that runs seeds may be told.
#[derive(Debug, Group)]
pub(super) struct Common {
    /// Switch a planted bug on.
    #[arg(long, value_name = "NAME")]
    pub(super) mutant: Option<String>,
    /// Hold runs to this promise only, such as `answers`, and to liveness and equal replicas; may be repeated.
    #[arg(long, value_name = "PROMISE")]
    pub(super) judge: Vec<String>,
    /// Where schedules of failing runs are written; the folder for temporary files if it is not given.
    #[arg(long, value_name = "FOLDER")]
    pub(super) out: Option<PathBuf>,
    /// Break a promise on purpose.
    #[arg(long, hide = true, conflicts_with = "mutant")]
    pub(super) canary: bool,
}

impl Common {
    pub(super) fn mutant(&self) -> Option<&str> {
        if self.canary { Some(CANARY) } else { self.mutant.as_deref() }
    }
}

#[derive(Debug, Group)]
pub(super) struct Explore {
    /// `A..B`, B included.
    #[arg(long)]
    pub(super) seeds: Seeds,
    /// Runs at once; as many as processors if it is not given.
    #[arg(long)]
    pub(super) jobs: Option<NonZero<usize>>,
    /// Begin no new run after so many minutes.
    #[arg(long)]
    pub(super) minutes: Option<f64>,
    /// A shipped scenario, or a file of one.
    #[arg(long, value_name = "NAME|FILE", default_value = SWARM)]
    pub(super) scenario: String,
    /// Each seed of every shipped scenario.
    #[arg(long, conflicts_with = "scenario")]
    pub(super) all: bool,
    /// Go on after a broken promise.
    #[arg(long)]
    pub(super) keep_going: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Group)]
pub(super) struct Replay {
    /// Files of schedules, traces or exports, or seeds.
    #[arg(required = true, value_name = "FILE|SEED")]
    pub(super) what: Vec<String>,
    /// For an export: what it does not say is drawn from this; from its query's id if it is not given.
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Write the schedule to this file, to keep it as a regression; of several, the last one's.
    #[arg(long, value_name = "FILE")]
    pub(super) schedule: Option<PathBuf>,
    /// By which a seed is expanded.
    #[arg(long, value_name = "NAME|FILE", default_value = SWARM)]
    pub(super) scenario: String,
    /// Print nothing before this simulated time: `2s`, `1500ms`.
    #[arg(long, value_name = "T", default_value = "0s")]
    pub(super) from: SimTime,
    /// Stop at this simulated time.
    #[arg(long, value_name = "T")]
    pub(super) until: Option<SimTime>,
    /// Print connections and what the code says to its developers as well.
    #[arg(long)]
    pub(super) verbose: bool,
    /// Print only how it ended.
    #[arg(long, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Write what happens as JSON lines.
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Group)]
pub(super) struct Shrink {
    /// A file of a schedule, a trace or an export, or a seed.
    #[arg(value_name = "FILE|SEED")]
    pub(super) what: String,
    /// By which a seed is expanded.
    #[arg(long, value_name = "NAME|FILE", default_value = SWARM)]
    pub(super) scenario: String,
    /// Where the smaller schedule is written; in the folder for temporary files if it is not given.
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Runs that it may take.
    #[arg(long, default_value_t = 500)]
    pub(super) runs: u32,
    /// Minutes that it may take.
    #[arg(long, default_value_t = 10.0)]
    pub(super) minutes: f64,
    /// Switch a planted bug on.
    #[arg(long, value_name = "NAME")]
    pub(super) mutant: Option<String>,
}

#[derive(Debug, Group)]
pub(super) struct Report {
    /// What `--trace` wrote.
    pub(super) trace: PathBuf,
    #[arg(long, value_name = "FILE.html")]
    pub(super) out: PathBuf,
}

#[derive(Debug, Group)]
pub(super) struct Verify {
    /// `A..B`, B included.
    #[arg(long)]
    pub(super) seeds: Seeds,
    #[arg(long)]
    pub(super) jobs: Option<NonZero<usize>>,
    /// Only this one; the swarm and every other shipped scenario if it is not given.
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) scenario: Option<String>,
    /// The swarm and every other shipped scenario.
    #[arg(long, conflicts_with = "scenario")]
    pub(super) all: bool,
    /// Where traces that differ are written; the folder for temporary files if it is not given.
    #[arg(long, value_name = "FOLDER")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Group)]
pub(super) struct Mutants {
    /// Only these.
    pub(super) names: Vec<String>,
    /// Only say which there are.
    #[arg(long)]
    pub(super) list: bool,
    /// Seeds that each may take.
    #[arg(long, default_value = "1..200")]
    pub(super) seeds: Seeds,
    #[arg(long)]
    pub(super) jobs: Option<NonZero<usize>>,
}
