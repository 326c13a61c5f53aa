//! Reports of tasks: the first completion wins, failures are counted or passed on.

use polybolos_model::{
    AttemptId, ErrorClass, ExecutorId, FetchFailure, Incarnation, PartitionStats, TaskError, TaskId,
    TaskMetrics,
};

use super::Outcome;
use crate::{
    Change, ClusterState, Command, Effects, Fate, Job, JobError, JobStatus, PastAttempt, Rejection, TaskDone,
    TaskRun, extension::settings, limits::max_input_failures,
};

/// Who reports on what.
pub(crate) struct Report<'a> {
    pub(crate) executor: &'a ExecutorId,
    pub(crate) incarnation: Incarnation,
    pub(crate) task: TaskId,
    pub(crate) attempt: AttemptId,
    /// Of the stage when the attempt was launched, where the report says so.
    pub(crate) epoch: Option<u32>,
    /// The output is in the durable store too.
    pub(crate) durable: bool,
}

impl<'a> Report<'a> {
    /// `None` of commands that report on no attempt.
    fn of(command: &'a Command) -> Option<Self> {
        let (executor, incarnation, task, attempt) = match command {
            Command::CompleteTask { executor, incarnation, task, attempt, .. }
            | Command::CompleteTaskIn { executor, incarnation, task, attempt, .. }
            | Command::OutputDurable { executor, incarnation, task, attempt }
            | Command::OutputMoved { executor, incarnation, task, attempt, .. }
            | Command::FailTask { executor, incarnation, task, attempt, .. } => {
                (executor, *incarnation, *task, *attempt)
            }
            _ => return None,
        };
        let (epoch, durable) = match command {
            Command::CompleteTaskIn { epoch, durable, .. } => (Some(*epoch), *durable),
            _ => (None, false),
        };
        Some(Self { executor, incarnation, task, attempt, epoch, durable })
    }

    fn to_past(&self, fate: Fate) -> PastAttempt {
        PastAttempt { attempt: self.attempt, executor: self.executor.clone(), fate }
    }

    fn to_job_error(&self, error: TaskError) -> JobError {
        JobError {
            error,
            stage: Some(self.task.stage),
            partition: Some(self.task.partition),
            attempt: Some(self.attempt),
            executor: Some(self.executor.clone()),
        }
    }
}

impl ClusterState {
    pub(super) fn report(&mut self, command: &Command) -> Outcome {
        let Some(report) = Report::of(command) else { return Ok(Change::Unchanged) };
        match command {
            Command::CompleteTask { outputs, metrics, .. }
            | Command::CompleteTaskIn { outputs, metrics, .. } => {
                self.complete_task(&report, outputs, metrics)
            }
            Command::FailTask { error, .. } => self.fail_task(&report, error),
            Command::OutputMoved { from, from_incarnation, .. } => {
                self.output_moved(&report, from, *from_incarnation)
            }
            _ => self.output_durable(&report),
        }
    }

    pub(crate) fn complete_task(
        &mut self,
        report: &Report<'_>,
        outputs: &[PartitionStats],
        metrics: &TaskMetrics,
    ) -> Outcome {
        let (task, attempt) = (report.task, report.attempt);
        let (job, run) = self.find_task(task)?;
        if run.completed.as_ref().is_some_and(|done| done.attempt == attempt) {
            return Ok(Change::Unchanged);
        }
        if run.is_past(attempt) {
            return Err(Rejection::AttemptOver { task, attempt });
        }
        let expected = job.graph.stage(task.stage).map_or(0, |stage| stage.output_partitions);
        self.check_reporter(report)?;
        self.check_open(job, run, report)?;
        if self.is_of_no_decision(task, attempt) {
            return Err(Rejection::LaunchedUndecided { task, attempt });
        }
        if self.is_void(task, attempt, report.epoch) {
            return Err(Rejection::InputsRolledBack { task, attempt });
        }
        if outputs.len() != expected as usize {
            let got = u32::try_from(outputs.len()).unwrap_or(u32::MAX);
            return Err(Rejection::OutputCount { task, attempt, expected, got });
        }
        let done = TaskDone {
            executor: report.executor.clone(),
            incarnation: report.incarnation,
            attempt,
            outputs: outputs.to_vec(),
            metrics: metrics.clone(),
        };
        if report.durable {
            self.mark_durable(task.job, attempt);
        }
        let stage_complete = self.record_completion(task, done);
        let is_last =
            stage_complete && self.job(task.job).is_some_and(|job| job.result_stage() == task.stage);
        let job_ended = is_last && !self.begin_publishing(task.job);
        if job_ended {
            self.succeed(task.job);
        }
        Ok(Change::TaskCompleted { task, stage_complete, job_ended })
    }

    /// Whether the stage is complete now.
    fn record_completion(&mut self, task: TaskId, done: TaskDone) -> bool {
        let Some(job) = self.jobs.by_id.get_mut(&task.job) else { return false };
        touch(job);
        let Some(run) = job.runs.get_mut(task.stage.0 as usize) else { return false };
        if let Some(state) = run.tasks.get_mut(task.partition as usize) {
            state.completed = Some(done);
            run.open.remove(&task.partition);
        }
        run.was_complete |= run.is_complete();
        let is_early = run.open.len() == 1 && run.tasks.len() > 1;
        run.is_complete() || (is_early && polybolos_model::mutant!("job-ends-early"))
    }

