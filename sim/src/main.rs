//! The simulator's command, and the process of each of its runs.

use std::process::ExitCode;

use polybolos_sim::{cli, process};

fn main() -> ExitCode {
    if process::is_child() { process::run_order() } else { cli::main() }
}
