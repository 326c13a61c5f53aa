//! Runs the tasks of a hunt, each in a process of its own.

use std::{
    num::NonZero,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Hunt, Task, Verdict};
use crate::{
    process::{self, Flow, Order, ProcessError},
    run::Broken,
    scenario::{self, ScenarioError},
    schedule::Schedule,
};

/// A hunt can't go on.
#[derive(Debug, thiserror::Error)]
pub enum HuntError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl Hunt {
    /// Runs everything that is left, `jobs` processes at a time, and tells each run as it ends.
    ///
    /// # Errors
    /// A run could not be begun or heard. What was found until then is kept.
    pub fn carry_out(
        &mut self,
        jobs: Option<NonZero<usize>>,
        told: &mut dyn FnMut(Task, &Verdict),
    ) -> Result<(), HuntError> {
        let hunt = Mutex::new(self);
        let mut failed = Ok(());
        // What cannot begin now never will: an outcome only takes seeds away.
        let tasks = std::iter::from_fn(|| lock(&hunt).begin());
        process::many(
            tasks,
            jobs,
            |task| (task, simulate(task)),
            |(task, verdict)| match verdict {
                Ok(verdict) => {
                    told(task, &verdict);
                    lock(&hunt).end(task, verdict);
                    Flow::More
                }
                Err(error) => {
                    failed = Err(error);
                    Flow::Enough
                }
            },
        );
        failed
    }
}

/// With the mutant; and without it if that breaks a promise.
fn simulate(task: Task) -> Result<Verdict, HuntError> {
    let schedule = scenario::expand(task.scenario, task.seed)?;
    let Some(broken) = run(&schedule, Some(task.mutant))? else { return Ok(Verdict::Kept) };
    Ok(match run(&schedule, None)? {
        None => Verdict::Broken { check: broken.oracle, what: broken.what },
        Some(_) => Verdict::FalseAlarm,
    })
}

fn run(schedule: &Schedule, mutant: Option<&str>) -> Result<Option<Broken>, HuntError> {
    let order = Order { mutant: mutant.map(str::to_owned), ..Order::new(schedule.clone()) };
    Ok(process::simulate(&order)?.summary.violation)
}

fn lock<'a, 'b>(hunt: &'a Mutex<&'b mut Hunt>) -> MutexGuard<'a, &'b mut Hunt> {
    hunt.lock().unwrap_or_else(PoisonError::into_inner)
}
