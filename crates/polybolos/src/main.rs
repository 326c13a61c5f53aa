//! The binary `polybolos`.
//!
//! The production composition root; the simulator is the other one. What it can do is in [`cli`], what others may
//! embed is in the library.

mod cli;

/// Query execution allocates and frees large buffers from many threads; mimalloc does so faster than the C library.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Names a planted bug, in a build that has such: for `polybolos-chaos run --mutant`.
const MUTANT: &str = "POLYBOLOS_MUTANT";

fn main() -> std::process::ExitCode {
    if polybolos_model::simulation::HAS_MUTANTS
        && let Ok(mutant) = std::env::var(MUTANT)
    {
        eprintln!("warning: the bug '{mutant}' is planted in this process");
        polybolos_model::simulation::plant(mutant);
    }
    cli::main()
}
