//! The command `polybolos-chaos`. What it can do is in [`polybolos_chaos::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(polybolos_chaos::cli::main())
}
