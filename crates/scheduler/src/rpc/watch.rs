//! `QueryService.Watch`: a job's progress, one update at once and one after each change, coalesced.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{Stream, stream};
use polybolos_model::{ErrorClass, JobId, StageId, TaskError};
use polybolos_proto::v1::{JobUpdate, ResultPartition, ShuffleTicket, StageProgress};
use polybolos_state::{ClusterState, Job, JobError, JobStatus, ResultLocation};
use prost::Message;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tonic::Status;

use super::show;
use crate::{
    error::RequestError,
    shared::{Shared, WatchGuard},
};

/// Updates come no closer than this, but for the last one and the first results.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// What a watcher compares to see whether there is news.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    revision: u64,
    ended: bool,
    running: BTreeMap<StageId, u32>,
    waits_since_ms: u64,
}

struct Watcher {
    shared: Arc<Shared>,
    job: JobId,
    progress: watch::Receiver<u64>,
    last: Option<(Seen, Instant)>,
    _guard: WatchGuard,
}

/// The stream ends in an error when this replica does not serve any more, so that the watcher finds who does.
///
/// # Errors
/// The job is not known, or this replica does not serve.
pub(crate) async fn watch(
    shared: &Arc<Shared>,
    job: JobId,
) -> Result<impl Stream<Item = Result<JobUpdate, Status>> + Send + use<>, Status> {
    shared.fresh(false).await?;
    if !shared.read(|state| state.job(job).is_some()) {
        return Err(RequestError::JobNotFound { job: job.to_string() }.into());
    }
    let watcher = Watcher {
        shared: Arc::clone(shared),
        job,
        // Seen as of now: whatever comes later wakes.
        progress: shared.progress(),
        last: None,
        _guard: shared.watch(job),
    };
    Ok(stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok((update, ended)) => Some((Ok(update), (!ended).then_some(watcher))),
            Err(error) => Some((Err(error.into()), None)),
        }
    }))
}

impl Watcher {
    /// The next update, and whether it is the last.
    async fn next(&mut self) -> Result<(JobUpdate, bool), RequestError> {
        loop {
            self.progress.mark_unchanged();
            let seen = self.look()?;
            let news = self.last.as_ref().is_none_or(|(last, _)| *last != seen);
            if news && (seen.ended || self.is_due()) {
                return self.update(seen);
            }
            let due = self.last.as_ref().filter(|_| news).map(|(_, at)| *at + MIN_INTERVAL);
            tokio::select! {
                biased;
                changed = self.progress.changed() => changed.map_err(|_| RequestError::Stopping)?,
                () = async { match due { Some(due) => sleep_until(due).await, None => std::future::pending().await } } => {}
            }
            self.shared.require_leader()?;
        }
    }

    fn is_due(&self) -> bool {
        let now = self.shared.env.clock.now();
        self.last.as_ref().is_none_or(|(_, at)| now >= *at + MIN_INTERVAL)
    }

    fn look(&self) -> Result<Seen, RequestError> {
        self.shared.read(|state| {
            let job = state.job(self.job).ok_or_else(|| self.gone())?;
            let running = running(&self.shared, job);
            let waits_since_ms = self.shared.waits_since_ms(state, job, !running.is_empty());
            Ok(Seen { revision: job.revision, ended: job.status.is_ended(), running, waits_since_ms })
        })
    }

    fn gone(&self) -> RequestError {
        RequestError::JobNotFound { job: self.job.to_string() }
    }

    fn update(&mut self, seen: Seen) -> Result<(JobUpdate, bool), RequestError> {
        let made = self.shared.read(|state| {
            let now_ms = self.shared.now_ms(state);
            state.job(self.job).map(|job| update(state, job, &seen, now_ms))
        });
        let (update, ended) = made.ok_or_else(|| self.gone())?;
        self.last = Some((seen, self.shared.env.clock.now()));
        Ok((update, ended))
    }
}

