//! Why a task that is not done does not run: for people, derived from what the leader would decide now.

use std::fmt;

use polybolos_model::{ExecutorId, StageId, TaskId};

use super::{Dispatcher, choose::Slots, memory::Size, parallel::max_parallel_tasks};
use crate::{ClusterState, Job, JobStatus};

/// Names that one reason tells at most.
const MAX_NAMES: usize = 8;

/// What a task waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// These stages, which it reads, are not complete.
    Inputs { stages: Vec<StageId> },
    /// It failed, and is tried again then, by the cluster's time.
    Backoff { until_ms: u64 },
    /// These executors may run it, and have not told a new leader yet.
    Reports { executors: Vec<ExecutorId> },
    /// No executor takes tasks and has a stream.
    Executor,
    /// As many of its job's tasks run as may at once.
    Parallel { most: u32 },
    /// It has an executor to itself: because it ran out of a resource, or so many executors died under it. `held` gets
    /// nothing new for it, or for another such task.
    Alone { starved: bool, deaths: usize, held: Option<ExecutorId> },
    /// It has failed on these executors, and no other one has a free slot.
    Elsewhere { failed_on: Vec<ExecutorId> },
    /// It would not fit beside what runs: about so much, and of the executors that may run it and have a slot this one has the
    /// most free. `held` gets nothing new until it has room.
    Memory { needs_bytes: u64, most: Option<(ExecutorId, u64)>, held: Option<ExecutorId> },
    /// All slots are taken. Executors that are set aside, as tasks keep failing there, and until when; and executors that are
    /// kept for a task that runs alone or has waited for memory.
    Slot { set_aside: Vec<(ExecutorId, u64)>, kept: Vec<ExecutorId> },
    /// Nothing: it is about to be launched.
    Nothing,
}

/// The waits of one job's tasks.
pub struct Waits<'a> {
    dispatcher: &'a Dispatcher,
    state: &'a ClusterState,
    job: &'a Job,
    slots: Slots,
}

impl Dispatcher {
    /// What the tasks of the job wait for now. `None` of one of which nothing is to run.
    pub fn waits<'a>(&'a self, state: &'a ClusterState, job: &'a Job) -> Option<Waits<'a>> {
        let is_over = match job.status {
            JobStatus::Queued | JobStatus::Running => state.is_publishing(job.id),
            JobStatus::Succeeded | JobStatus::Failed | JobStatus::Cancelled => !state.is_active(job),
        };
        if is_over {
            return None;
        }
        let mut slots = Slots::free(self, state);
        if let Some(held) = &self.reserved {
            slots.close(held);
        }
        Some(Waits { dispatcher: self, state, job, slots })
    }
}

impl Waits<'_> {
    /// `None` of a task that is done or runs, or is not the job's.
    pub fn of(&self, stage: StageId, partition: u32) -> Option<Wait> {
        let Self { dispatcher, state, job, .. } = *self;
        let task = TaskId { job: job.id, stage, partition };
        let (stage, run) = job.stage(stage)?;
        let known = run.tasks.get(partition as usize)?;
        if known.completed.is_some() || dispatcher.by_task.contains_key(&task) {
            return None;
        }
        if !job.is_ready(stage) {
            let is_open = |id: &StageId| !job.run(*id).is_some_and(crate::StageRun::is_complete);
            let stages = stage.inputs.iter().map(|input| input.stage).filter(is_open).collect();
            return Some(Wait::Inputs { stages });
        }
        if let Some(until_ms) = dispatcher.failures.waits_until(task, dispatcher.now_ms) {
            return Some(Wait::Backoff { until_ms });
        }
        if !dispatcher.awaited.is_empty() {
            return Some(Wait::Reports { executors: dispatcher.awaited.iter().cloned().collect() });
        }
        if self.slots.is_empty() {
            return Some(Wait::Executor);
        }
        if let Some(most) =
            max_parallel_tasks(state, job).filter(|most| dispatcher.busy_with(job.id) >= *most)
        {
            return Some(Wait::Parallel { most });
        }
        if state.runs_alone(task) {
            let (starved, deaths) = (state.is_starved(task), state.deaths(task).len());
            return Some(Wait::Alone { starved, deaths, held: dispatcher.reserved.clone() });
        }
        let is_short = dispatcher.is_short(task);
        if is_short || self.slots.has_slot(known) {
            let needs_bytes = dispatcher.estimates.look(state, job, stage, run, partition);
            if self.slots.has_room(known, needs_bytes) {
                return Some(Wait::Nothing);
            }
            let most = self.slots.most_free_bytes(known).map(|(id, bytes)| (id.clone(), bytes));
            let is_held_for = is_short && dispatcher.out_of_patience().any(|short| short == task);
            let held = dispatcher.reserved.clone().filter(|_| is_held_for);
            return Some(Wait::Memory { needs_bytes, most, held });
        }
        if !self.slots.is_full() {
            let failed = self.slots.executors().filter(|id| known.failed_on(id));
            return Some(Wait::Elsewhere { failed_on: failed.cloned().collect() });
        }
        let kept = self.slots.executors().filter(|id| dispatcher.is_kept_for_one(id)).cloned().collect();
        Some(Wait::Slot { set_aside: dispatcher.set_aside(state), kept })
    }
}

