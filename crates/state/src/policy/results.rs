//! Jobs whose result is larger than they allow.
//!
//! ```text
//!   requests:  complete 0/2   complete 0/3 ← too large   complete 0/4
//!   entry:     complete 0/2   fail the job               complete 0/4 (refused: the job has ended)
//! ```
//!
//! The failure takes the place of the completion that makes the result too large, in the very entry that would have held
//! that one. So a result never counts as whole that is too large, whoever leads, and the log holds the decision alone:
//! replicas need not know of the limit.
//!
//! Deliberately absent: what is written to files, which is no result; and a result that is made again after its job has
//! succeeded.

use std::collections::BTreeMap;

use polybolos_model::{ErrorClass, JobId, PartitionStats, TaskError, TaskId, Term, settings::RESULT_BYTES};
use thiserror::Error;

use crate::{ClusterState, Command, Entry, Job, JobError, ahead::bears_on, extension::SETTINGS_VERSION};

/// A job's result has more bytes than its `polybolos.max_result_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the result of query {job} has more than {limit_bytes} bytes (polybolos.max_result_bytes): {bytes} bytes with {done} \
     of its {total} partitions done: ask for fewer rows (LIMIT), write them to files (COPY … TO), or raise the limit or \
     take it off (`SET polybolos.max_result_bytes = 0`)"
)]
pub struct ResultTooLarge {
    pub job: JobId,
    pub limit_bytes: u64,
    /// In memory, before compression, as executors count them.
    pub bytes: u64,
    /// Partitions of the result.
    pub done: usize,
    pub total: usize,
}

impl ResultTooLarge {
    /// The query asks for more than its user allows: to run it again would be of no use.
    fn into_command(self) -> Command {
        let error = TaskError::new(ErrorClass::User, self.to_string());
        Command::FailJob { job: self.job, error: JobError::of_job(error) }
    }
}

/// Puts the failure of its job in the place of each completion that would make a result too large. Where nothing comes
/// near a limit this costs a look at each completion's job.
pub(super) fn cap(state: &ClusterState, requests: &mut [Command], term: Term, now_ms: u64) {
    if state.version() < SETTINGS_VERSION || polybolos_model::mutant!("result-limit-ignored") {
        return;
    }
    for (job, limit_bytes) in suspects(state, requests) {
        let found = first_beyond(state, requests, (job, limit_bytes), term, now_ms);
        if let Some((at, too_large)) = found
            && let Some(completion) = requests.get_mut(at)
        {
            polybolos_model::sometimes!("a result was larger than its job allows");
            *completion = too_large.into_command();
        }
    }
}

/// Jobs whose results would be too large if all of these completions counted, with their limits.
fn suspects(state: &ClusterState, requests: &[Command]) -> Vec<(JobId, u64)> {
    let mut completed: BTreeMap<JobId, u64> = BTreeMap::new();
    for (task, outputs) in requests.iter().filter_map(completion) {
        // The result stage of one that is just being submitted is looked up later.
        if state
            .job(task.job)
            .is_none_or(|job| may_be_stopped(state, job) && job.result_stage() == task.stage)
        {
            let bytes = completed.entry(task.job).or_default();
            *bytes = bytes.saturating_add(bytes_of(outputs));
        }
    }
    let submitted = |id: JobId| {
        requests.iter().find_map(|command| match command {
            Command::SubmitJob { job, options, .. } if *job == id => Some(options),
            _ => None,
        })
    };
    let suspect = |(id, new_bytes): (JobId, u64)| {
        let known = state.job(id);
        let options = known.map(|job| &job.options).or_else(|| submitted(id))?;
        let limit_bytes = RESULT_BYTES.bytes_in(options);
        let is_suspect =
            limit_bytes > 0 && known.map_or(0, result_bytes).saturating_add(new_bytes) > limit_bytes;
        is_suspect.then_some((id, limit_bytes))
    };
    completed.into_iter().filter_map(suspect).collect()
}

/// The first completion by which the job's result is too large, and how large it is then. The commands are tried out, as
/// some of them may be refused, and others take completions back.
fn first_beyond(
    state: &ClusterState,
    requests: &[Command],
    (id, limit_bytes): (JobId, u64),
    term: Term,
    now_ms: u64,
) -> Option<(usize, ResultTooLarge)> {
    let mut trial = state.with_job_alone(state.job(id));
    for (at, command) in requests.iter().enumerate().filter(|(_, command)| bears_on(command, id)) {
        trial.apply(&Entry::new(state.version(), term.max(state.term()), now_ms, vec![command.clone()]));
        let Some(job) = trial.job(id).filter(|_| completion(command).is_some()) else { continue };
        let bytes = result_bytes(job);
        if bytes > limit_bytes {
            let (done, total) = job.runs.last().map_or((0, 0), |run| (run.done(), run.tasks.len()));
            return Some((at, ResultTooLarge { job: id, limit_bytes, bytes, done, total }));
        }
    }
    None
}

/// Not one that has succeeded and is made again, nor one whose rows go to files.
fn may_be_stopped(state: &ClusterState, job: &Job) -> bool {
    !job.status.is_ended() && state.write(job.id).is_none()
}

fn completion(command: &Command) -> Option<(TaskId, &[PartitionStats])> {
    match command {
        Command::CompleteTask { task, outputs, .. } | Command::CompleteTaskIn { task, outputs, .. } => {
            Some((*task, outputs))
        }
        _ => None,
    }
}

fn result_bytes(job: &Job) -> u64 {
    job.results().fold(0, |sum, (_, done)| sum.saturating_add(bytes_of(&done.outputs)))
}

fn bytes_of(outputs: &[PartitionStats]) -> u64 {
    outputs.iter().fold(0, |sum, output| sum.saturating_add(output.bytes))
}
