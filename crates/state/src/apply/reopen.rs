//! Results that were lost after their job had succeeded: made again on demand, while somebody wants to read them.
//!
//! ```text
//!   succeeded ── ReopenJob: partitions are lost ──▶ Active ── the last of them is completed ──▶ Whole ─┐
//!                                                    │  ▲                                             │
//!                                                    │  └─────────── ReopenJob: lost again ───────────┘
//!                                                    └── beyond repair, or a task fails for good ──▶ GivenUp
//! ```
//!
//! For everybody outside the job stays succeeded: its status only moves forward. What runs again, how often, and which
//! readers are rolled back follows the rules of a running job. If the whole result is rolled back its generation rises,
//! by which a reader knows that rows that it has handed out are void.

use std::collections::BTreeSet;

use polybolos_model::{AttemptId, JobId};
use serde::{Deserialize, Serialize};

use super::{Outcome, rollback::Undoing};
use crate::{
    Change, ClusterState, Command, Effects, Job, JobError, JobStatus, Rejection, limits::RESULT_TTL_MS,
};

/// Why outputs go that their executor can't give, though it lives.
const UNREADABLE: &str = "their executor could not give them to the client";

/// What became of a result that was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reopened {
    /// Its lost partitions are being made again.
    Active,
    /// All of it is there again.
    Whole,
    /// For good: nothing makes it again.
    GivenUp(Box<JobError>),
}

/// The last time that a job's lost result was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reopening {
    /// When `state` was reached.
    pub(crate) at_ms: u64,
    pub(crate) state: Reopened,
}

impl ClusterState {
    /// Whether tasks of the job may run: it has not ended, or lost partitions of its result are made again.
    pub fn is_active(&self, job: &Job) -> bool {
        self.jobs.active.contains(&job.number)
    }

    /// Whether partitions of the result that are lost, now or later, could be made again.
    pub fn can_reopen(&self, job: &Job) -> bool {
        let is_kept = job.status == JobStatus::Succeeded && !job.released && !self.is_active(job);
        self.version >= Command::REOPEN_VERSION
            && is_kept
            && self.given_up_for(job.id).is_none()
            && job.graph.stages.iter().all(|stage| !stage.plan.is_empty())
    }

    /// Why the lost partitions of a job's result could not be made again, if that was tried.
    pub fn given_up_for(&self, job: JobId) -> Option<&JobError> {
        match &self.extension.v3.reopened.get(&job)?.state {
            Reopened::GivenUp(error) => Some(error),
            Reopened::Active | Reopened::Whole => None,
        }
    }

    /// Lets the tasks run again that the lost partitions of a result need, also those that the client could not read.
    /// While the job is active anyway, only the latter are given up.
    pub(crate) fn reopen(&mut self, id: JobId, unreadable: &[(u32, AttemptId)]) -> Outcome {
        let job = self.job(id).ok_or(Rejection::JobNotFound { job: id })?;
        if !self.is_active(job) && !self.can_reopen(job) {
            return Err(Rejection::NotReopened { job: id });
        }
        let present = |&(partition, attempt): &(u32, AttemptId)| {
            let done = job.task(job.result_stage(), partition).and_then(|task| task.completed.as_ref());
            done.is_some_and(|done| done.attempt == attempt).then_some(attempt)
        };
        let unreadable: BTreeSet<AttemptId> = unreadable.iter().filter_map(present).collect();
        if self.is_active(job) {
            let effects = self.lose_job_outputs_too(id, None, &unreadable, UNREADABLE);
            let is_news = effects != Effects::default();
            return Ok(if is_news { Change::Reopened { job: id, effects } } else { Change::Unchanged });
        }
        let undoing = Undoing::of(job, self.version, self.results_at(id), |done| {
            unreadable.contains(&done.attempt) || self.is_gone(id, done)
        });
        // Open tasks of earlier stages may be left over from a time when they were needed: what those read is not.
        if !undoing.tasks.contains_key(&job.result_stage()) {
            return Ok(Change::Unchanged);
        }
        let why = job.results_lost.values().next().map_or_else(|| UNREADABLE.to_owned(), Clone::clone);
        self.begin_again(id);
        let effects = self.lose_job_outputs_too(id, None, &unreadable, &why);
        Ok(Change::Reopened { job: id, effects })
    }

