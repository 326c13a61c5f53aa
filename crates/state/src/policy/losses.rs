//! Which executors are suspected, and which are lost.
//!
//! ```text
//!   stream broke ─▶ suspected ─┬─ its address refuses a connect ───▶ lost at once
//!                              ├─ no return within the grace ──────▶ lost
//!                              └─ a beat, or it registers again ───▶ as before
//!   no heartbeat for the time-out ───────────────────────────────▶ lost
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use polybolos_model::{ExecutorId, Incarnation, Term, recorded::Noticed};

use super::{Event, Patience};
use crate::{ClusterState, Command, Executor};

/// How the reasons of losses begin.
const SILENCE: &str = "no heartbeat for";
const ABSENCE: &str = "its stream broke and it did not come back for";
const CONNECTION: &str = "its stream is gone and nothing listens";
/// In the place of an executor that was lost.
pub(crate) const REPLACED: &str = "another process took its place";

/// The reason of a loss because nothing listens at `address`, as `error` says.
pub fn nothing_listens(address: &str, error: &dyn fmt::Display) -> String {
    format!("{CONNECTION} at {address} ({error})")
}

/// How a loss with this reason was noticed. For people only: nothing is decided by it.
pub fn noticed(reason: &str) -> Noticed {
    let begins = [
        (SILENCE, Noticed::Silence),
        (ABSENCE, Noticed::Absence),
        (CONNECTION, Noticed::Connection),
        (REPLACED, Noticed::Replaced),
    ];
    begins.into_iter().find(|(begin, _)| reason.starts_with(begin)).map_or(Noticed::Other, |(_, how)| how)
}

/// One command for each executor whose stream broke and that has neither come back nor been lost in this very batch.
pub(super) fn suspicions(
    state: &ClusterState,
    events: &[Event],
    settled: impl Fn(&ExecutorId) -> bool,
) -> Vec<Command> {
    let mut broken = BTreeMap::new();
    for event in events {
        if let Event::StreamBroken { executor, incarnation } = event
            && state.present(executor, *incarnation).is_some_and(|e| e.suspect_since_ms.is_none())
            && !settled(executor)
        {
            broken.insert(executor.clone(), *incarnation);
        }
    }
    let suspect = |(executor, incarnation)| Command::SuspectExecutor { executor, incarnation };
    broken.into_iter().map(suspect).collect()
}

/// One command for each executor whose process is gone, ascending by id: unless it gives a sign of life in this batch.
pub(super) fn gone(
    state: &ClusterState,
    events: &[Event],
    heard: impl Fn(&ExecutorId) -> bool,
) -> BTreeMap<ExecutorId, Command> {
    let mut gone = BTreeMap::new();
    if polybolos_model::mutant!("executor-never-lost") {
        return gone;
    }
    for event in events {
        if let Event::ProbeFailed { executor, incarnation, reason } = event
            && state.present(executor, *incarnation).is_some()
            && !heard(executor)
        {
            gone.entry(executor.clone()).or_insert_with(|| lose(executor, *incarnation, reason.clone()));
        }
    }
    gone
}

fn lose(executor: &ExecutorId, incarnation: Incarnation, reason: String) -> Command {
    Command::LoseExecutor { executor: executor.clone(), incarnation, reason }
}

/// One command for each executor that is silent for too long, ascending by id.
pub(super) fn silent(
    state: &ClusterState,
    events: &[Event],
    settled: impl Fn(&ExecutorId) -> bool,
    patience: Patience,
    term: Term,
    now_ms: u64,
) -> Vec<Command> {
    if polybolos_model::mutant!("executor-never-lost") {
        return Vec::new();
    }
    // A new leader heard nothing before its term began, and blames nobody for it.
    let listening_since_ms = if state.term() == term { state.term_since_ms() } else { now_ms };
    let silent = state.executors().filter(|e| e.is_present() && !settled(&e.id)).filter_map(|executor| {
        let reason = silence(executor, measured(events, executor), listening_since_ms, patience, now_ms)?;
        Some(lose(&executor.id, executor.incarnation, reason))
    });
    silent.collect()
}

/// What the leader itself has measured of the executor's silence, in ms.
fn measured(events: &[Event], of: &Executor) -> u64 {
    let measured = events.iter().filter_map(|event| match event {
        Event::Silence { executor, incarnation, silent_ms } => {
            (*executor == of.id && *incarnation == of.incarnation).then_some(*silent_ms)
        }
        _ => None,
    });
    measured.max().unwrap_or(0)
}

/// Why the executor counts as lost, if it does.
fn silence(
    executor: &Executor,
    measured_ms: u64,
    listening_since_ms: u64,
    patience: Patience,
    now_ms: u64,
) -> Option<String> {
    let logged_ms = now_ms.saturating_sub(executor.last_beat_ms.max(listening_since_ms));
    let silent_ms = logged_ms.max(measured_ms);
    if silent_ms >= patience.executor_timeout_ms {
        return Some(format!("{SILENCE} {silent_ms} ms"));
    }
    let broken_ms = now_ms.saturating_sub(executor.suspect_since_ms?.max(listening_since_ms));
    (broken_ms >= patience.stream_grace_ms).then(|| format!("{ABSENCE} {broken_ms} ms"))
}

/// Executors that have just come (back).
pub(super) fn registered(commands: &[Command]) -> BTreeSet<ExecutorId> {
    let mut registered = BTreeSet::new();
    for command in commands {
        if let Command::RegisterExecutor { executor, .. } = command {
            registered.insert(executor.clone());
        }
    }
    registered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_says_how_the_loss_was_noticed() {
        assert_eq!(noticed(&nothing_listens("h:1", &"refused")), Noticed::Connection);
        assert_eq!(noticed(&format!("{SILENCE} 3000 ms")), Noticed::Silence);
        assert_eq!(noticed(&format!("{ABSENCE} 1000 ms")), Noticed::Absence);
        assert_eq!(noticed(REPLACED), Noticed::Replaced);
        assert_eq!(noticed("power cut"), Noticed::Other);
    }
}
