//! What a simulator is told.

use polybolos_model::{
    AttemptId, TaskId, Term,
    simulation::{AttemptEnd, Fact, report},
};

use super::Node;
use crate::core::{Effect, Ended, Outcome};

impl Node {
    pub(super) fn report_obeyed(&self, commanded: Option<Term>, effects: &[Effect]) {
        let is_refused = effects.iter().any(|effect| matches!(effect, Effect::RefusedTerm { .. }));
        if let Some(term) = commanded.filter(|_| !is_refused) {
            report(|| Fact::Obeyed { executor: self.tools.me.clone(), term });
        }
    }

    pub(super) fn report_start(&self, attempt: AttemptId, task: TaskId) {
        report(|| Fact::AttemptStarted {
            executor: self.tools.me.clone(),
            task,
            attempt,
            busy: self.core.busy_slots(),
            slots: self.register.slots.max(1) as usize,
        });
    }

    pub(super) fn report_end(&self, attempt: AttemptId, ended: &Ended) {
        let Some(task) = self.core.task(attempt) else { return };
        let end = match ended {
            Ended::Finished(Outcome::Completed { .. } | Outcome::Durable | Outcome::Moved { .. }) => {
                AttemptEnd::Completed
            }
            Ended::Finished(Outcome::Failed(_)) => AttemptEnd::Failed,
            Ended::Stopped => AttemptEnd::Stopped,
        };
        report(|| Fact::AttemptEnded { executor: self.tools.me.clone(), task, attempt, end });
    }
}
