//! The command.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use jepsen_lite::{
    Budget, Check, History, HistoryError, Model, Options, ReadLimits, Report, check, generate,
};

/// Judges what the clients of a distributed system saw.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 valid, 1 invalid, 2 wrong use or a history that can't be read, 3 unknown."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judge a history.
    Check(CheckArgs),
    /// Write a history that a correct object made, to try the checks and to measure them.
    Generate(GenerateArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// A file of JSON lines, or `-` for the standard input.
    history: PathBuf,
    /// What the keys name: register, set, mutex, job or rows.
    #[arg(long)]
    model: Model,
    /// Only these checks [default: all of the model].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    check: Vec<Check>,
    /// Write the report as JSON.
    #[arg(long)]
    json: bool,
    /// Also write the report as one HTML page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Operations that the search may try for each key, before it says unknown.
    #[arg(long, value_name = "N", default_value_t = Budget::default().steps)]
    steps: u64,
    /// Configurations that the search may keep for each key, about 300 bytes each.
    #[arg(long, value_name = "N", default_value_t = Budget::default().cached)]
    cached: usize,
    /// The engine may forget jobs that somebody saw ended.
    #[arg(long)]
    ended_may_be_forgotten: bool,
    /// Events that a history may have.
    #[arg(long, value_name = "N", default_value_t = ReadLimits::default().events)]
    max_events: usize,
    /// Bytes that a history may have.
    #[arg(long, value_name = "BYTES", default_value_t = ReadLimits::default().total_bytes)]
    max_bytes: u64,
}

#[derive(Debug, Args)]
struct GenerateArgs {
    /// What the keys name: register, set, mutex, job or rows.
    #[arg(long)]
    model: Model,
    #[arg(long, default_value_t = 1000)]
    operations: usize,
    #[arg(long, default_value_t = 5)]
    clients: u64,
    /// How many objects; of jobs, how many are made.
    #[arg(long, default_value_t = 10)]
    keys: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many of a thousand operations end without an answer.
    #[arg(long, value_name = "PER MILLE", default_value_t = 10)]
    lost: u64,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Check(args) => judge(&args),
        Command::Generate(args) => write_history(&args).map(|()| 0),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        // Whoever reads has had enough, as `head` does.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jepsen-lite: {error}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}: {error}", path.display())]
    History { path: PathBuf, error: HistoryError },
    #[error(transparent)]
    Open(HistoryError),
    #[error("the page can't be written to {}: {source}", path.display())]
    Page { path: PathBuf, source: io::Error },
    #[error("the model {model} has no check `{check}`; it has {}", names(*model))]
    NoCheck { model: Model, check: Check },
    #[error("the report can't be written: {0}")]
    Output(#[from] io::Error),
}

fn names(model: Model) -> String {
    Check::of(model).iter().map(Check::to_string).collect::<Vec<_>>().join(", ")
}

fn judge(args: &CheckArgs) -> Result<u8, Failure> {
    if let Some(check) = args.check.iter().copied().find(|check| !Check::of(args.model).contains(check)) {
        return Err(Failure::NoCheck { model: args.model, check });
    }
    let limits = ReadLimits { events: args.max_events, total_bytes: args.max_bytes, ..ReadLimits::default() };
    let read = if args.history == Path::new("-") {
        History::read(io::stdin().lock(), &limits)
    } else {
        History::from_file(&args.history, &limits)
    };
    let mut options = Options::new(args.model);
    options.budget = Budget { steps: args.steps, cached: args.cached, ..options.budget };
    options.ended_may_be_forgotten = args.ended_may_be_forgotten;
    if !args.check.is_empty() {
        options.checks.clone_from(&args.check);
    }
    let report = read.and_then(|history| check(&history, &options)).map_err(|error| match error {
        HistoryError::Open { .. } => Failure::Open(error),
        error => Failure::History { path: args.history.clone(), error },
    })?;
    if let Some(path) = &args.html {
        report.save_html(path).map_err(|source| Failure::Page { path: path.clone(), source })?;
    }
    print(&report, args.json)?;
    Ok(report.exit_code())
}

fn print(report: &Report, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)
    } else {
        out.write_all(report.text().as_bytes())
    }
}

fn write_history(args: &GenerateArgs) -> Result<(), Failure> {
    let shape = generate::Shape {
        model: args.model,
        operations: args.operations,
        clients: args.clients.max(1),
        keys: args.keys.max(1),
        lost_per_mille: args.lost.min(1000),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    for event in generate::history(&shape, args.seed) {
        writeln!(out, "{event}")?;
    }
    Ok(out.flush()?)
}