/// Running attempts by stage.
pub(crate) fn running(shared: &Shared, job: &Job) -> BTreeMap<StageId, u32> {
    let mut counts = BTreeMap::new();
    if !job.status.is_ended() {
        for (task, _) in shared.dispatcher().running_of(job.id) {
            *counts.entry(task.stage).or_default() += 1;
        }
    }
    counts
}

fn update(state: &ClusterState, job: &Job, seen: &Seen, now_ms: u64) -> (JobUpdate, bool) {
    let running = &seen.running;
    let lost = lost_results(job);
    let unreadable = || given_back(state, job);
    let status = if lost.is_some() { JobStatus::Failed } else { show::status(job, !running.is_empty()) };
    let end_ms = job.ended_at_ms.unwrap_or_else(|| now_ms.max(job.submitted_at_ms));
    let update = JobUpdate {
        job_id: job.id.to_string(),
        state: show::job_state(status).into(),
        stages: stages(job, running),
        results: state.results(job.id).filter_map(|location| result(job, &location)).collect(),
        error: lost.or_else(unreadable).as_ref().or(job.error.as_ref()).map(show::job_error),
        elapsed_ms: end_ms.saturating_sub(job.submitted_at_ms),
        result_generation: state.result_generation(job),
        waits_since_ms: if job.status.is_ended() { 0 } else { seen.waits_since_ms },
    };
    (update, job.status.is_ended())
}

/// A result that nobody can read any more, because its executor was lost after the job's end.
fn lost_results(job: &Job) -> Option<JobError> {
    let (partition, why) = job.results_lost.iter().next().filter(|_| !job.released)?;
    let message = format!(
        "partition {partition} of the result was lost before it was read ({why}): run the query again"
    );
    Some(of_result(job, *partition, message))
}

/// Why the rows of a job that succeeded can't be had, told to whoever repeats its submit: they were read and given back. An
/// empty result needs no executor, and that of `EXPLAIN ANALYZE` is in the log.
fn given_back(state: &ClusterState, job: &Job) -> Option<JobError> {
    if !job.released || job.status != JobStatus::Succeeded || job.explain_analyze.is_some() {
        return None;
    }
    let has_rows = |location: &ResultLocation<'_>| location.done.outputs.iter().any(|out| out.rows > 0);
    let partition = state.results(job.id).find(has_rows)?.partition;
    let message = "the result was read and given back: run the query again, under another key";
    Some(of_result(job, partition, message.to_owned()))
}

fn of_result(job: &Job, partition: u32, message: String) -> JobError {
    let error = TaskError::new(ErrorClass::Retryable, message);
    JobError { stage: Some(job.result_stage()), partition: Some(partition), ..JobError::of_job(error) }
}

fn stages(job: &Job, running: &BTreeMap<StageId, u32>) -> Vec<StageProgress> {
    let progress = job.graph.stages.iter().zip(&job.runs).map(|(stage, run)| {
        let (rows_out, bytes_out) = run.completed().fold((0u64, 0u64), |(rows, bytes), (_, done)| {
            let more =
                done.outputs.iter().fold((0u64, 0u64), |sum, out| (sum.0 + out.rows, sum.1 + out.bytes));
            (rows + more.0, bytes + more.1)
        });
        StageProgress {
            stage_id: stage.id.0,
            tasks: show::count(run.tasks.len()),
            running: running.get(&stage.id).copied().unwrap_or_default(),
            done: show::count(run.done()),
            rows_out,
            bytes_out,
        }
    });
    progress.collect()
}

fn result(job: &Job, location: &ResultLocation<'_>) -> Option<ResultPartition> {
    let ticket = ShuffleTicket {
        job_id: job.id.to_string(),
        stage_id: job.result_stage().0,
        map_partition: location.partition,
        attempt: Some(location.done.attempt.into()),
        output_partition: 0,
        durable: location.durable,
    };
    let stats = location.done.outputs.first().copied().unwrap_or_default();
    Some(ResultPartition {
        partition: location.partition,
        address: location.address?.to_owned(),
        ticket: ticket.encode_to_vec().into(),
        rows: stats.rows,
        bytes: stats.bytes,
        attempt: location.done.attempt.to_string(),
        durable: location.durable,
    })
}
