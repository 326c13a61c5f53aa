//! A job from outside: submitted, cancelled, failed, released, expired.

use std::collections::BTreeMap;

use polybolos_model::{
    ErrorClass, IdempotencyKey, JobId, SessionId, StageGraph, TaskError,
    limits::{MAX_ACTIVE_JOBS, MAX_SQL_BYTES},
};

use super::Outcome;
use crate::{Change, ClusterState, Command, Job, JobError, JobStatus, Rejection, StageRun, TaskRun};

/// What [`Command::SubmitJob`] and [`Command::SubmitWrite`] have in common.
pub(crate) struct Submission<'a> {
    pub(crate) job: JobId,
    pub(crate) key: Option<&'a IdempotencyKey>,
    pub(crate) session: Option<&'a SessionId>,
    pub(crate) sql: &'a str,
    pub(crate) graph: &'a StageGraph,
    pub(crate) options: &'a BTreeMap<String, String>,
    pub(crate) explain_analyze: Option<&'a str>,
    pub(crate) ordered: bool,
    pub(crate) schema: &'a [u8],
    pub(crate) cancel_when_unwatched_ms: u64,
}

impl<'a> Submission<'a> {
    /// `None` of commands that submit nothing.
    pub(crate) fn of(command: &'a Command) -> Option<Self> {
        match command {
            Command::SubmitJob {
                job,
                key,
                session,
                sql,
                graph,
                options,
                explain_analyze,
                ordered,
                schema,
                cancel_when_unwatched_ms,
            } => Some(Self {
                job: *job,
                key: key.as_ref(),
                session: session.as_ref(),
                sql,
                graph,
                options,
                explain_analyze: explain_analyze.as_deref(),
                ordered: *ordered,
                schema,
                cancel_when_unwatched_ms: *cancel_when_unwatched_ms,
            }),
            Command::SubmitWrite {
                job,
                key,
                session,
                sql,
                graph,
                options,
                schema,
                cancel_when_unwatched_ms,
                target: _,
                table: _,
            } => Some(Self {
                job: *job,
                key: key.as_ref(),
                session: session.as_ref(),
                sql,
                graph,
                options,
                explain_analyze: None,
                ordered: false,
                schema,
                cancel_when_unwatched_ms: *cancel_when_unwatched_ms,
            }),
            _ => None,
        }
    }
}

impl ClusterState {
    pub(super) fn submit_command(&mut self, command: &Command) -> Outcome {
        let Some(new) = Submission::of(command) else { return Ok(Change::Unchanged) };
        match command {
            Command::SubmitWrite { target, table, .. } => self.submit_write(new, target, table.as_ref()),
            _ => self.submit(new),
        }
    }

    pub(crate) fn submit(&mut self, new: Submission<'_>) -> Outcome {
        if let Some(duplicate) = self.known_submit(&new) {
            return Ok(duplicate);
        }
        if self.jobs.by_id.contains_key(&new.job) {
            return Err(Rejection::JobIdInUse { job: new.job });
        }
        if new.sql.len() > MAX_SQL_BYTES {
            return Err(Rejection::SqlTooLong { bytes: new.sql.len() });
        }
        new.graph.validate().map_err(|error| Rejection::InvalidGraph { job: new.job, error })?;
        if self.jobs.active.len() + self.jobs.unfetched.len() >= MAX_ACTIVE_JOBS {
            return Err(Rejection::TooManyJobs);
        }
        self.jobs.last_number += 1;
        let number = self.jobs.last_number;
        let job = new_job(&new, number, self.now_ms);
        self.jobs.order.insert(number, job.id);
        self.jobs.active.insert(number);
        if let Some(key) = new.key {
            self.jobs.keys.insert(key.clone(), job.id);
        }
        self.jobs.by_id.insert(job.id, job);
        Ok(Change::Submitted { job: new.job })
    }

