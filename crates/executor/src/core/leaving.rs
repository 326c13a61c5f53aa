//! Outputs that are taken over from executors that leave.
//!
//! ```text
//!   Pull ─▶ under way ─┬─ whole ──▶ report Moved ─▶ acknowledged: held, as an output of one's own
//!                      ├─ failed ─▶ told, and another executor is asked
//!                      └─ deleted, job released ─▶ whatever arrives is thrown away
//! ```

use std::collections::BTreeMap;

use polybolos_model::{AttemptId, ExecutorId, Incarnation, JobId, TaskId};

use super::{Core, Effect, Outcome, Work};

/// Outputs that are fetched at once. The scheduler asks for fewer.
pub(crate) const MAX_PULLS: usize = 64;

/// Where an output is that has moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MovedTo {
    pub(crate) job: JobId,
    pub(crate) attempt: AttemptId,
    /// `HOST:PORT` of its executor's Flight service.
    pub(crate) address: String,
}

/// Outputs that are being fetched, and from whom.
#[derive(Debug, Default)]
pub(super) struct Pulls(BTreeMap<AttemptId, (TaskId, ExecutorId, Incarnation)>);

impl Pulls {
    pub(super) fn forget(&mut self, attempt: AttemptId) {
        self.0.remove(&attempt);
    }

    pub(super) fn forget_job(&mut self, job: JobId) {
        self.0.retain(|_, (task, ..)| task.job != job);
    }
}

impl Core {
    /// One that is under way, or whose report is, goes on.
    pub(super) fn pull(
        &mut self,
        task: TaskId,
        attempt: AttemptId,
        (from, incarnation): (ExecutorId, Incarnation),
        effects: &mut Vec<Effect>,
    ) {
        if self.pulls.0.contains_key(&attempt) || self.ledger.tells_moved(attempt) {
            return;
        }
        if self.pulls.0.len() >= MAX_PULLS {
            return effects.push(Effect::TellPullFailed(attempt));
        }
        self.jobs.insert(task.job);
        self.pulls.0.insert(attempt, (task, from, incarnation));
        effects.push(Effect::Pull(attempt));
    }

    pub(super) fn pulled(&mut self, attempt: AttemptId, whole: bool, effects: &mut Vec<Effect>) {
        match (self.pulls.0.remove(&attempt), whole) {
            (Some((task, from, incarnation)), true) => {
                // The epoch counted with the completion.
                self.ledger.add(Work { task, epoch: 0 }, attempt, Outcome::Moved { from, incarnation });
            }
            (Some(_), false) => effects.push(Effect::TellPullFailed(attempt)),
            (None, true) => effects.push(Effect::ForgetOutput(attempt)),
            (None, false) => {}
        }
    }
}
