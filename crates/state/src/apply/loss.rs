//! Outputs that are gone: which tasks must run again for the readers that have not finished.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{ErrorClass, ExecutorId, Incarnation, JobId, StageId, TaskError, TaskId};

use crate::{
    ClusterState, Effects, Executor, Fate, Job, JobError, JobStatus, PastAttempt, TaskDone,
    limits::MAX_STAGE_RERUNS,
};

type Executors = BTreeMap<ExecutorId, Executor>;

/// One life of an executor whose outputs can't be read, though it may be present.
type Unreadable<'a> = Option<(&'a ExecutorId, Incarnation)>;

impl ClusterState {
    /// Repairs every job after an executor has gone. All affected stages are reset at once.
    pub(crate) fn lose_outputs(&mut self, why: &str) -> Effects {
        let mut effects = self.mark_lost_results(why);
        let active: Vec<JobId> = self.active_jobs().map(|job| job.id).collect();
        for job in active {
            let of_job = self.lose_job_outputs(job, None, why);
            effects.rerun.extend(of_job.rerun);
            effects.orphaned.extend(of_job.orphaned);
            effects.failed.extend(of_job.failed);
        }
        effects.rerun.sort_unstable();
        effects.orphaned.sort_unstable();
        effects.failed.sort_unstable();
        effects
    }

    /// Sends the completed tasks of an active job back to not done whose outputs are lost and still needed, or fails
    /// the job where that can't be repaired.
    pub(crate) fn lose_job_outputs(&mut self, id: JobId, unreadable: Unreadable<'_>, why: &str) -> Effects {
        let executors = &self.executors;
        let Some(job) = self.jobs.by_id.get_mut(&id) else { return Effects::default() };
        let is_lost = |done: &TaskDone| {
            unreadable == Some((&done.executor, done.incarnation)) || !is_present(executors, done)
        };
        let undone = needed_and_lost(job, is_lost);
        if undone.is_empty() {
            return Effects::default();
        }
        if let Some(error) = beyond_repair(job, &undone, why) {
            self.end_job(id, JobStatus::Failed, Some(error));
            return Effects { failed: vec![id], ..Effects::default() };
        }
        undo(job, &undone, executors)
    }

    /// Nothing runs again for a job that has ended: its client must know what it can't get.
    fn mark_lost_results(&mut self, why: &str) -> Effects {
        let mut effects = Effects::default();
        let unfetched: Vec<JobId> = self.unfetched_jobs().map(|job| job.id).collect();
        for id in unfetched {
            let Some(job) = self.jobs.by_id.get_mut(&id) else { continue };
            let gone = job.results().filter(|(_, done)| !is_present(&self.executors, done));
            let reasons = gone
                .map(|(p, done)| (p, format!("it was on executor {}, which is lost: {why}", done.executor)));
            let news: Vec<_> = reasons.filter(|(p, _)| !job.results_lost.contains_key(p)).collect();
            if !news.is_empty() {
                job.results_lost.extend(news);
                job.revision += 1;
                effects.results_lost.push(id);
            }
        }
        effects.results_lost.sort_unstable();
        effects
    }
}

fn is_present(executors: &Executors, done: &TaskDone) -> bool {
    executors.get(&done.executor).is_some_and(|e| e.is_present() && e.incarnation == done.incarnation)
}

/// From the result backwards: a stage's outputs are needed when a task that reads them has not finished, or must
/// run again itself. The client's need for the results ends with the job.
fn needed_and_lost(job: &Job, is_lost: impl Fn(&TaskDone) -> bool) -> BTreeMap<StageId, Vec<u32>> {
    let mut needed = BTreeSet::from([job.result_stage()]);
    let mut undone = BTreeMap::new();
    for (stage, run) in job.graph.stages.iter().zip(&job.runs).rev() {
        if needed.contains(&stage.id) {
            let lost: Vec<u32> = run.completed().filter(|(_, done)| is_lost(done)).map(|(p, _)| p).collect();
            if !lost.is_empty() {
                undone.insert(stage.id, lost);
            }
        }
        let runs_again = undone.contains_key(&stage.id) && !polybolos_model::mutant!("rerun-not-recursive");
        if !run.is_complete() || runs_again {
            needed.extend(stage.inputs.iter().map(|input| input.stage));
        }
    }
    undone
}

/// Why the job can't go on without those outputs, if it can't.
fn beyond_repair(job: &Job, undone: &BTreeMap<StageId, Vec<u32>>, why: &str) -> Option<JobError> {
    for (&stage, partitions) in undone {
        let (plan, run) = job.stage(stage)?;
        let what = format!("outputs of stage {stage} were lost ({why})");
        let (class, message) = match &plan.indeterminate {
            // Readers may have seen rows of the first run that a second one would send elsewhere.
            Some(reason) if run.was_complete && stage != job.result_stage() => (
                ErrorClass::Retryable,
                format!(
                    "{what}, and a second run might not give the same rows: {reason}; submit the query again"
                ),
            ),
            Some(_) | None if run.reruns >= MAX_STAGE_RERUNS => {
                (ErrorClass::Retryable, format!("{what} after {MAX_STAGE_RERUNS} re-runs of the stage"))
            }
            Some(_) | None => continue,
        };
        let partition = partitions.first().copied();
        let lost = partition.and_then(|p| job.task(stage, p)?.completed.as_ref());
        return Some(JobError {
            error: TaskError::new(class, message),
            stage: Some(stage),
            partition,
            attempt: lost.map(|done| done.attempt),
            executor: lost.map(|done| done.executor.clone()),
        });
    }
    None
}

fn undo(job: &mut Job, undone: &BTreeMap<StageId, Vec<u32>>, executors: &Executors) -> Effects {
    let mut effects = Effects::default();
    job.revision += 1;
    if polybolos_model::mutant!("status-goes-back") {
        job.status = JobStatus::Queued;
    }
    for (&stage, partitions) in undone {
        let Some(run) = job.runs.get_mut(stage.0 as usize) else { continue };
        run.reruns += 1;
        for &partition in partitions {
            let Some(task) = run.tasks.get_mut(partition as usize) else { continue };
            let Some(done) = task.completed.take() else { continue };
            run.open.insert(partition);
            if is_present(executors, &done) {
                effects.orphaned.push((done.executor.clone(), done.attempt));
            }
            let (attempt, executor) = (done.attempt, done.executor);
            task.past.push(PastAttempt { attempt, executor, fate: Fate::OutputLost });
            effects.rerun.push(TaskId { job: job.id, stage, partition });
        }
    }
    for (stage, run) in job.graph.stages.iter().zip(&mut job.runs) {
        if stage.inputs.iter().any(|input| undone.contains_key(&input.stage)) {
            run.epoch += 1;
        }
    }
    effects.orphaned.sort_unstable();
    effects
}