    fn begin_again(&mut self, id: JobId) {
        let at_ms = self.now_ms;
        let Some(job) = self.jobs.by_id.get_mut(&id) else { return };
        job.results_lost.clear();
        job.revision += 1;
        self.jobs.unfetched.remove(&job.number);
        self.jobs.active.insert(job.number);
        self.extension.v3.reopened.insert(id, Reopening { at_ms, state: Reopened::Active });
    }

    /// The last partition of the result is completed, for the first time or again.
    pub(crate) fn succeed(&mut self, id: JobId) {
        if self.is_reopened(id) {
            polybolos_model::sometimes!("a lost result was made again");
            self.end_reopened(id, Reopened::Whole);
        } else {
            self.end_job(id, JobStatus::Succeeded, None);
        }
    }

    /// An active job can't go on. One that had succeeded is not a failed one by that: only a part of its result is gone.
    pub(crate) fn fail_active(&mut self, id: JobId, error: JobError) -> Effects {
        if !self.is_reopened(id) {
            self.end_job(id, JobStatus::Failed, Some(error));
            return Effects { failed: vec![id], ..Effects::default() };
        }
        let missing: Vec<u32> = self.job(id).map_or(Vec::new(), |job| {
            let open = job.runs.last().into_iter().flat_map(|run| &run.open).copied();
            let gone =
                job.results().filter(|(_, done)| self.is_gone(id, done)).map(|(partition, _)| partition);
            open.chain(gone).collect()
        });
        if let Some(job) = self.jobs.by_id.get_mut(&id) {
            let reason = |partition| (partition, error.error.message.clone());
            job.results_lost = missing.into_iter().map(reason).collect();
        }
        self.end_reopened(id, Reopened::GivenUp(Box::new(error)));
        Effects { results_lost: vec![id], ..Effects::default() }
    }

    /// Whether the job had succeeded, and is active again.
    pub(crate) fn is_reopened(&self, id: JobId) -> bool {
        self.job(id).is_some_and(|job| job.status.is_ended() && self.is_active(job))
    }

    /// Jobs that had succeeded, and of which lost results are made again.
    pub(crate) fn reopened_jobs(&self) -> impl Iterator<Item = &Job> {
        let reopened = self.extension.v3.reopened.iter();
        let active = reopened.filter(|(_, reopening)| reopening.state == Reopened::Active);
        active.filter_map(|(id, _)| self.job(*id))
    }

    fn end_reopened(&mut self, id: JobId, state: Reopened) {
        let at_ms = self.now_ms;
        let Some(job) = self.jobs.by_id.get_mut(&id) else { return };
        job.revision += 1;
        self.jobs.active.remove(&job.number);
        self.jobs.unfetched.insert(job.number);
        self.extension.v3.end_job(id);
        self.extension.v3.reopened.insert(id, Reopening { at_ms, state });
    }

    /// Until when the result of an ended job is kept for its client. One that was made again has its full time anew.
    pub(crate) fn kept_until_ms(&self, job: &Job) -> Option<u64> {
        let made_ms = self.reopened_at_ms(job.id);
        job.ended_at_ms.map(|ended_ms| ended_ms.max(made_ms).saturating_add(RESULT_TTL_MS))
    }

    /// When the job's lost result was last asked for or made again; 0 if it never was.
    pub(crate) fn reopened_at_ms(&self, job: JobId) -> u64 {
        self.extension.v3.reopened.get(&job).map_or(0, |reopening| reopening.at_ms)
    }
}
