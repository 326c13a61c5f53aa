//! The simulator: whole clusters, the real scheduler, executor and client code, in one process under turmoil.
//!
//! ```text
//!   seed ─▶ scenario ─▶ Schedule ─▶ run: hosts on turmoil ─▶ tape ─┬─▶ oracles ─▶ Summary
//!                          ▲          │  polybolos_env::Env         ├─▶ coverage
//!                       shrink        └─▶ env (here), faults        └─▶ trace ─▶ report
//! ```
//!
//! This is the second composition root; the binary `polybolos` is the first. A run is a process of its own (`process`),
//! which repeats bit for bit. Deliberately absent: any decision of the cluster's, and any of a run that its schedule
//! has not made.

#[cfg(not(tokio_unstable))]
compile_error!(
    "without `--cfg tokio_unstable` a simulation can't be repeated; is RUSTFLAGS set? See .cargo/config.toml"
);

pub mod cli;
pub mod coverage;
pub mod env;
pub mod fault;
pub mod faults;
pub mod moment;
pub mod mutants;
pub mod oracles;
pub mod process;
pub mod recorded;
pub mod report;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod shrink;
pub mod tape;
pub mod trace;
pub mod workload;
