//! A task is tried again until its limits are reached and no longer, and a job fails for them only if so many failures,
//! lost inputs or re-runs were committed; whoever leads meanwhile.
//! From: docs/failure-contract.md, "it runs again, … at most 4 times"; the design, "retry limits survive it".

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{
    AttemptId, ErrorClass, FetchFailure, JobId, StageId, TaskError, TaskId, settings::JobSettings,
};
use polybolos_state::{Change, ClusterState, Command, Effects, limits::max_input_failures};

use super::{Check, Commit, Oracle, effects_of};

/// Counted here and not read from the state, which could have miscounted.
#[derive(Debug, Default)]
pub(super) struct RetryLimit {
    /// Attempts whose failure took effect.
    over: BTreeSet<AttemptId>,
    failures: BTreeMap<TaskId, u32>,
    input_losses: BTreeMap<TaskId, u32>,
    /// Of a stage, as counts before version 3.
    reruns: BTreeMap<(JobId, StageId), u32>,
    /// Of a task, as counts from then on.
    task_reruns: BTreeMap<TaskId, u32>,
}

impl Oracle for RetryLimit {
    fn name(&self) -> &'static str {
        "retry-limit"
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        for (command, outcome) in commit.entry.commands.iter().zip(&commit.applied.outcomes) {
            let Ok(change) = outcome else { continue };
            let checked = match (command, change) {
                (
                    Command::FailTask { attempt, error, .. },
                    Change::TaskFailed { task, failures, effects },
                ) => {
                    let failed = self.task_failed(commit.before, *task, error, *failures, effects);
                    failed.and_then(|()| self.is_new(*attempt))
                }
                // Judged by `deaths`.
                (Command::TasksDied { .. }, _) => Ok(()),
                _ => effects_of(change).map_or(Ok(()), |effects| self.outputs_lost(commit.before, effects)),
            };
            checked.map_err(|what| format!("index {}: {what}", commit.index))?;
        }
        Ok(())
    }
}

impl RetryLimit {
    fn task_failed(
        &mut self,
        before: &ClusterState,
        task: TaskId,
        error: &TaskError,
        said: u32,
        effects: &Effects,
    ) -> Check {
        // Of a job that had succeeded, only a part of its result is given up.
        let gave_up = effects.failed.contains(&task.job) || effects.results_lost.contains(&task.job);
        let retryable = matches!(error.class, ErrorClass::Retryable | ErrorClass::Resources);
        if retryable && error.fetch.as_ref().is_some_and(|fetch| reads(before, task, fetch)) {
            let losses = self.input_losses.entry(task).or_default();
            *losses += 1;
            let most = max_input_failures(&settings(before, task.job));
            return match (*losses > most, gave_up) {
                (true, true) => Ok(()),
                (true, false) => Err(format!("task {task} lost its inputs {losses} times and goes on")),
                (false, _) => self.outputs_lost(before, effects),
            };
        }
        let failures = self.failures.entry(task).or_default();
        *failures += 1;
        if *failures != said {
            return Err(format!("task {task} failed {failures} times, and the state counts {said}"));
        }
        let is_over = !retryable || *failures >= settings(before, task.job).max_task_attempts;
        if is_over != gave_up {
            let what = if gave_up { "was given up" } else { "goes on" };
            return Err(format!(
                "job {} {what} after {failures} failures of task {task} ({})",
                task.job, error.class
            ));
        }
        Ok(())
    }

    fn is_new(&mut self, attempt: AttemptId) -> Check {
        if self.over.insert(attempt) { Ok(()) } else { Err(format!("attempt {attempt} failed twice")) }
    }

