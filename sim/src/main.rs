//! The simulator's command.

use std::{
    process::{Command, ExitCode},
    str::FromStr,
};

use clap::{Parser, Subcommand};
use polybolos_sim::cluster;

/// Whole Polybolos clusters in one process, from one seed.
#[derive(Parser)]
#[command(name = "polybolos-sim", version)]
struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Run one seed and print what it did.
    Run {
        #[arg(long)]
        seed: u64,
    },
    /// Run each seed of a range, one process a seed; stops at the first that breaks a promise.
    Explore {
        /// `A..B`, B included.
        #[arg(long)]
        seeds: Seeds,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seeds {
    first: u64,
    last: u64,
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seeds = text.split_once("..").and_then(|(first, last)| {
            Some(Self { first: first.parse().ok()?, last: last.trim_start_matches('=').parse().ok()? })
        });
        match seeds {
            Some(seeds) if seeds.first <= seeds.last => Ok(seeds),
            _ => Err(format!("'{text}' is no range of seeds; expected A..B with A <= B, for example 1..100")),
        }
    }
}

fn main() -> ExitCode {
    match Args::parse().action {
        Action::Run { seed } => match cluster::run(seed) {
            Ok(done) => {
                println!(
                    "seed {seed}: {} replicas, {} executors, {} crashes, {} queries, {} rows, {:.3} s simulated",
                    done.replicas,
                    done.executors,
                    done.crashes,
                    done.queries,
                    done.rows,
                    done.elapsed.as_secs_f64()
                );
                ExitCode::SUCCESS
            }
            Err(violation) => {
                eprintln!("{violation}");
                ExitCode::FAILURE
            }
        },
        Action::Explore { seeds } => explore(seeds),
    }
}

fn explore(seeds: Seeds) -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("this program's own path is not known: {error}");
            return ExitCode::FAILURE;
        }
    };
    for seed in seeds.first..=seeds.last {
        let status = Command::new(&program).args(["run", "--seed", &seed.to_string()]).status();
        match status {
            Ok(status) if status.success() => {}
            Ok(_) => return ExitCode::FAILURE,
            Err(error) => {
                eprintln!("seed {seed} could not be started: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{} seeds, no violation", seeds.last - seeds.first + 1);
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_seeds_are_checked() {
        assert_eq!("3..5".parse(), Ok(Seeds { first: 3, last: 5 }));
        assert!("5..3".parse::<Seeds>().is_err());
        assert!("x".parse::<Seeds>().is_err());
    }
}