    /// What a submit is told whose key is known.
    pub(crate) fn known_submit(&self, new: &Submission<'_>) -> Option<Change> {
        let key = new.key.filter(|_| !polybolos_model::mutant!("forget-keys"))?;
        let job = self.jobs.keys.get(key).or_else(|| self.jobs.spent.get(key))?;
        Some(Change::Duplicate { job: *job })
    }

    pub(crate) fn cancel(&mut self, id: JobId, reason: &str) -> Outcome {
        if !polybolos_model::mutant!("cancel-after-end") {
            self.check_active(id)?;
        }
        // Nothing is wrong with the engine when somebody does not want an answer any more.
        let error = JobError::of_job(TaskError::new(ErrorClass::User, reason));
        self.end_job(id, JobStatus::Cancelled, Some(error));
        Ok(Change::JobEnded { job: id, status: JobStatus::Cancelled })
    }

    pub(crate) fn fail(&mut self, id: JobId, error: &JobError) -> Outcome {
        if self.is_reopened(id) {
            let effects = self.fail_active(id, error.clone());
            return Ok(Change::Reopened { job: id, effects });
        }
        self.check_active(id)?;
        self.end_job(id, JobStatus::Failed, Some(error.clone()));
        Ok(Change::JobEnded { job: id, status: JobStatus::Failed })
    }

    pub(crate) fn release(&mut self, id: JobId) -> Outcome {
        let job = self.job(id).ok_or(Rejection::JobNotFound { job: id })?;
        if !job.status.is_ended() {
            return Err(Rejection::JobActive { job: id, status: job.status });
        }
        if job.released {
            return Ok(Change::Unchanged);
        }
        self.release_job(id);
        Ok(Change::Released { job: id })
    }

    pub(crate) fn expire(&mut self) -> Change {
        let now_ms = self.now_ms;
        let is_due = |job: &&Job| self.kept_until_ms(job).is_some_and(|until_ms| until_ms <= now_ms);
        let jobs: Vec<JobId> = self.unfetched_jobs().filter(is_due).map(|job| job.id).collect();
        for &job in &jobs {
            self.release_job(job);
        }
        if jobs.is_empty() { Change::Unchanged } else { Change::Expired { jobs } }
    }

    /// The leader has seen attempts of these jobs run.
    pub(crate) fn jobs_started(&mut self, ids: &[JobId]) -> Change {
        let mut started = Vec::new();
        for id in ids {
            if let Some(job) = self.jobs.by_id.get_mut(id).filter(|job| job.status == JobStatus::Queued) {
                job.status = JobStatus::Running;
                job.revision += 1;
                started.push(*id);
            }
        }
        if started.is_empty() { Change::Unchanged } else { Change::JobsStarted { jobs: started } }
    }

    fn check_active(&self, id: JobId) -> Result<(), Rejection> {
        let job = self.job(id).ok_or(Rejection::JobNotFound { job: id })?;
        match job.status.is_ended() {
            true => Err(Rejection::JobEnded { job: id, status: job.status }),
            false if self.is_publishing(id) => Err(Rejection::JobPublishing { job: id }),
            false => Ok(()),
        }
    }
}

fn new_job(new: &Submission<'_>, number: u64, now_ms: u64) -> Job {
    let runs = new.graph.stages.iter().map(|stage| StageRun {
        open: (0..stage.tasks).collect(),
        tasks: vec![TaskRun::default(); stage.tasks as usize],
        ..StageRun::default()
    });
    Job {
        id: new.job,
        number,
        revision: 0,
        key: new.key.cloned(),
        session: new.session.cloned(),
        sql: new.sql.to_owned(),
        options: new.options.clone(),
        explain_analyze: new.explain_analyze.map(str::to_owned),
        ordered: new.ordered,
        schema: new.schema.to_vec(),
        cancel_when_unwatched_ms: new.cancel_when_unwatched_ms,
        submitted_at_ms: now_ms,
        ended_at_ms: None,
        status: JobStatus::Queued,
        error: None,
        graph: new.graph.clone(),
        runs: runs.collect(),
        released: false,
        results_lost: BTreeMap::new(),
    }
}
