//! Tells each completion that the log commits, at the level `debug`, on every replica that applies it: with what the
//! executors tell of their starts it can be counted from outside whether committed work ran again.

use polybolos_state::{Applied, Change, Command, Entry};

pub(crate) fn tell(index: u64, entry: &Entry, applied: &Applied) {
    for outcome in entry.commands.iter().zip(&applied.outcomes) {
        if let (
            Command::CompleteTask { task, attempt, .. } | Command::CompleteTaskIn { task, attempt, .. },
            Ok(Change::TaskCompleted { .. }),
        ) = outcome
        {
            tracing::debug!(index, %task, %attempt, "committed");
        }
    }
}
