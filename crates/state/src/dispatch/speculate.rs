//! A second attempt for a task that is far slower than its siblings, from slots that nothing else wants.
//!
//! ```text
//!   stage: ██ ██ ██ ██ ██ ██ ██ ░░░░░░░░░░░…      enough of its tasks are done: the median of their times is known
//!                                ▲ since  ▲ since + max(min_ms, multiplier × median): a copy on another executor
//! ```
//!
//! The first completion that commits wins; the other attempt is then one that nobody needs, see
//! [`Dispatcher::cancel_targets`]. An attempt is copied once: if its copy fails it goes on alone, and if it fails itself
//! its copy does.

use std::collections::BTreeMap;

use polybolos_model::{AttemptId, ExecutorId, JobId, StageId, settings::JobSettings};

use super::{Dispatcher, choose::Wanted, plan::Round};
use crate::{Job, StageRun};

/// An attempt that may be copied.
struct Slow {
    overdue_ms: u64,
    attempt: AttemptId,
}

impl Dispatcher {
    /// Copies the most overdue attempts. Sets when the next one is overdue, if there are slots for it.
    pub(super) fn speculate(&mut self, round: &mut Round<'_>) {
        if round.slots.is_full() {
            return;
        }
        let mut slow = Vec::new();
        for ((job, stage), attempts) in self.uncopied() {
            let Some(job) = round.state.running_job(job) else { continue };
            let settings = round.state.settings(job);
            let limit_ms = job.run(stage).and_then(|run| slow_after_ms(&settings, run));
            let Some(limit_ms) = limit_ms else { continue };
            for (attempt, since_ms) in attempts {
                let at_ms = since_ms.saturating_add(limit_ms);
                match self.now_ms.checked_sub(at_ms) {
                    Some(overdue_ms) => slow.push(Slow { overdue_ms, attempt }),
                    None => round.wake(at_ms),
                }
            }
        }
        slow.sort_by_key(|slow| (std::cmp::Reverse(slow.overdue_ms), slow.attempt));
        for Slow { attempt, .. } in slow {
            if round.slots.is_full() {
                return;
            }
            self.copy(round, attempt);
        }
    }

    /// Attempts that run without another one of their task, of tasks that need not run alone; by stage.
    fn uncopied(&self) -> BTreeMap<(JobId, StageId), Vec<(AttemptId, u64)>> {
        let mut stages: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (task, attempts) in self.by_task.iter().filter(|(_, attempts)| attempts.len() == 1) {
            let Some(attempt) = attempts.first() else { continue };
            let running = self.running.get(attempt).filter(|running| !running.copied && !running.alone);
            let running = running.filter(|_| !self.reported.contains(attempt));
            if let Some(running) = running {
                stages.entry((task.job, task.stage)).or_default().push((*attempt, running.since_ms));
            }
        }
        stages
    }

    fn copy(&mut self, round: &mut Round<'_>, attempt: AttemptId) {
        let state = round.state;
        let Some((task, on)) = self.running.get(&attempt).map(|r| (r.task, r.executor.clone())) else {
            return;
        };
        let due = !state.runs_alone(task) && !self.failures.is_waiting(task, self.now_ms);
        // It counts as one that runs at once. When one of them ends it is looked at again.
        let room = |job: &&Job| due && self.may_run_more(state, job);
        let Some(job) = state.job(task.job).filter(room) else { return };
        let Some((stage, run)) = job.stage(task.stage).filter(|(stage, _)| job.is_ready(stage)) else {
            return;
        };
        let needs_bytes = self.estimates.needs(state, job, stage, run, task.partition);
        let wanted = Wanted { state, job, stage, partition: task.partition, needs_bytes };
        let elsewhere =
            |id: &ExecutorId| (*id != on) != polybolos_model::mutant!("speculation-same-executor");
        let Some((executor, incarnation)) = round.slots.take_copy(self, &wanted, elsewhere) else { return };
        polybolos_model::sometimes!("a slow task got a second attempt");
        self.launch(round, task, executor, incarnation, false);
        if let Some(running) = self.running.get_mut(&attempt) {
            running.copied = true;
        }
    }
}

/// How long a task of the stage may run before it counts as slow; `None` while it can't be told.
fn slow_after_ms(settings: &JobSettings, run: &StageRun) -> Option<u64> {
    let (done, total) = (run.done() as u64, run.tasks.len() as u64);
    if !settings.speculation || done == 0 || done * 1_000 < total * u64::from(settings.speculation_quantile) {
        return None;
    }
    let mut elapsed: Vec<u64> = run.completed().map(|(_, done)| done.metrics.elapsed_us).collect();
    let middle = elapsed.len() / 2;
    let (_, median_us, _) = elapsed.select_nth_unstable(middle);
    let limit_us = median_us.saturating_mul(u64::from(settings.speculation_multiplier)) / 1_000;
    Some(u64::from(settings.speculation_min_ms).max(limit_us.div_ceil(1_000)))
}
