//! What is to be done about executors that drain, derived from the state and from what runs: a new leader goes on where
//! the last one stopped.
//!
//! ```text
//!   drains ──┬─ outputs that are only there ─▶ Pull: another executor fetches them, and reports OutputMoved
//!            ├─ deadline over ──────────────▶ its attempts are called off, and run elsewhere
//!            └─ nothing is left ────────────▶ ExecutorLeft
//! ```

use polybolos_model::{AttemptId, ExecutorId, SHUFFLE_DURABLE_LABEL};

use super::{CancelTarget, Dispatcher, Pull};
use crate::{
    ClusterState, Command, Drain, Executor,
    policy::drain::{Remains, goes, is_over},
};

/// An executor that copies its outputs to the durable store gets so long for it: what is there needs no other place.
pub(crate) const COPY_TIME_MS: u64 = 3_000;

/// What to do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainSteps {
    /// Off the log. Each counts as under way until it has moved, or [`Dispatcher::pull_failed`].
    pub pulls: Vec<Pull>,
    /// Attempts to stop, forgotten here: their tasks may be launched again.
    pub cancel: Vec<CancelTarget>,
    /// Executors to let go.
    pub leave: Vec<Command>,
}

impl Dispatcher {
    /// `now_ms` is the cluster's time. Nothing happens before all executors have told what they run: until then nobody
    /// knows what runs where.
    pub fn drain(&mut self, state: &ClusterState, now_ms: u64) -> DrainSteps {
        let mut steps = DrainSteps::default();
        self.moves.forget_over(state, now_ms);
        if !self.awaited.is_empty() {
            return steps;
        }
        let takes = |executor: &&Executor| {
            executor.takes_tasks() && self.attached.get(&executor.id) == Some(&executor.incarnation)
        };
        let takers: Vec<&Executor> = state.executors().filter(takes).collect();
        for (executor, drain) in state.drains() {
            // One without a stream comes back, or is lost.
            if self.attached.get(&executor.id) != Some(&executor.incarnation) {
                continue;
            }
            self.drain_one(state, (executor, drain), &takers, now_ms, &mut steps);
        }
        steps
    }

    fn drain_one(
        &mut self,
        state: &ClusterState,
        (executor, drain): (&Executor, &Drain),
        takers: &[&Executor],
        now_ms: u64,
        steps: &mut DrainSteps,
    ) {
        let running = self.running_on(&executor.id);
        if is_over(drain, now_ms) {
            let attempts: Vec<AttemptId> =
                self.by_executor.get(&executor.id).into_iter().flatten().copied().collect();
            polybolos_model::sometimes!("a drain's deadline stopped tasks", !attempts.is_empty());
            for attempt in attempts {
                self.gone(attempt);
                steps.cancel.push(CancelTarget { executor: executor.id.clone(), attempt });
            }
        }
        let outputs = state.only_there(&executor.id, executor.incarnation);
        let copies = executor.labels.contains_key(SHUFFLE_DURABLE_LABEL);
        if !copies || now_ms >= drain.since_ms.saturating_add(COPY_TIME_MS) || is_over(drain, now_ms) {
            steps.pulls.extend(self.moves.order(executor, &outputs, takers, now_ms));
        }
        let remains = Remains { running, outputs: outputs.len(), has_takers: !takers.is_empty() };
        if let Some(reason) = goes(drain, remains, now_ms) {
            let (executor, incarnation) = (executor.id.clone(), executor.incarnation);
            steps.leave.push(Command::ExecutorLeft { executor, incarnation, reason });
        }
    }

    /// The output was handed over, or its order is void: its report was committed or refused.
    pub fn pull_ended(&mut self, attempt: AttemptId) {
        self.moves.ended(attempt);
    }

    /// The executor could not fetch it: another one is asked.
    pub fn pull_failed(&mut self, attempt: AttemptId, executor: &ExecutorId, now_ms: u64) {
        self.moves.failed(attempt, executor, now_ms);
    }
}
