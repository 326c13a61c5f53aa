//! The simulator: whole clusters, the real scheduler, executor and client code, in one process under turmoil.
//!
//! ```text
//!   schedulers ┐
//!   executors ─┼─▶ polybolos_env::Env ──▶ env (here): turmoil's network, a disk in memory, seeded randomness
//!   client ────┘
//! ```
//!
//! This is the second composition root; the binary `polybolos` is the first. Deliberately absent so far: faults other
//! than power cuts of scheduler replicas, and traces that compare bit for bit.

#[cfg(not(tokio_unstable))]
compile_error!(
    "without `--cfg tokio_unstable` a simulation can't be repeated; is RUSTFLAGS set? See .cargo/config.toml"
);

pub mod cluster;
pub mod env;
pub mod faults;
pub mod workload;
