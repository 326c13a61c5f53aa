//! Outputs that outlive their executor: they are in the durable store too, and never lost with it.
//!
//! ```text
//!   CompleteTaskIn { durable } or, later, OutputDurable ─▶ durable[job] ∋ attempt ─▶ undone, or its job released
//! ```

use polybolos_model::{AttemptId, JobId, SHUFFLE_DURABLE_LABEL};

use super::{Outcome, tasks::Report};
use crate::{Change, ClusterState, Executor, Rejection};

impl ClusterState {
    /// An executor says that its output of a completed task is in the durable store too by now.
    pub(crate) fn output_durable(&mut self, report: &Report<'_>) -> Outcome {
        self.check_present(report.executor, report.incarnation)?;
        let (task, attempt) = (report.task, report.attempt);
        let job = self.job(task.job).ok_or(Rejection::JobNotFound { job: task.job })?;
        let run = job.task(task.stage, task.partition).ok_or(Rejection::TaskNotFound { task })?;
        if run.completed.as_ref().is_none_or(|done| done.attempt != attempt) {
            return Err(Rejection::AttemptOver { task, attempt });
        }
        if job.released || self.is_durable(task.job, attempt) {
            return Ok(Change::Unchanged);
        }
        self.mark_durable(task.job, attempt);
        Ok(Change::MadeDurable { task })
    }

    pub(crate) fn mark_durable(&mut self, job: JobId, attempt: AttemptId) {
        self.extension.v3.durable.entry(job).or_default().insert(attempt);
    }

    /// It can't be read there either.
    pub(crate) fn unmark_durable(&mut self, job: JobId, attempt: AttemptId) {
        let durable = &mut self.extension.v3.durable;
        if let Some(attempts) = durable.get_mut(&job) {
            attempts.remove(&attempt);
            if attempts.is_empty() {
                durable.remove(&job);
            }
        }
    }

    /// Executors have come or gone: durable results are served by others now, which watchers must hear.
    pub(crate) fn note_moves(&mut self) {
        for job in self.extension.v3.durable.keys() {
            if let Some(job) = self.jobs.by_id.get_mut(job) {
                job.revision += 1;
            }
        }
    }

    /// Whether the completed attempt's output is in the durable store too.
    pub fn is_durable(&self, job: JobId, attempt: AttemptId) -> bool {
        self.extension.v3.durable.get(&job).is_some_and(|attempts| attempts.contains(&attempt))
    }

    pub fn has_durable_outputs(&self) -> bool {
        !self.extension.v3.durable.is_empty()
    }

    /// Who serves a partition of a durable result whose own executor is gone: one of those that read the durable store,
    /// each its share, and rather one whose stream is whole.
    pub(crate) fn stand_in(&self, partition: u32) -> Option<&Executor> {
        let reads = |e: &&Executor| e.is_present() && e.labels.contains_key(SHUFFLE_DURABLE_LABEL);
        let all: Vec<&Executor> = self.executors().filter(reads).collect();
        let whole: Vec<&Executor> = all.iter().copied().filter(|e| e.suspect_since_ms.is_none()).collect();
        let from = if whole.is_empty() { all } else { whole };
        from.get(partition as usize % from.len().max(1)).copied()
    }
}
