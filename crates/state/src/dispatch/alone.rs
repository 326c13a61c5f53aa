//! Tasks that must have an executor to themselves: see [`ClusterState::runs_alone`]. And those that have waited for memory
//! for long, for which one is emptied until they fit: they are launched beside what is left, and others join them.
//!
//! ```text
//!   a waits for room     reserve: the one with the most memory, then the emptiest
//!        │                  │ gets nothing new until what runs there has ended
//!        ▼                  ▼
//!   launched on an empty executor, which gets nothing else until it ends
//! ```
//!
//! **Fairness.** One executor at a time is reserved or taken from tasks that others wait for; after each such run the
//! others fill the slots once before the next executor is reserved. More run alone only where nothing else of their class
//! wants the executor. Jobs of an earlier class come before: they get slots also on an executor that is held for a later
//! one, and need not wait until what runs alone there has ended to have one held for themselves. A task that has waited for
//! memory comes in its turn among them; until another one has an executor held for it, that one has waited as long itself.

use polybolos_model::{ExecutorId, TaskId};

use super::{Dispatcher, choose::Wanted, plan::Round};
use crate::{ClusterState, Job, TaskRun, policy::Rank};

/// A task that may run as soon as it has an executor to itself, or room.
pub(super) struct Waiting<'a> {
    /// Of its job.
    pub(super) rank: Rank,
    job: &'a Job,
    task: TaskId,
    run: &'a TaskRun,
    /// It must have the executor to itself. Otherwise it waits for memory.
    alone: bool,
}

impl Dispatcher {
    /// Holds an executor for the first of these tasks, which are of one class, and launches it once that is empty, or has
    /// room if that is enough. `held` is the one that was held until now.
    pub(super) fn reserve(&mut self, round: &mut Round<'_>, all: &[Waiting<'_>], held: Option<&ExecutorId>) {
        let Some(class) = all.first().map(|first| first.rank.class) else { return };
        // Those of a job of which others have been launched since may have to wait for its own limit.
        let may_run = |waiting: &&Waiting<'_>| {
            !self.by_task.contains_key(&waiting.task) && self.may_run_more(round.state, waiting.job)
        };
        let waiting: Vec<&Waiting<'_>> = all.iter().filter(may_run).collect();
        if self.reserved.is_some() || self.any_runs_alone_up_to(round.state, class) {
            return;
        }
        // What was begun to be emptied stays so: another choice each time would empty none.
        let stays = held.and_then(|held| {
            let task = waiting.iter().find(|w| round.slots.candidates(w.run).any(|(id, _)| id == held))?;
            Some((task, held.clone()))
        });
        let chosen = stays.or_else(|| {
            let task = waiting.first()?;
            Some((task, round.slots.roomiest(task.run)?))
        });
        let Some((waiting, executor)) = chosen else { return };
        if !waiting.alone && self.launch_in_room(round, waiting) {
            // One less: the next one has an executor held.
            return self.reserve(round, all, held);
        }
        if waiting.alone && round.slots.is_idle(&executor) {
            self.launch_alone(round, waiting.task, &executor);
        } else {
            round.slots.close(&executor);
            self.reserved = Some(executor);
        }
    }

    /// Once nobody else of their class wants them, empty executors take more tasks that run alone.
    pub(super) fn use_idle(&mut self, round: &mut Round<'_>, waiting: &[Waiting<'_>]) {
        for waiting in waiting.iter().filter(|waiting| waiting.alone) {
            if self.by_task.contains_key(&waiting.task) || !self.may_run_more(round.state, waiting.job) {
                continue;
            }
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

    /// What has waited for memory starts where it fits now, if anywhere.
    fn launch_in_room(&mut self, round: &mut Round<'_>, waiting: &Waiting<'_>) -> bool {
        let (job, TaskId { stage, partition, .. }) = (waiting.job, waiting.task);
        let Some((stage, run)) = job.stage(stage) else { return false };
        let needs_bytes = self.estimates.needs(round.state, job, stage, run, partition);
        let wanted = Wanted { state: round.state, job, stage, partition, needs_bytes };
        let Some((executor, incarnation)) = round.slots.take(self, &wanted) else { return false };
        polybolos_model::sometimes!("a task got the memory that it had waited for");
        self.launch(round, waiting.task, executor, incarnation, false);
        true
    }

    /// A task of that class or an earlier one runs alone. What is of a job that has ended is about to end too.
    fn any_runs_alone_up_to(&self, state: &ClusterState, class: u32) -> bool {
        let is_up_to = |job: Option<&Job>| job.is_none_or(|job| self.rank(job).class <= class);
        self.running.values().any(|running| running.alone && is_up_to(state.running_job(running.task.job)))
    }

    /// In the order of the jobs' ranks, then of submission.
    pub(super) fn waiting_alone<'a>(&self, state: &'a ClusterState) -> Vec<Waiting<'a>> {
        let alone = state.alone_tasks().map(|task| (task, true));
        let waiting = alone.chain(self.out_of_patience().map(|task| (task, false)));
        let waiting = waiting.filter_map(|(task, alone)| {
            let (job, run) = self.due(state, task)?;
            Some((job.number, Waiting { rank: self.rank(job), job, task, run, alone }))
        });
        let mut waiting: Vec<(u64, Waiting<'a>)> = waiting.collect();
        waiting.sort_by_key(|(number, w)| (w.rank, *number, w.task.stage, w.task.partition));
        waiting.into_iter().map(|(_, waiting)| waiting).collect()
    }

    /// The task may start now, if there is an executor for it.
    pub(super) fn due<'a>(&self, state: &'a ClusterState, task: TaskId) -> Option<(&'a Job, &'a TaskRun)> {
        let job = state.running_job(task.job)?;
        let (stage, run) = job.stage(task.stage)?;
        let is_due = run.open.contains(&task.partition)
            && job.is_ready(stage)
            && !self.by_task.contains_key(&task)
            && self.may_run_more(state, job)
            && !self.failures.is_waiting(task, self.now_ms);
        Some((job, run.tasks.get(task.partition as usize).filter(|_| is_due)?))
    }
}
