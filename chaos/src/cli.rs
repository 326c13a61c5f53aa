//! The command `polybolos-chaos`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    judge::{self, Verdict},
    probe::Links,
    run::{self, Request, RunError},
    scenario::{self, Scenario},
    theirs::Theirs,
};

/// Exit codes besides those of a verdict.
const USAGE: u8 = 2;
const FAILED: u8 = 3;
/// What `--suite ci` runs, each with its length in seconds.
const CI: &[(&str, u64)] = &[
    ("crash", 40),
    ("pause", 40),
    ("leader-in-minority", 40),
    ("isolate", 40),
    ("disk-full", 40),
    ("executor-loss", 40),
    ("mixed", 70),
];

/// Breaks a cluster of real processes while clients work, and judges what they saw.
#[derive(Debug, Parser)]
#[command(name = "polybolos-chaos", version, arg_required_else_help = true)]
#[command(
    after_help = "Example:\n  polybolos-chaos run --scenario leader-hunted --minutes 2\n\nExit codes: 0 passed, 1 a promise \
    was broken, 2 wrong usage, 3 a required fault did not act, a check could not decide, or the run could not be had"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario, or all of a suite
    Run(Box<RunArgs>),
    /// List the scenarios that come with the program
    List,
    /// Judge a run's folder again, and write its report
    Report {
        /// What `run` has made
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// One of `list`, or a file: a scenario, or a schedule, also one of the simulator
    #[arg(long, value_name = "NAME", required_unless_present = "suite")]
    scenario: Option<String>,
    /// Run the scenarios of this suite one after the other
    #[arg(long, value_name = "NAME", value_parser = ["ci"], conflicts_with_all = ["scenario", "minutes"])]
    suite: Option<String>,
    /// How long things go wrong [default: as the scenario says, or 2]
    #[arg(long, value_name = "M", value_parser = minutes)]
    minutes: Option<f64>,
    /// Decides what goes wrong, when and to whom
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Folder for history, schedule, logs, verdict and report [default: chaos-SCENARIO-SEED]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The program `polybolos` [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// How the nodes are connected [default: namespaces if this machine can and the faults don't need proxies]
    #[arg(long, value_enum)]
    links: Option<Links>,
    /// Plant this bug in the nodes; only a program that was built with the simulator has any
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Break a cluster that runs already: addresses of its scheduler replicas
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    schedulers: Vec<String>,
    /// With --schedulers: stops a node at once; `{node}` is the address of a scheduler or the name of an executor
    #[arg(long, value_name = "COMMAND", requires = "schedulers")]
    stop_command: Option<String>,
    /// With --schedulers: starts it again
    #[arg(long, value_name = "COMMAND", requires = "schedulers")]
    start_command: Option<String>,
    /// With --schedulers: a folder that all nodes see at this path; without it there are no TPC-H queries and no writes
    #[arg(long, value_name = "DIR", requires = "schedulers")]
    shared_folder: Option<PathBuf>,
    /// Print the verdict only
    #[arg(long)]
    quiet: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if (0.1..=10_000.0).contains(&minutes) => Ok(minutes),
        _ => Err("expected minutes, 0.1 to 10000".to_owned()),
    }
}

/// Runs the command of this process; its exit code.
pub fn main() -> u8 {
    match Cli::parse().command {
        Command::List => list(),
        Command::Report { folder } => told(judge::judge(&folder).map_err(RunError::Judge)),
        Command::Run(args) => {
            if args.schedulers.is_empty() && args.links != Some(Links::Proxies) {
                // Only comes back if this process is root already, or can't be.
                crate::rootless::enter();
            }
            match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
                Ok(runtime) => {
                    let code = runtime.block_on(runs(*args));
                    runtime.shutdown_timeout(Duration::from_secs(1));
                    code
                }
                Err(error) => {
                    eprintln!("error: no threads: {error}");
                    FAILED
                }
            }
        }
    }
}

fn list() -> u8 {
    for shipped in scenario::all() {
        match Scenario::parse(shipped.text) {
            Ok(scenario) => println!("{:<20} {}", shipped.name, scenario.about),
            Err(error) => eprintln!("{}: {error}", shipped.name),
        }
    }
    0
}

fn told(done: Result<Verdict, RunError>) -> u8 {
    match done {
        Ok(verdict) => {
            println!("{}", judge::summary(&verdict));
            verdict.exit_code()
        }
        Err(error) => {
            eprintln!("error: {error}");
            FAILED
        }
    }
}

async fn runs(args: RunArgs) -> u8 {
    let planned: Vec<(String, Option<u64>)> = match (&args.suite, &args.scenario) {
        (Some(_), _) => CI.iter().map(|(name, s)| ((*name).to_owned(), Some(s * 1_000))).collect(),
        // As minutes are at most 10,000, it fits.
        (None, name) => {
            vec![(name.clone().unwrap_or_default(), args.minutes.map(|minutes| (minutes * 60_000.0) as u64))]
        }
    };
    let is_suite = args.suite.is_some();
    let mut worst = 0;
    for (name, heal_at_ms) in planned {
        let request = match request(&args, &name, heal_at_ms, is_suite) {
            Ok(request) => request,
            Err(reason) => {
                eprintln!("error: {reason}");
                return USAGE;
            }
        };
        let code = match run::run(request).await {
            Err(RunError::Taken(folder)) => {
                eprintln!("error: {}", RunError::Taken(folder));
                return USAGE;
            }
            Err(RunError::Interrupted) => return told(Err(RunError::Interrupted)),
            done => told(done),
        };
        // A broken promise counts more than one that could not be shown.
        worst = match (worst, code) {
            (1, _) | (_, 1) => 1,
            (0, code) => code,
            (worst, _) => worst,
        };
    }
    worst
}

fn request(args: &RunArgs, name: &str, heal_at_ms: Option<u64>, is_suite: bool) -> Result<Request, String> {
    let schedule = scenario::expand(name, args.seed, heal_at_ms)?;
    let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let own_name = format!("chaos-{stem}-{}", schedule.seed);
    let folder = match (&args.out, is_suite) {
        (Some(out), false) => out.clone(),
        (Some(out), true) => out.join(own_name),
        (None, _) => PathBuf::from(own_name),
    };
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => {
            beside().ok_or("there is no `polybolos` beside this program: build it, or name it by --binary")?
        }
    };
    let binary = binary.canonicalize().map_err(|error| format!("--binary {}: {error}", binary.display()))?;
    let theirs = (!args.schedulers.is_empty())
        .then(|| Theirs::new(args.schedulers.clone(), args.stop_command.clone(), args.start_command.clone()));
    let (links, mutant) = (args.links, args.mutant.clone());
    let shared = args.shared_folder.clone();
    Ok(Request { schedule, folder, binary, links, mutant, theirs, shared, quiet: args.quiet })
}

fn beside() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    Some(program.parent()?.join("polybolos")).filter(|path| path.is_file())
}
