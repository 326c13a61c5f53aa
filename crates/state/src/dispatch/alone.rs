//! Tasks that must have an executor to themselves: see [`ClusterState::runs_alone`].
//!
//! ```text
//!   a waits for room     reserve: the one with the most memory, then the emptiest
//!        │                  │ gets nothing new until what runs there has ended
//!        ▼                  ▼
//!   launched on an empty executor, which gets nothing else until it ends
//! ```
//!
//! **Fairness.** One executor at a time is reserved or taken from tasks that others wait for; after each such run the
//! others fill the slots once before the next executor is reserved. More run alone only where nothing else wants the
//! executor.

use polybolos_model::{ExecutorId, Stage, TaskId};

use super::{Dispatcher, plan::Round};
use crate::{ClusterState, Job, TaskRun};

/// A task that may run as soon as it has an executor to itself.
struct Waiting<'a> {
    task: TaskId,
    job: &'a Job,
    stage: &'a Stage,
    run: &'a TaskRun,
}

impl Dispatcher {
    /// Holds an executor for the first task that waits to run alone, and launches it once that is empty.
    pub(super) fn reserve(&mut self, round: &mut Round<'_>) {
        let others_first = std::mem::take(&mut self.others_first);
        let held = self.reserved.take();
        if others_first || !self.any_alone(round.state) || self.running.values().any(|running| running.alone)
        {
            return;
        }
        let waiting = self.waiting_alone(round.state);
        // What was begun to be emptied stays so: another choice each time would empty none.
        let stays = held.and_then(|held| {
            let task = waiting.iter().find(|w| round.slots.candidates(w.run).any(|(id, _)| *id == held))?;
            Some((task, held))
        });
        let chosen = stays.or_else(|| {
            let task = waiting.first()?;
            Some((task, round.slots.roomiest(task.run)?))
        });
        let Some((waiting, executor)) = chosen else { return };
        if round.slots.is_idle(&executor) {
            self.launch_alone(round, waiting.task, &executor);
        } else {
            round.slots.close(&executor);
            self.reserved = Some(executor);
        }
    }

    /// Once nobody else wants them, empty executors take more tasks that run alone.
    pub(super) fn use_idle(&mut self, round: &mut Round<'_>) {
        if !self.any_alone(round.state) {
            return;
        }
        for waiting in self.waiting_alone(round.state) {
            if let Some(executor) = round.slots.idle_and_roomy(waiting.run) {
                self.launch_alone(round, waiting.task, &executor);
            }
        }
    }

    fn launch_alone(&mut self, round: &mut Round<'_>, task: TaskId, executor: &ExecutorId) {
        polybolos_model::sometimes!("a task ran alone");
        if let Some(incarnation) = round.slots.close(executor) {
            self.launch(round, task, executor.clone(), incarnation, true);
        }
    }

    fn any_alone(&self, state: &ClusterState) -> bool {
        state.alone_tasks().next().is_some()
    }

    /// Of the job of which fewest attempts run first, then in the order of submission.
    fn waiting_alone<'a>(&self, state: &'a ClusterState) -> Vec<Waiting<'a>> {
        let waiting = state.alone_tasks().filter_map(|task| {
            let job = state.running_job(task.job)?;
            let (stage, run) = job.stage(task.stage)?;
            let is_due = run.open.contains(&task.partition)
                && job.is_ready(stage)
                && !self.by_task.contains_key(&task)
                && !self.failures.is_waiting(task, self.now_ms);
            let run = run.tasks.get(task.partition as usize).filter(|_| is_due)?;
            Some(Waiting { task, job, stage, run })
        });
        let mut waiting: Vec<Waiting<'a>> = waiting.collect();
        let runs = |job: &Job| self.by_job.get(&job.id).copied().unwrap_or(0);
        waiting.sort_by_key(|w| (runs(w.job), w.job.number, w.stage.id, w.task.partition));
        waiting
    }
}
