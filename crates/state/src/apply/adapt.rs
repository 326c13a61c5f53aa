//! How the tasks of a stage divide its inputs among them, decided once these are complete.
//!
//! ```text
//!   Adaptive ── AdaptStage: no shares ──▶ Partition     as planned
//!            └─ AdaptStage: shares ─────▶ Shares        as many tasks as shares, from now on
//! ```
//!
//! No attempt counts that was launched before. A leader that looks ahead launches by a decision that may never be logged,
//! and then another one is made: its attempts have names behind those of the first.

use polybolos_model::{AttemptId, JobId, Share, StageId, TaskId};
use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::{Change, ClusterState, Rejection, TaskRun};

/// What was decided for a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Adapted {
    /// Attempts up to it count for nothing.
    pub(crate) after: AttemptId,
    /// As many as tasks were planned.
    pub(crate) partitions: u32,
    /// Empty if it is as planned.
    pub(crate) shares: Vec<Share>,
}

impl ClusterState {
    /// What each task of the stage reads; `None` if task `p` reads partition `p`, or if that is not decided, or not known any
    /// more as its job is released.
    pub fn shares(&self, job: JobId, stage: StageId) -> Option<&[Share]> {
        let adapted = self.extension.v4.adapted.get(&(job, stage))?;
        (!adapted.shares.is_empty()).then_some(&adapted.shares)
    }

    /// What a task reads of its partitioned inputs.
    pub fn share(&self, task: TaskId) -> Share {
        let shares = self.shares(task.job, task.stage);
        let share = shares.and_then(|shares| shares.get(task.partition as usize));
        share.copied().unwrap_or_else(|| Share::one(task.partition))
    }

    /// The same in words for a whole stage, if it is not as planned.
    pub fn shares_in_words(&self, job: JobId, stage: StageId) -> Option<String> {
        let adapted = self.extension.v4.adapted.get(&(job, stage)).filter(|of| !of.shares.is_empty())?;
        Some(polybolos_model::SharesInWords(adapted.partitions, &adapted.shares).to_string())
    }

    /// Up to which attempt none counts for the stage, if that was decided.
    pub fn adapted_after(&self, job: JobId, stage: StageId) -> Option<AttemptId> {
        self.extension.v4.adapted.get(&(job, stage)).map(|adapted| adapted.after)
    }

    /// Whether the attempt was launched before it was decided how its task reads its inputs, or by another decision.
    pub(crate) fn is_of_no_decision(&self, task: TaskId, attempt: AttemptId) -> bool {
        match self.extension.v4.adapted.get(&(task.job, task.stage)) {
            Some(adapted) => attempt <= adapted.after,
            None => self.is_undecided(task.job, task.stage),
        }
    }

    pub(crate) fn is_undecided(&self, job: JobId, stage: StageId) -> bool {
        let stage = self.job(job).and_then(|job| job.graph.stage(stage));
        stage.is_some_and(polybolos_model::Stage::is_undecided)
    }

    pub(crate) fn adapt(&mut self, id: JobId, stage: StageId, shares: &[Share], after: AttemptId) -> Outcome {
        let job = self.job(id).ok_or(Rejection::JobNotFound { job: id })?;
        if !self.is_active(job) {
            return Err(Rejection::JobEnded { job: id, status: job.status });
        }
        let of = job.graph.stage(stage).filter(|of| of.is_undecided());
        let of = of.ok_or(Rejection::StageDecided { job: id, stage })?;
        if !job.has_inputs(of) {
            return Err(Rejection::StageNotReady { job: id, stage });
        }
        if !shares.is_empty() {
            let checked = job.graph.check_shares(of, shares);
            checked.map_err(|error| Rejection::BadShares { job: id, stage, error })?;
        }
        let partitions = of.tasks;
        let tasks = self.divide(id, stage, shares);
        let adapted = Adapted { after, partitions, shares: shares.to_vec() };
        self.extension.v4.adapted.insert((id, stage), adapted);
        Ok(Change::StageAdapted { job: id, stage, tasks, after })
    }

    /// How many tasks the stage has by then. Nothing is known of any of them.
    fn divide(&mut self, id: JobId, stage: StageId, shares: &[Share]) -> u32 {
        let Some(job) = self.jobs.by_id.get_mut(&id) else { return 0 };
        let at = stage.0 as usize;
        let (Some(stage), Some(run)) = (job.graph.stages.get_mut(at), job.runs.get_mut(at)) else { return 0 };
        stage.decide(shares);
        run.tasks = vec![TaskRun::default(); stage.tasks as usize];
        run.open = (0..stage.tasks).collect();
        let tasks = stage.tasks;
        job.revision += 1;
        tasks
    }
}
