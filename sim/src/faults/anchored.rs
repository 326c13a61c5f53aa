//! Faults that begin or end once a query has come so far, whatever the clock says.
//!
//! ```text
//!   moments ─▶ which op has which job, what runs where ─┐
//!   the state after the last entry ─▶ tasks done, losses ┴─▶ reached(When) ─▶ begin, end
//! ```
//!
//! So a loss that met a query at three of eight tasks does so again, on tables of another size.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{AttemptId, JobId, StageId, simulation::Fact};
use polybolos_state::ClusterState;
use turmoil::Sim;

use super::Injector;
use crate::{
    moment::{ClientEvent, Moment, What},
    schedule::{Planned, Schedule, When},
    tape,
};

#[derive(Default)]
pub(super) struct Anchored {
    /// By id.
    waiting: Vec<Planned>,
    /// Faults that last until their query has come so far, and not shorter than until the time given.
    lasting: Vec<(u32, u64, When)>,
    /// The first job of each op.
    jobs: BTreeMap<u32, JobId>,
    /// Attempts under way, by executor.
    running: BTreeMap<String, BTreeSet<(JobId, AttemptId)>>,
}

impl Anchored {
    pub(super) fn new(schedule: &Schedule) -> Self {
        let mut waiting: Vec<Planned> =
            schedule.faults.iter().filter(|planned| planned.when.is_some()).cloned().collect();
        waiting.sort_by_key(|planned| planned.id);
        Self { waiting, ..Self::default() }
    }

    pub(super) fn ends_later(&mut self, planned: &Planned, not_before_ms: u64) {
        self.lasting.extend(planned.until.clone().map(|until| (planned.id, not_before_ms, until)));
    }

    fn on(&mut self, moment: &Moment) {
        match &moment.what {
            What::Client(ClientEvent::Accepted { op, job, .. }) => {
                self.jobs.entry(*op).or_insert(*job);
            }
            What::Fact(Fact::AttemptStarted { executor, task, attempt, .. }) => {
                let running = self.running.entry(executor.to_string()).or_default();
                running.insert((task.job, *attempt));
            }
            What::Fact(Fact::AttemptEnded { executor, task, attempt, .. }) => {
                if let Some(running) = self.running.get_mut(executor.as_str()) {
                    running.remove(&(task.job, *attempt));
                }
            }
            What::Down { .. } | What::Exited { .. } => {
                self.running.remove(&*moment.host);
            }
            _ => {}
        }
    }

    fn is_reached(&self, when: &When, state: &ClusterState) -> bool {
        let Some(job) = self.jobs.get(&when.op).and_then(|job| state.job(*job)) else { return false };
        let mut stages = (0..).zip(&when.done);
        let are_done = stages
            .all(|(stage, done)| job.run(StageId(stage)).is_some_and(|run| run.done() >= *done as usize));
        let runs = |executor: &String| {
            let running = self.running.get(executor);
            running.is_some_and(|running| running.iter().any(|(of, _)| *of == job.id))
        };
        are_done
            && job.tasks_done() >= when.total as usize
            && state.toll(job.id).executors_lost >= u64::from(when.losses)
            && when.runs_on.as_ref().is_none_or(runs)
    }
}

impl Injector {
    /// Something happened.
    pub fn on(&mut self, moment: &Moment) {
        self.anchored.on(moment);
    }

    /// Begins and ends what is due by the progress of queries. `state` is that after the last entry. Called between two
    /// ticks, after [`Injector::step`].
    pub fn follow(&mut self, sim: &mut Sim<'_>, state: &ClusterState) {
        if self.anchored.waiting.is_empty() && self.anchored.lasting.is_empty() {
            return;
        }
        let lasting = std::mem::take(&mut self.anchored.lasting);
        let (over, lasting): (Vec<_>, Vec<_>) = lasting.into_iter().partition(|(_, not_before_ms, until)| {
            *not_before_ms <= self.now_ms && self.anchored.is_reached(until, state)
        });
        self.anchored.lasting = lasting;
        for (id, ..) in over {
            self.end(sim, id);
        }
        let waiting = std::mem::take(&mut self.anchored.waiting);
        for planned in waiting {
            let is_due = planned.at_ms <= self.now_ms
                && planned.when.as_ref().is_some_and(|when| self.anchored.is_reached(when, state))
                // Whoever is to be hit may be there again soon.
                && self.aim(&planned).is_ok();
            if is_due {
                self.begin(sim, &planned);
            } else {
                self.anchored.waiting.push(planned);
            }
        }
    }

    /// Nothing begins any more.
    pub(super) fn give_up_anchored(&mut self) {
        self.anchored.lasting.clear();
        for planned in std::mem::take(&mut self.anchored.waiting) {
            let reason = "its query never came so far with someone to hit".to_owned();
            let (id, name) = (planned.id, planned.fault.name());
            tape::record_of(tape::WORLD, What::FaultSkipped { id, name, reason });
        }
    }
}
