//! How a broken promise is told: what, when, and one line to paste that replays it.

use std::path::PathBuf;

use super::{CliError, Verdict, source};
use crate::process::{Order, Outcome};

/// Writes the schedule of a run that broke a promise, and says so.
pub(super) fn tell(order: &Order, outcome: &Outcome, folder: Option<&PathBuf>) -> Result<Verdict, CliError> {
    let Some(broken) = &outcome.summary.violation else {
        return Ok(Verdict::Kept);
    };
    let schedule = &order.schedule;
    let path = source::place(folder, schedule, ".toml")?;
    source::write(&path, schedule)?;
    let (seed, scenario, at_ms) = (schedule.seed, &schedule.scenario, broken.at_ms);
    say!("seed {seed} of {scenario} broke a promise after {:.3} s", at_ms as f64 / 1e3);
    say!("  {}: {}", broken.oracle, broken.what);
    say!("  replay it: {} replay {}{}", program(), path.display(), with_mutant(order));
    Ok(Verdict::Broken)
}

/// This program, as one starts it in the workspace. Rows come in another order in another build, so it says which.
pub(super) fn program() -> &'static str {
    if cfg!(debug_assertions) {
        "cargo run -p polybolos-sim --"
    } else {
        "cargo run --release -p polybolos-sim --"
    }
}

pub(super) fn with_mutant(order: &Order) -> String {
    order.mutant.as_ref().map(|name| format!(" --mutant {name}")).unwrap_or_default()
}
