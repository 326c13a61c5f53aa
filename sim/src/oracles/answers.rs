//! Every answer is the one that DataFusion gives in one process, of a job that has succeeded; and every error has a cause that
//! docs/failure-contract.md names.
//!
//! Causes, by what the log says of the op's job:
//!
//! | the job | its client may see an error if |
//! | --- | --- |
//! | failed after retries, re-runs, lost inputs, executors that died, or for an indeterminate output | a fault broke tasks while it ran (`retry-limit` counts) |
//! | failed as its result is larger than it allows | it has such a limit (`results-fit` looks at those that succeed) |
//! | failed as wrong otherwise, or by a fault of the engine | never: the generated queries are right |
//! | succeeded | rows that it had in part are lost with their executor, lost ones could not be made again, its result was given back by another reader, or a fault cut the stream |
//! | runs, or was cancelled for that | a fault cut the stream of its result |
//! | cancelled, and called so | somebody asked for it, left the result, or did not come back |
//! | none | table files could not be read, or a view is read that is not known to exist; a change of the catalogue found itself done |
//!
//! A time-out is unknown and no failure, but needs a fault, too: without one nothing waits so long.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{ErrorClass, JobId, settings::RESULT_BYTES};
use polybolos_state::{Job, JobStatus};

use super::{Check, Oracle, Reference, catalogue::relation_of, disruptions::Disruptions};
use crate::{
    moment::{ClientEvent, Moment, Outcome, What},
    schedule::{Action, Schedule},
};

/// What the state machine says of a job that it gives up for good reason.
const GIVEN_UP: &[&str] = &[
    "gave up after ",
    "a second run might not give the same rows",
    "re-runs of ",
    "its inputs were lost more than",
];
/// What it says when executors died under one task as often as the job allows.
const DIED: &str = "executors died while they ran task";
/// What the client says of a result that breaks, and of one whose rows come out differently now.
const BROKEN_RESULT: &[&str] = &["could not be read from", "can't be finished: an executor was lost"];

#[derive(Debug)]
struct Begun {
    at_us: u64,
    client: String,
    /// More than one if a result was lost and asked for again.
    jobs: Vec<JobId>,
    ended: bool,
}

impl Begun {
    /// Whether it has ended, or has given this job up for another one.
    fn is_through_with(&self, job: JobId) -> bool {
        self.ended || self.jobs.last() != Some(&job)
    }
}

#[derive(Debug)]
pub(super) struct Answers {
    actions: BTreeMap<u32, Action>,
    begun: BTreeMap<u32, Begun>,
    /// Views whose creation was acknowledged, and those that somebody began to drop.
    views: BTreeSet<String>,
    dropped: BTreeSet<String>,
    /// Clients that died.
    gone: BTreeSet<String>,
    disruptions: Disruptions,
}

impl Answers {
    pub(super) fn new(schedule: &Schedule) -> Self {
        Self {
            actions: schedule.ops.iter().map(|op| (op.id, op.action.clone())).collect(),
            begun: BTreeMap::new(),
            views: BTreeSet::new(),
            dropped: BTreeSet::new(),
            gone: BTreeSet::new(),
            disruptions: Disruptions::default(),
        }
    }

    fn failed(&self, op: u32, error: &str, outcome: Outcome, reference: &Reference) -> Check {
        let begun = self.begun.get(&op);
        let job = begun.and_then(|begun| begun.jobs.last().copied());
        let since_us = self.since(op);
        let known = job.and_then(|job| reference.state().job(job));
        let allowed = match (outcome, known) {
            (Outcome::Unknown, _) => self.disruptions.anything(since_us),
            (Outcome::Cancelled, Some(job)) => job.status == JobStatus::Cancelled && self.is_unwanted(job.id),
            (Outcome::Cancelled, None) => false,
            (Outcome::Failed, Some(job)) => self.is_explained(op, job, error, since_us, reference),
            (Outcome::Failed, None) => job.is_none() && self.may_be_refused(op, error, since_us),
        };
        if allowed {
            return Ok(());
        }
        let said = known.map_or("no job".to_owned(), |job| match &job.error {
            Some(why) => format!("job {} {}: {why}", job.id, job.status),
            None => format!("job {} {}", job.id, job.status),
        });
        Err(format!("op {op} ended with an error ({outcome:?}) that nothing explains: {error} [{said}]"))
    }

    /// When the op, or another one with its job, began.
    fn since(&self, op: u32) -> u64 {
        let own = self.begun.get(&op);
        let job = own.and_then(|begun| begun.jobs.last());
        let of_job = self.begun.values().filter(|other| job.is_some_and(|job| other.jobs.contains(job)));
        of_job.chain(own).map(|begun| begun.at_us).min().unwrap_or_default()
    }

