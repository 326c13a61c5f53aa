//! Launches by what the state will be; see [`ClusterState::ahead`](crate::ClusterState::ahead).

use polybolos_model::{AttemptId, JobId, StageId, TaskId};

use super::{
    Dispatcher, Launch,
    choose::Slots,
    plan::{Cursor, Round},
};
use crate::Ahead;

impl Dispatcher {
    /// The attempt has told that it completed. It counts as running until that is committed or refused, but its slot is
    /// free.
    pub fn reported(&mut self, attempt: AttemptId) {
        if let Some(running) = self.running.get(&attempt)
            && self.reported.insert(attempt)
        {
            *self.reported_by_job.entry(running.task.job).or_default() += 1;
            self.loads.free_slot(running);
        }
    }

    /// The last attempt that this leader has named.
    pub fn last_attempt(&self) -> AttemptId {
        AttemptId { term: self.term, counter: self.counter }
    }

    /// Whether an attempt of the stage runs that was named before a decision about it was, and counts for nothing.
    pub fn has_up_to(&self, job: JobId, stage: StageId, last: AttemptId) -> bool {
        let task = |partition| TaskId { job, stage, partition };
        let mut running = self.by_task.range(task(0)..=task(u32::MAX));
        running.any(|(_, attempts)| attempts.first().is_some_and(|first| *first <= last))
    }

    /// What became of the submit is known: the job is in the state, or never will be.
    pub fn came(&mut self, job: JobId) {
        self.coming.remove(&job);
    }

    /// Fills free slots with tasks of the one job that is ahead. Each launch counts as running, as with
    /// [`Dispatcher::plan`], which plans the rest. Nothing while a task has an executor to itself or waits for that, or
    /// executors are waited for.
    pub fn plan_ahead(&mut self, ahead: &Ahead, now_ms: u64) -> Vec<Launch> {
        self.now_ms = now_ms;
        let is_special = self.reserved.is_some() || self.loads.any_alone();
        let Some(job) = ahead.state.running_job(ahead.job).filter(|_| !is_special && self.awaited.is_empty())
        else {
            return Vec::new();
        };
        if ahead.is_coming {
            self.coming.insert(ahead.job);
        }
        let slots = Slots::free(self, &ahead.state);
        let mut round = Round::new(&ahead.state, slots, None);
        let mut cursor = Cursor::default();
        while !round.is_over() {
            let Some(next) = self.launch_next(&mut round, job, cursor) else { break };
            cursor = next;
        }
        round.into_launches()
    }
}
