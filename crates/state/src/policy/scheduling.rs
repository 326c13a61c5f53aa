//! Which job gets the next free slot. A trait, so that a program that embeds a scheduler can have its own order.
//!
//! The leader alone asks it, and starts of tasks are off the log: replicas come to the same state whatever each of them
//! would have started.
//!
//! Deliberately absent: which of a job's tasks runs, and where (`dispatch`); and stopping what runs for another job.

use std::fmt::Debug;

use polybolos_model::settings::Priority;

use crate::Job;

/// Where a job stands among those that want a slot: the least comes first, and of equals the one that was submitted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// No task of a job of class 1 starts where one of class 0 could. Tasks that need an executor to themselves wait for
    /// one, or empty one, in the order of their classes too.
    pub class: u32,
    /// Within the class.
    pub turn: u64,
}

/// An implementation promises to be **pure**: the same answer to the same question, without a clock, chance, IO or memory
/// of its own. Of the job it reads only what never changes: `options`, `session`, `key`, `sql`, `number`,
/// `submitted_at_ms`, `graph`. A job of which nothing runs is asked about once and its answer kept, so that thousands may
/// wait at no cost. It is asked about those that run at each change, while the state is locked: it must be quick.
///
/// How many tasks a job may run at once it does not say: the job does (`polybolos.max_parallel_tasks`), whoever comes first.
///
/// A broken promise makes the order a wrong one. No slot is given twice or left free by it.
pub trait SchedulingPolicy: Send + Sync + Debug {
    /// The job's rank while so many attempts of its tasks run.
    fn rank(&self, job: &Job, running: u32) -> Rank;
}

/// The default: by `polybolos.priority`, and within a class the job of which fewest attempts run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FairShare;

impl SchedulingPolicy for FairShare {
    fn rank(&self, job: &Job, running: u32) -> Rank {
        let class = match Priority::read(&job.options) {
            Priority::High => 0,
            Priority::Normal => 1,
            Priority::Low => 2,
        };
        Rank { class, turn: u64::from(running) }
    }
}