    fn is_explained(&self, op: u32, job: &Job, error: &str, since_us: u64, reference: &Reference) -> bool {
        let breaks = self.disruptions.breaks_tasks(since_us);
        let says_broken = BROKEN_RESULT.iter().any(|words| error.contains(words));
        let is_broken = breaks && says_broken;
        match job.status {
            JobStatus::Failed => job.error.as_ref().is_some_and(|why| match why.error.class {
                ErrorClass::Retryable | ErrorClass::Resources => {
                    breaks && GIVEN_UP.iter().any(|reason| why.error.message.contains(reason))
                }
                // A task may be to blame when its executors die.
                ErrorClass::Internal => breaks && why.error.message.contains(DIED),
                // No fault is needed for that.
                ErrorClass::User => {
                    RESULT_BYTES.bytes_in(&job.options) > 0 && why.error.message.contains(RESULT_BYTES.name)
                }
            }),
            JobStatus::Succeeded => {
                // What could be made again is no reason, unless the client had a part of it.
                let is_lost = says_broken || !reference.state().can_reopen(job);
                (!job.results_lost.is_empty() && is_lost)
                    || is_broken
                    || (job.released && self.shares(op, job.id))
            }
            JobStatus::Queued | JobStatus::Running | JobStatus::Cancelled => is_broken,
        }
    }

    /// Whether another op has, or had, the same job.
    fn shares(&self, op: u32, job: JobId) -> bool {
        self.begun.iter().any(|(other, begun)| *other != op && begun.jobs.contains(&job))
    }

    /// Whether the job may be cancelled: by an op of its own, by a reader that left or could not read on, or for a
    /// client that is not there any more.
    fn is_unwanted(&self, job: JobId) -> bool {
        self.begun.iter().filter(|(_, begun)| begun.jobs.contains(&job)).any(|(op, begun)| {
            let on_purpose = match self.actions.get(op) {
                Some(Action::Query { cancel_after_ms, abandon_after, .. }) => {
                    cancel_after_ms.is_some() || abandon_after.is_some()
                }
                Some(Action::Ddl { .. } | Action::Status) | None => false,
            };
            on_purpose || begun.is_through_with(job) || self.gone.contains(&begun.client)
        })
    }

    /// Before any job: the statement itself.
    fn may_be_refused(&self, op: u32, error: &str, since_us: u64) -> bool {
        match self.actions.get(&op) {
            Some(Action::Query { sql, .. }) => {
                self.disruptions.breaks_store(since_us) || self.reads_uncertain_view(sql)
            }
            Some(Action::Ddl { .. }) => {
                self.disruptions.breaks_store(since_us)
                    || error.contains("already exists")
                    || error.contains("does not exist")
                    || error.contains("is not known, and a repetition")
            }
            Some(Action::Status) | None => false,
        }
    }

    fn reads_uncertain_view(&self, sql: &str) -> bool {
        let words: BTreeSet<String> =
            sql.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_ascii_lowercase).collect();
        let ddl = self.actions.values().filter_map(|action| match action {
            Action::Ddl { sql } => relation_of(sql),
            Action::Query { .. } | Action::Status => None,
        });
        let is_sure = |name: &String| self.views.contains(name) && !self.dropped.contains(name);
        ddl.into_iter().any(|relation| words.contains(&relation.name) && !is_sure(&relation.name))
    }

    fn answered(&self, op: u32, job: JobId, mismatch: Option<&String>, reference: &Reference) -> Check {
        if let Some(mismatch) = mismatch {
            return Err(format!("op {op} got a wrong answer of job {job}: {mismatch}"));
        }
        match reference.state().job(job).map(|job| job.status) {
            Some(JobStatus::Succeeded) | None => Ok(()),
            Some(status) => Err(format!("op {op} got all rows of job {job}, which is {status}")),
        }
    }

    fn end(&mut self, op: u32) {
        if let Some(begun) = self.begun.get_mut(&op) {
            begun.ended = true;
        }
        if let Some(Action::Ddl { sql }) = self.actions.get(&op)
            && let Some(relation) = relation_of(sql).filter(|relation| relation.is_created)
        {
            self.views.insert(relation.name);
        }
    }
}

impl Oracle for Answers {
    fn name(&self) -> &'static str {
        "answers"
    }

    fn on_moment(&mut self, moment: &Moment, reference: &Reference) -> Check {
        self.disruptions.on(moment);
        match &moment.what {
            What::Down { .. } if moment.host.starts_with("client-") => {
                self.gone.insert(moment.host.to_string());
                Ok(())
            }
            What::Client(ClientEvent::Invoked { op, .. }) => {
                let client = moment.host.to_string();
                let begun = Begun { at_us: moment.at_us, client, jobs: Vec::new(), ended: false };
                self.begun.insert(*op, begun);
                if let Some(Action::Ddl { sql }) = self.actions.get(op)
                    && let Some(relation) = relation_of(sql).filter(|relation| !relation.is_created)
                {
                    self.dropped.insert(relation.name);
                }
                Ok(())
            }
            What::Client(ClientEvent::Accepted { op, job, .. }) => {
                if let Some(begun) = self.begun.get_mut(op) {
                    begun.jobs.push(*job);
                    begun.ended = false;
                }
                Ok(())
            }
            What::Client(ClientEvent::Answered { op, job, mismatch, .. }) => {
                self.end(*op);
                self.answered(*op, *job, mismatch.as_ref(), reference)
            }
            What::Client(ClientEvent::Done { op } | ClientEvent::Abandoned { op, .. }) => {
                self.end(*op);
                Ok(())
            }
            What::Client(ClientEvent::Failed { op, error, outcome }) => {
                let checked = self.failed(*op, error, *outcome, reference);
                if let Some(begun) = self.begun.get_mut(op) {
                    begun.ended = true;
                }
                checked
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
