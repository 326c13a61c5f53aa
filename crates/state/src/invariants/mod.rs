//! What is true of every state that entries lead to. One rule a file, each with where it comes from.
//!
//! Tests and the simulator check them after each entry; production does not, as they read the whole state.

mod attempts_are_bounded;
mod catalogue_is_bounded;
mod completions_win_once;
mod deaths_are_few;
mod drains_fit;
mod durable_is_completed;
mod ends_are_whole;
mod executors_are_told_apart;
mod extensions_wait;
mod indexes_agree;
mod needed_outputs_exist;
mod open_means_not_done;
mod readers_agree;
mod reopened_are_kept;
mod replicas_are_bound;
mod replicas_stay_bound;
mod shares_fit;
mod time_moves_forward;
mod writes_are_settled;

use crate::ClusterState;

/// A rule that a state, or a step from one to the next, breaks. Always a bug of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant '{rule}' is broken: {what}")]
pub struct Violation {
    pub rule: &'static str,
    pub what: String,
}

type Check = Result<(), String>;

/// A rule's name and check.
type StateRule = (&'static str, fn(&ClusterState) -> Check);
type StepRule = (&'static str, fn(&ClusterState, &ClusterState) -> Check);

const OF_A_STATE: &[StateRule] = &[
    ("attempts_are_bounded", attempts_are_bounded::check),
    ("catalogue_is_bounded", catalogue_is_bounded::check),
    ("deaths_are_few", deaths_are_few::check),
    ("drains_fit", drains_fit::check),
    ("durable_is_completed", durable_is_completed::check),
    ("ends_are_whole", ends_are_whole::check),
    ("executors_are_told_apart", executors_are_told_apart::check),
    ("extensions_wait", extensions_wait::check),
    ("indexes_agree", indexes_agree::check),
    ("needed_outputs_exist", needed_outputs_exist::check),
    ("open_means_not_done", open_means_not_done::check),
    ("reopened_are_kept", reopened_are_kept::check),
    ("replicas_are_bound", replicas_are_bound::check),
    ("shares_fit", shares_fit::check),
    ("writes_are_settled", writes_are_settled::check),
];

const OF_A_STEP: &[StepRule] = &[
    ("completions_win_once", completions_win_once::check),
    ("readers_agree", readers_agree::check),
    ("replicas_stay_bound", replicas_stay_bound::check),
    ("time_moves_forward", time_moves_forward::check),
];

/// Every rule that a state alone can break.
///
/// # Errors
/// The first rule that is broken.
pub fn check(state: &ClusterState) -> Result<(), Violation> {
    let broken = |rule| move |what| Violation { rule, what };
    OF_A_STATE.iter().try_for_each(|&(rule, check)| check(state).map_err(broken(rule)))
}

/// Every rule about what one entry (or many) may do to a state.
///
/// # Errors
/// The first rule that is broken.
pub fn check_step(before: &ClusterState, after: &ClusterState) -> Result<(), Violation> {
    let broken = |rule| move |what| Violation { rule, what };
    OF_A_STEP.iter().try_for_each(|&(rule, check)| check(before, after).map_err(broken(rule)))
}

/// `Ok` if it holds, else what is wrong.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(what()) }
}

#[cfg(test)]
mod fixture;