    fn outputs_lost(&mut self, before: &ClusterState, effects: &Effects) -> Check {
        let is_each_tasks = before.version() >= 3;
        let stages: BTreeSet<_> = effects.rerun.iter().map(|task| (task.job, task.stage)).collect();
        for (job, stage) in stages {
            let reruns = self.reruns.entry((job, stage)).or_default();
            *reruns += 1;
            if !is_each_tasks && *reruns > settings(before, job).max_stage_reruns {
                return Err(format!("stage {stage} of job {job} runs again for the {reruns}th time"));
            }
        }
        for task in &effects.rerun {
            let reruns = self.task_reruns.entry(*task).or_default();
            *reruns += 1;
            if is_each_tasks && *reruns > settings(before, task.job).max_stage_reruns {
                return Err(format!("task {task} runs again for the {reruns}th time"));
            }
        }
        for job in &effects.failed {
            let most = settings(before, *job).max_stage_reruns;
            let worn_out = match is_each_tasks {
                true => self.task_reruns.iter().any(|(task, reruns)| task.job == *job && *reruns >= most),
                false => self.reruns.iter().any(|((of, _), reruns)| of == job && *reruns >= most),
            };
            // From version 3 on their readers are rolled back instead.
            let indeterminate = before.version() < 3
                && before
                    .job(*job)
                    .is_none_or(|job| job.graph.stages.iter().any(|stage| stage.indeterminate.is_some()));
            if !worn_out && !indeterminate {
                return Err(format!("job {job} was given up for lost outputs, which could be made again"));
            }
        }
        Ok(())
    }
}

/// What its session has set, which counts from version 3 on.
fn settings(state: &ClusterState, job: JobId) -> JobSettings {
    state.job(job).map_or_else(JobSettings::default, |job| state.settings(job))
}

/// Whether the failure names something that the task reads at all; otherwise it counts as the task's own.
fn reads(state: &ClusterState, task: TaskId, fetch: &FetchFailure) -> bool {
    let job = state.job(task.job);
    job.is_some_and(|job| {
        let stage = job.graph.stage(task.stage);
        stage.is_some_and(|stage| stage.inputs.iter().any(|input| input.stage == fetch.stage))
            && job.task(fetch.stage, fetch.map_partition).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn true_histories_pass() {
        let mut lab = Lab::with_job(RetryLimit::default());
        for counter in 1..=4 {
            lab.commit(vec![fail(1, task(0, 0), counter, ErrorClass::Retryable)]).unwrap();
        }
        assert!(lab.state.active_jobs().next().is_none(), "it was given up");
        let mut lab = Lab::with_job(RetryLimit::default());
        for life in 0..5 {
            let done = complete(2, task(0, 0), 10 + life);
            let again = match done {
                Command::CompleteTask { executor, task, attempt, outputs, metrics, .. } => {
                    let incarnation = lab.state.executor(&executor).unwrap().incarnation;
                    Command::CompleteTask { executor, incarnation, task, attempt, outputs, metrics }
                }
                other => other,
            };
            lab.commit(vec![again]).unwrap();
            lab.commit(vec![register(2, 100 + life)]).unwrap();
        }
        assert!(lab.state.active_jobs().next().is_none(), "its stage ran again too often");
    }

    #[test]
    fn a_failure_that_counts_twice_is_found() {
        let mut lab = Lab::with_job(RetryLimit::default());
        let failure = fail(1, task(0, 0), 1, ErrorClass::Retryable);
        lab.commit(vec![failure.clone(), failure]).unwrap();
        assert!(lab.oracle.is_new(attempt(1)).is_err());
    }

    #[test]
    fn limits_that_are_off_by_one_are_found() {
        let lab = Lab::with_job(RetryLimit::default());
        let error = TaskError::new(ErrorClass::Retryable, "broken");
        let (on, off) = (Effects::default(), Effects { failed: vec![JOB], ..Effects::default() });
        let mut oracle = RetryLimit::default();
        for failures in 1..=3 {
            oracle.task_failed(&lab.state, task(0, 0), &error, failures, &on).unwrap();
        }
        assert!(oracle.task_failed(&lab.state, task(0, 0), &error, 4, &on).is_err());
        let mut oracle = RetryLimit::default();
        assert!(oracle.task_failed(&lab.state, task(0, 0), &error, 1, &off).is_err());
        assert!(oracle.task_failed(&lab.state, task(0, 0), &error, 1, &on).is_err(), "it is the second");
        let mut oracle = RetryLimit::default();
        assert!(oracle.outputs_lost(&lab.state, &off).is_err());
        let again = Effects { rerun: vec![task(0, 0), task(0, 1)], ..Effects::default() };
        for _ in 0..4 {
            oracle.outputs_lost(&lab.state, &again).unwrap();
        }
        oracle.outputs_lost(&lab.state, &off).unwrap();
        assert!(oracle.outputs_lost(&lab.state, &again).is_err());
    }
}
