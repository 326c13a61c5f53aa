//! Outputs that are gone: which tasks must run again for the readers that have not finished.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{AttemptId, ExecutorId, Incarnation, JobId, TaskId};

use super::rollback::{Results, Undoing};
use crate::{
    ClusterState, Effects, Executor, Fate, Job, JobStatus, LostWork, PastAttempt, StageRun, TaskDone,
};

type Executors = BTreeMap<ExecutorId, Executor>;

/// One life of an executor whose outputs can't be read, though it may be present.
type Unreadable<'a> = Option<(&'a ExecutorId, Incarnation)>;

/// Attempts of a job whose outputs are in the durable store too.
type Durable<'a> = Option<&'a BTreeSet<AttemptId>>;

impl ClusterState {
    /// Repairs every job after an executor has gone. All affected stages are reset at once.
    pub(crate) fn lose_outputs(&mut self, why: &str) -> Effects {
        self.note_moves();
        let mut effects = self.mark_lost_results(why);
        let active: Vec<JobId> = self.active_jobs().map(|job| job.id).collect();
        for job in active {
            let of_job = self.lose_job_outputs(job, None, why);
            effects.rerun.extend(of_job.rerun);
            effects.lost_work.extend(of_job.lost_work);
            effects.orphaned.extend(of_job.orphaned);
            effects.failed.extend(of_job.failed);
            effects.results_lost.extend(of_job.results_lost);
        }
        effects.rerun.sort_unstable();
        effects.orphaned.sort_unstable();
        effects.failed.sort_unstable();
        effects.results_lost.sort_unstable();
        effects
    }

    /// Sends the completed tasks of an active job back to not done whose outputs are lost and still needed, or fails
    /// the job where that can't be repaired.
    pub(crate) fn lose_job_outputs(&mut self, id: JobId, unreadable: Unreadable<'_>, why: &str) -> Effects {
        self.lose_job_outputs_too(id, unreadable, &BTreeSet::new(), why)
    }

    /// As [`ClusterState::lose_job_outputs`], with the outputs of `attempts`, wherever they are.
    pub(crate) fn lose_job_outputs_too(
        &mut self,
        id: JobId,
        unreadable: Unreadable<'_>,
        attempts: &BTreeSet<AttemptId>,
        why: &str,
    ) -> Effects {
        if self.is_publishing(id) {
            return Effects::default();
        }
        let results = self.results_at(id);
        let (version, executors) = (self.version, &self.executors);
        let Some(job) = self.jobs.by_id.get_mut(&id) else { return Effects::default() };
        let durable = self.extension.v3.durable.get(&id);
        let undoing = Undoing::of(job, version, results, |done| {
            attempts.contains(&done.attempt) || is_lost(executors, durable, unreadable, done)
        });
        if undoing.tasks.is_empty() {
            return Effects::default();
        }
        if let Some(error) = undoing.beyond_repair(job, version, why) {
            return self.fail_active(id, error);
        }
        let effects = undo(job, &undoing, executors);
        forget_undone(job, &mut self.extension.v3.durable);
        self.extension.v3.forget_undone_moves(job);
        for &stage in undoing.rolled_back.keys() {
            let from = job.run(stage).map_or(0, |run| run.epoch);
            self.extension.v3.valid_from.insert((id, stage), from);
        }
        polybolos_model::sometimes!("readers were rolled back", !undoing.rolled_back.is_empty());
        effects
    }

    /// Where the outputs of the job's last stage are.
    pub(super) fn results_at(&self, job: JobId) -> Results {
        if self.write(job).is_some() { Results::InFiles } else { Results::OnExecutors }
    }

    /// Whether nobody can read the output of the job any more.
    pub(crate) fn is_gone(&self, job: JobId, done: &TaskDone) -> bool {
        is_lost(&self.executors, self.extension.v3.durable.get(&job), None, done)
    }

    /// Nothing runs again for a job that has ended, unless somebody asks for it: its client must know what is gone.
    fn mark_lost_results(&mut self, why: &str) -> Effects {
        let mut effects = Effects::default();
        let unfetched: Vec<JobId> = self.unfetched_jobs().map(|job| job.id).collect();
        for id in unfetched {
            let Some(job) = self.jobs.by_id.get_mut(&id) else { continue };
            let durable = self.extension.v3.durable.get(&id);
            let gone = job.results().filter(|(_, done)| is_lost(&self.executors, durable, None, done));
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

/// Whether nobody can read the output any more: the one place that decides.
pub(super) fn is_lost(
    executors: &Executors,
    durable: Durable<'_>,
    unreadable: Unreadable<'_>,
    done: &TaskDone,
) -> bool {
    let is_gone = unreadable == Some((&done.executor, done.incarnation)) || !is_present(executors, done);
    let is_elsewhere = durable.is_some_and(|attempts| attempts.contains(&done.attempt));
    is_gone && (!is_elsewhere || polybolos_model::mutant!("durable-outputs-rerun"))
}

/// Only completed attempts are durable.
fn forget_undone(job: &Job, durable: &mut BTreeMap<JobId, BTreeSet<AttemptId>>) {
    let Some(attempts) = durable.get_mut(&job.id) else { return };
    let completed: BTreeSet<AttemptId> =
        job.runs.iter().flat_map(StageRun::completed).map(|(_, done)| done.attempt).collect();
    if !polybolos_model::mutant!("durable-outlives-undo") {
        attempts.retain(|attempt| completed.contains(attempt));
    }
    if attempts.is_empty() {
        durable.remove(&job.id);
    }
}

fn is_present(executors: &Executors, done: &TaskDone) -> bool {
    executors.get(&done.executor).is_some_and(|e| e.is_present() && e.incarnation == done.incarnation)
}

fn undo(job: &mut Job, undoing: &Undoing, executors: &Executors) -> Effects {
    let mut effects = Effects::default();
    job.revision += 1;
    if polybolos_model::mutant!("status-goes-back") {
        job.status = JobStatus::Queued;
    }
    for (&stage, partitions) in &undoing.tasks {
        let Some(run) = job.runs.get_mut(stage.0 as usize) else { continue };
        run.reruns += 1;
        for &partition in partitions {
            let Some(task) = run.tasks.get_mut(partition as usize) else { continue };
            let Some(done) = task.completed.take() else { continue };
            run.open.insert(partition);
            if is_present(executors, &done) {
                effects.orphaned.push((done.executor.clone(), done.attempt));
            }
            let lost = LostWork::of(TaskId { job: job.id, stage, partition }, &done);
            let (attempt, executor) = (done.attempt, done.executor);
            task.past.push(PastAttempt { attempt, executor, fate: Fate::OutputLost });
            effects.rerun.push(lost.task);
            effects.lost_work.push(lost);
        }
    }
    for (stage, run) in job.graph.stages.iter().zip(&mut job.runs) {
        let moved = stage.inputs.iter().any(|input| undoing.tasks.contains_key(&input.stage));
        if moved || undoing.rolled_back.contains_key(&stage.id) {
            run.epoch += 1;
        }
    }
    effects.orphaned.sort_unstable();
    effects
}