    pub(crate) fn fail_task(&mut self, report: &Report<'_>, error: &TaskError) -> Outcome {
        let (job, run) = self.find_task(report.task)?;
        if run.is_past(report.attempt) && !polybolos_model::mutant!("failure-counted-twice") {
            return Ok(Change::Unchanged);
        }
        self.check_reporter(report)?;
        self.check_open(job, run, report)?;
        if self.is_of_no_decision(report.task, report.attempt) {
            return Err(Rejection::LaunchedUndecided { task: report.task, attempt: report.attempt });
        }
        let lost_input = error.fetch.as_ref().filter(|fetch| reads(job, report.task, fetch)).cloned();
        let effects = match (error.class, lost_input) {
            (ErrorClass::User | ErrorClass::Internal, _) => {
                self.note_failure(report, Fate::Failed);
                self.fail_job_of(report, error.clone())
            }
            (ErrorClass::Retryable | ErrorClass::Resources, Some(fetch)) => {
                self.fail_for_input(report, error, &fetch)
            }
            (ErrorClass::Retryable | ErrorClass::Resources, None) => self.count_failure(report, error),
        };
        let failures = self.find_task(report.task).map_or(0, |(_, run)| run.failures);
        Ok(Change::TaskFailed { task: report.task, failures, effects })
    }

    fn count_failure(&mut self, report: &Report<'_>, error: &TaskError) -> Effects {
        self.note_failure(report, Fate::Failed);
        if error.class == ErrorClass::Resources && self.version >= 3 {
            self.extension.v3.starved.insert(report.task);
        }
        let (most, failures) = self
            .find_task(report.task)
            .map_or((0, 0), |(job, run)| (settings(job, self.version).max_task_attempts, run.failures));
        if failures < most + u32::from(polybolos_model::mutant!("retry-limit-off-by-one")) {
            return Effects::default();
        }
        let message = format!("gave up after {failures} failed attempts; the last: {}", error.message);
        let last = TaskError { fetch: error.fetch.clone(), ..TaskError::new(error.class, message) };
        self.fail_job_of(report, last)
    }

    /// The reader is not to blame. If the output that it asked for is still the present one, then all that this
    /// life of its executor holds for the job counts as lost, so that one failure repairs what many would find.
    fn fail_for_input(&mut self, report: &Report<'_>, error: &TaskError, fetch: &FetchFailure) -> Effects {
        self.note_failure(report, Fate::InputLost);
        let (most, found) = self.find_task(report.task).map_or((0, 0), |(job, run)| {
            let found = run.past.iter().filter(|past| past.fate == Fate::InputLost).count();
            (max_input_failures(&settings(job, self.version)), found)
        });
        if found > most as usize {
            let message = format!("its inputs were lost more than {most} times: {}", error.message);
            let last = TaskError { fetch: error.fetch.clone(), ..TaskError::new(error.class, message) };
            return self.fail_job_of(report, last);
        }
        let source = TaskId { job: report.task.job, stage: fetch.stage, partition: fetch.map_partition };
        let present = self.find_task(source).ok().and_then(|(_, run)| run.completed.as_ref());
        match present.filter(|done| done.attempt == fetch.attempt && done.executor == fetch.executor) {
            Some(done) => {
                let incarnation = done.incarnation;
                // The reader has tried its durable copy too.
                self.unmark_durable(report.task.job, fetch.attempt);
                self.lose_job_outputs(report.task.job, Some((&fetch.executor, incarnation)), &error.message)
            }
            None => Effects::default(),
        }
    }

    fn fail_job_of(&mut self, report: &Report<'_>, error: TaskError) -> Effects {
        self.fail_active(report.task.job, report.to_job_error(error))
    }

    fn note_failure(&mut self, report: &Report<'_>, fate: Fate) {
        let task = report.task;
        let Some(job) = self.jobs.by_id.get_mut(&task.job) else { return };
        touch(job);
        let run = job.runs.get_mut(task.stage.0 as usize);
        if let Some(state) = run.and_then(|run| run.tasks.get_mut(task.partition as usize)) {
            state.past.push(report.to_past(fate));
            state.failures += u32::from(fate == Fate::Failed);
        }
    }

    fn find_task(&self, task: TaskId) -> Result<(&Job, &TaskRun), Rejection> {
        let job = self.job(task.job).ok_or(Rejection::JobNotFound { job: task.job })?;
        let run = job.task(task.stage, task.partition).ok_or(Rejection::TaskNotFound { task })?;
        Ok((job, run))
    }

    fn check_reporter(&self, report: &Report<'_>) -> Result<(), Rejection> {
        if polybolos_model::mutant!("stale-incarnation") {
            return Ok(());
        }
        self.check_present(report.executor, report.incarnation)
    }

    /// A task that is neither completed nor of a job of which nothing runs any more.
    fn check_open(&self, job: &Job, run: &TaskRun, report: &Report<'_>) -> Result<(), Rejection> {
        let (task, loser) = (report.task, report.attempt);
        if let Some(done) = &run.completed
            && !polybolos_model::mutant!("second-completion-wins")
        {
            return Err(Rejection::AlreadyComplete { task, winner: done.attempt, loser });
        }
        match self.is_active(job) {
            true if self.is_publishing(job.id) => Err(Rejection::JobPublishing { job: job.id }),
            true => Ok(()),
            false => Err(Rejection::JobEnded { job: job.id, status: job.status }),
        }
    }
}

/// Whether the failure names something that the task reads at all.
fn reads(job: &Job, task: TaskId, fetch: &FetchFailure) -> bool {
    let stage = job.graph.stage(task.stage);
    stage.is_some_and(|stage| stage.inputs.iter().any(|input| input.stage == fetch.stage))
        && job.task(fetch.stage, fetch.map_partition).is_some()
}

/// A report came: the job is running, and has news.
fn touch(job: &mut Job) {
    job.status = job.status.max(JobStatus::Running);
    job.revision += 1;
}
