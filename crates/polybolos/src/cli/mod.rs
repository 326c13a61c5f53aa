//! The command line.
//!
//! ```text
//!   argv, POLYBOLOS_…, --config ──▶ config ──▶ args::Cli ──┬─▶ serve   (scheduler, executor)
//!                                                          ├─▶ local   (local, sql) ──▶ session ──▶ output
//!                                                          ├─▶ status  (status, jobs)      ▲
//!                                                          ├─▶ cluster, drain (operators)  └── repl
//!                                                          ├─▶ tpch, demo, bench ──▶ processes
//!                                                          ╰─▶ CliError ──▶ exit code
//! ```
//!
//! Results go to standard output, everything else to standard error. Deliberately absent: anything that an embedding
//! program could want; that is in the library.

mod args;
mod bench;
mod cluster;
mod complete;
mod config;
mod demo;
mod drain;
mod error;
mod files;
mod local;
mod output;
mod parquet_files;
mod processes;
mod progress;
mod repl;
mod serve;
mod session;
mod split;
mod status;
mod tables;
mod text;
mod tpch;
mod values;

use std::{ffi::OsString, io::IsTerminal, process::ExitCode, time::Duration};

use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

use args::{BenchCommand, Command, JobsCommand, TpchCommand};
use config::ConfigError;
use error::CliError;

/// What threads of the runtime may still do when the command is done.
const LINGER: Duration = Duration::from_millis(500);

/// Runs the process.
pub(crate) fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    match config::parse(&argv).map_err(CliError::from).and_then(|cli| run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn tell(error: &CliError) {
    match error {
        // Help and the version go to standard output, mistakes to standard error; a lost reader is nobody to tell.
        CliError::Config(ConfigError::Clap { error, variable }) => {
            let _told = error.print();
            if let Some(variable) = variable {
                eprintln!("the value comes from the variable {variable}");
            }
        }
        error if error.is_quiet() => {}
        error => eprintln!("error: {error}"),
    }
}

fn run(command: Command) -> Result<(), CliError> {
    log(&command);
    let runtime = Builder::new_multi_thread().enable_all().build().map_err(CliError::Threads)?;
    let done = dispatch(&runtime, command);
    runtime.shutdown_timeout(LINGER);
    done
}

fn dispatch(runtime: &Runtime, command: Command) -> Result<(), CliError> {
    match command {
        Command::Local(args) => local::local(runtime, args),
        Command::Sql(args) => local::sql(runtime, args),
        Command::Scheduler(args) => runtime.block_on(serve::scheduler(args)),
        Command::Executor(args) => runtime.block_on(serve::executor(args)),
        Command::Status(args) => runtime.block_on(status::status(args)),
        Command::Jobs(jobs) => runtime.block_on(async {
            match jobs.command {
                JobsCommand::List(args) => status::list(args).await,
                JobsCommand::Show(args) => status::job(args).await,
                JobsCommand::Faults(args) => status::faults(args).await,
                JobsCommand::Timeline(args) => status::timeline(args).await,
                JobsCommand::Export(args) => status::export(args).await,
                JobsCommand::Cancel(args) => status::cancel(args).await,
            }
        }),
        Command::Cluster(args) => runtime.block_on(cluster::run(args)),
        Command::Tpch(tpch) => runtime.block_on(async {
            match tpch.command {
                TpchCommand::Generate(args) => tpch::generate(args).await,
                TpchCommand::Run(args) => tpch::run(args).await,
                TpchCommand::Answers(args) => tpch::answers(args).await,
            }
        }),
        Command::Demo(args) => runtime.block_on(demo::run(args)),
        Command::Bench(bench) => runtime.block_on(async {
            match bench.command {
                BenchCommand::Latency(args) => bench::latency(args).await,
                BenchCommand::Concurrent(args) => bench::concurrent(args).await,
                BenchCommand::Failover(args) => bench::failover(args).await,
                BenchCommand::Joins(args) => bench::joins(args).await,
                BenchCommand::Log(args) => bench::log(args).await,
                BenchCommand::Memory(args) => bench::memory(args).await,
                BenchCommand::Recovery(args) => bench::recovery(args).await,
                BenchCommand::Scheduler(args) => bench::scheduler(args).await,
                BenchCommand::Shuffle(args) => bench::shuffle(args).await,
                BenchCommand::Tpch(args) => bench::tpch(args).await,
                BenchCommand::Engine(args) => bench::engine(args).await,
            }
        }),
    }
}

/// Events go to standard error as `POLYBOLOS_LOG` says (`info`, `polybolos_scheduler=debug`, …).
fn log(command: &Command) {
    // openraft tells each message that a dead replica did not get, ten times a second.
    let default = match command {
        Command::Scheduler(_) | Command::Executor(_) => "info,openraft=off",
        _ => "error,openraft=off",
    };
    let filter = std::env::var("POLYBOLOS_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(&filter).unwrap_or_else(|error| {
        eprintln!("POLYBOLOS_LOG is ignored: {error}");
        EnvFilter::new(default)
    });
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}
