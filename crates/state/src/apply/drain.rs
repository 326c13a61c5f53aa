//! An executor is asked to leave, its outputs go to others, and it is let go. See [`crate::Drain`].

use polybolos_model::{ExecutorId, Incarnation};

use super::{Outcome, tasks::Report};
use crate::{Change, ClusterState, Drain, ExecutorState, Rejection, drain::is_needed, limits::MAX_DRAIN_MS};

impl ClusterState {
    pub(crate) fn begin_drain(
        &mut self,
        id: &ExecutorId,
        incarnation: Incarnation,
        deadline_ms: u64,
    ) -> Outcome {
        self.check_present(id, incarnation)?;
        let now_ms = self.now_ms;
        let Some(executor) = self.executors.get_mut(id) else { return Ok(Change::Unchanged) };
        executor.state = ExecutorState::Draining;
        let fresh = Drain { incarnation, since_ms: now_ms, until_ms: now_ms, moved: 0, left: false };
        let drain = self.extension.v3.drains.entry(id.clone()).or_insert(fresh);
        drain.until_ms = now_ms.saturating_add(deadline_ms.min(MAX_DRAIN_MS));
        Ok(Change::Draining { executor: id.clone() })
    }

    /// It is read there from now on. Whoever reads it where it was may go on with that.
    pub(crate) fn output_moved(
        &mut self,
        report: &Report<'_>,
        from: &ExecutorId,
        from_incarnation: Incarnation,
    ) -> Outcome {
        self.check_present(report.executor, report.incarnation)?;
        let (task, attempt) = (report.task, report.attempt);
        let over = Rejection::AttemptOver { task, attempt };
        let job = self.jobs.by_id.get_mut(&task.job).ok_or(Rejection::JobNotFound { job: task.job })?;
        let is_told_lost = job.status.is_ended() && job.results_lost.contains_key(&task.partition);
        let is_wanted = is_needed(job, task.stage) && !is_told_lost;
        let run = job.runs.get_mut(task.stage.0 as usize);
        let run = run.and_then(|run| run.tasks.get_mut(task.partition as usize));
        let run = run.ok_or(Rejection::TaskNotFound { task })?;
        let Some(done) = run.completed.as_mut().filter(|done| is_wanted && done.attempt == attempt) else {
            return Err(over);
        };
        if (&done.executor, done.incarnation) == (report.executor, report.incarnation) {
            return Ok(Change::Unchanged);
        }
        if (&done.executor, done.incarnation) != (from, from_incarnation) {
            return Err(over);
        }
        (done.executor, done.incarnation) = (report.executor.clone(), report.incarnation);
        job.revision += 1;
        let moves = self.extension.v3.moves.entry(task.job).or_default();
        moves.count += 1;
        moves.tasks.insert((task.stage, task.partition));
        let drain = self.extension.v3.drains.get_mut(from);
        if let Some(drain) = drain.filter(|drain| drain.incarnation == from_incarnation) {
            drain.moved = drain.moved.saturating_add(1);
        }
        Ok(Change::OutputMoved { task })
    }

    /// Who drains may always be let go: what only it holds is made again.
    pub(crate) fn executor_left(
        &mut self,
        id: &ExecutorId,
        incarnation: Incarnation,
        reason: &str,
    ) -> Outcome {
        self.check_present(id, incarnation)?;
        let Some(drain) = self.extension.v3.drains.get(id).cloned() else {
            return Err(Rejection::NotDraining { executor: id.clone() });
        };
        self.mark_lost(id, reason);
        if self.executors.contains_key(id) {
            self.extension.v3.drains.insert(id.clone(), Drain { left: true, ..drain });
        }
        let effects = self.lose_outputs(reason);
        Ok(Change::Left { executor: id.clone(), incarnation, effects })
    }
}