impl Dispatcher {
    /// Executors that are attached and set aside, and until when. Ascending.
    fn set_aside(&self, state: &ClusterState) -> Vec<(ExecutorId, u64)> {
        let until = |(id, incarnation): (&ExecutorId, &_)| {
            let takes = state.present(id, *incarnation).is_some_and(crate::Executor::takes_tasks);
            let until_ms = self.failures.set_aside_until(id, *incarnation, self.now_ms).filter(|_| takes)?;
            Some((id.clone(), until_ms))
        };
        self.attached.iter().filter_map(until).collect()
    }
}

impl Wait {
    /// In words. Times are of the cluster, and told as what is left of them at `now_ms`.
    pub fn words(&self, now_ms: u64) -> String {
        let left = |until_ms: u64| format!("{:.1} s", until_ms.saturating_sub(now_ms) as f64 / 1e3);
        match self {
            Self::Inputs { stages } => {
                let s = if stages.len() == 1 { "" } else { "s" };
                format!("reads stage{s} {}, not complete", names(stages))
            }
            Self::Backoff { until_ms } => format!("failed, and is tried again in {}", left(*until_ms)),
            Self::Reports { executors } => {
                format!("a new leader waits to hear what runs on {}", names(executors))
            }
            Self::Executor => "no executor takes tasks".to_owned(),
            Self::Parallel { most } => {
                format!(
                    "as many of the query's tasks run as may at once: {most} (polybolos.max_parallel_tasks)"
                )
            }
            Self::Alone { starved, deaths, held } => {
                let mut words = "needs an executor to itself, as ".to_owned();
                words += &match starved {
                    true => "it ran out of memory or another resource".to_owned(),
                    false => format!("{deaths} executors died under it"),
                };
                words + &held.as_ref().map_or(String::new(), |id| format!("; {id} is being emptied"))
            }
            Self::Elsewhere { failed_on } => {
                format!("failed on {}; no other executor has a free slot", names(failed_on))
            }
            Self::Memory { needs_bytes, most, held } => {
                let mut words = format!("waits for memory: needs about {}", Size(*needs_bytes));
                if let Some((executor, bytes)) = most {
                    words += &format!(", {executor} has {} free", Size(*bytes));
                }
                words + &held.as_ref().map_or(String::new(), |id| format!("; {id} is being emptied"))
            }
            Self::Slot { set_aside, kept } => {
                let mut words = "no slot is free".to_owned();
                if !set_aside.is_empty() {
                    let until = |(id, until_ms): &(ExecutorId, u64)| format!("{id} for {}", left(*until_ms));
                    let executors: Vec<String> = set_aside.iter().map(until).collect();
                    words += &format!("; set aside, as tasks fail there: {}", names(&executors));
                }
                if !kept.is_empty() {
                    words += &format!("; kept for one task: {}", names(kept));
                }
                words
            }
            Self::Nothing => "starts next".to_owned(),
        }
    }
}

fn names<T: fmt::Display>(all: &[T]) -> String {
    let mut names: Vec<String> = all.iter().take(MAX_NAMES).map(T::to_string).collect();
    if all.len() > MAX_NAMES {
        names.push(format!("{} more", all.len() - MAX_NAMES));
    }
    names.join(", ")
}
