//! The simulator's command. Each subcommand a file; what it prints and its exit code are for people and for CI alike.
//!
//! ```text
//!   args ─▶ subcommand ─▶ process::{simulate, follow, many} ─▶ text, files, exit code
//! ```
//!
//! Exit codes: 0 all promises kept, 1 a promise broken, 2 the command could not do what it was asked for.
//! Deliberately absent: anything that runs inside of a simulation.
#![allow(
    clippy::disallowed_methods,
    reason = "the command runs outside of every simulation: real files, real time"
)]

/// Prints a line, unless who reads has seen enough, as `head` has.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _told = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod args;
mod explore;
mod failure;
mod lists;
mod mutants;
mod ranges;
mod replay;
mod report;
mod run;
mod show;
mod shrink;
mod source;
mod tally;
mod verify;

use std::{io, process::ExitCode};

use clap::Parser;

use self::args::{Action, Args};
use crate::{
    mutants::HuntError, process::ProcessError, recorded::RecordedError, report::ReportError,
    scenario::ScenarioError, trace::ReadError,
};

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("{path}: {error}")]
    File { path: String, error: io::Error },
    #[error("{path}: {error}")]
    Trace { path: String, error: ReadError },
    #[error("{path}: {error}")]
    Report { path: String, error: ReportError },
    #[error("{path}: {error}")]
    Recorded { path: String, error: Box<RecordedError> },
    #[error("the schedule can't be written as TOML: {0}")]
    Toml(#[from] toml::ser::Error),
    #[error(transparent)]
    Hunt(#[from] HuntError),
    #[error("there is no planted bug '{0}'; `polybolos-sim mutants --list` lists them")]
    NoMutant(String),
    #[error("there is no promise '{name}'; there are {known}")]
    NoPromise { name: String, known: String },
}

/// Whether every promise was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Kept,
    Broken,
}

/// The whole command.
pub fn main() -> ExitCode {
    // clap ends the process with 2 by itself.
    let done = match Args::parse().action {
        Action::Run(args) => run::run(&args),
        Action::Explore(args) => explore::explore(&args),
        Action::Replay(args) => replay::replay(&args),
        Action::Shrink(args) => shrink::shrink(&args),
        Action::Report(args) => report::report(&args),
        Action::VerifyDeterminism(args) => verify::verify(&args),
        Action::Scenarios => lists::scenarios(),
        Action::Mutants(args) => mutants::mutants(&args),
    };
    match done {
        Ok(Verdict::Kept) => ExitCode::SUCCESS,
        Ok(Verdict::Broken) => ExitCode::from(1),
        Err(error) => {
            eprintln!("polybolos-sim: {error}");
            ExitCode::from(2)
        }
    }
}
