//! `QueryService.Watch`: a job's progress, one update at once and one after each change, coalesced.
//!
//! For one that reads the result, lost partitions of it are made again, and the updates go on until all of it is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{Stream, stream};
use polybolos_model::{AttemptId, JobId, StageId};
use polybolos_proto::v1::{JobUpdate, StageProgress, WatchRequest};
use polybolos_state::{ClusterState, Command, Job, JobError, JobStatus};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tonic::Status;

use super::{
    results::{Missing, add_rows, early, early_place, missing, named, place},
    show,
};
use crate::{
    error::RequestError,
    input::Refusal,
    shared::{Shared, WatchGuard},
};

/// Updates come no closer than this, but for the last one and the first results.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// How often one watch asks for lost partitions; the limits of the job come first.
const MAX_ASKS: u32 = 100;

/// What a watcher compares to see whether there is news.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    revision: u64,
    /// It gets no more updates after this.
    ended: bool,
    missing: Missing,
    running: BTreeMap<StageId, u32>,
    /// Attempts whose rows it may read before they are done, by partition of the result.
    early: BTreeMap<u32, AttemptId>,
    waits_since_ms: u64,
}

struct Watcher {
    shared: Arc<Shared>,
    job: JobId,
    knows_more_come: bool,
    reads_result: bool,
    follows: bool,
    asks_left: u32,
    /// Attempts whose rows it was given.
    told_rows: BTreeSet<AttemptId>,
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
    request: &WatchRequest,
) -> Result<impl Stream<Item = Result<JobUpdate, Status>> + Send + use<>, Status> {
    shared.fresh(false).await?;
    if !shared.read(|state| state.job(job).is_some()) {
        return Err(RequestError::JobNotFound { job: job.to_string() }.into());
    }
    let mut watcher = Watcher {
        shared: Arc::clone(shared),
        job,
        knows_more_come: request.knows_more_come,
        reads_result: request.reads_result,
        follows: request.reads_result && request.follows,
        asks_left: MAX_ASKS,
        told_rows: BTreeSet::new(),
        // Seen as of now: whatever comes later wakes.
        progress: shared.progress(),
        last: None,
        _guard: shared.watch(job),
    };
    let unreadable = named(job, &request.unreadable);
    if watcher.reads_result && !unreadable.is_empty() {
        watcher.ask(unreadable).await?;
    }
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
            if self.reads_result && self.asks_left > 0 && matches!(seen.missing, Missing::UntilAsked(_)) {
                self.ask(Vec::new()).await?;
                continue;
            }
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

    /// Has lost partitions of the result made again. That the state refuses shows in what it says of them.
    async fn ask(&mut self, unreadable: Vec<(u32, AttemptId)>) -> Result<(), RequestError> {
        self.asks_left -= 1;
        let knows = |state: &ClusterState| state.version() >= Command::REOPEN_VERSION;
        if !self.shared.read(knows) {
            return Ok(());
        }
        match self.shared.request(Command::ReopenJob { job: self.job, unreadable }).await {
            Ok(change) => tracing::info!(job = %self.job, ?change, "a client asked for lost results"),
            Err(Refusal::Rejected(rejection)) => {
                tracing::debug!(job = %self.job, %rejection, "lost results are not made again");
            }
            Err(Refusal::Unserved(error)) => return Err(error),
        }
        Ok(())
    }

    fn is_due(&self) -> bool {
        let now = self.shared.env.clock.now();
        self.last.as_ref().is_none_or(|(_, at)| now >= *at + MIN_INTERVAL)
    }

    fn look(&self) -> Result<Seen, RequestError> {
        self.shared.read(|state| {
            let job = state.job(self.job).ok_or_else(|| self.gone())?;
            let running = running(&self.shared, state, job);
            let early = self.early(state, job);
            let waits_since_ms = self.shared.waits_since_ms(state, job, !running.is_empty());
            let missing = missing(state, job);
            let goes_on = self.knows_more_come && matches!(missing, Missing::ForNow(_));
            let ended = job.status.is_ended() && !goes_on;
            Ok(Seen { revision: job.revision, ended, missing, running, early, waits_since_ms })
        })
    }

    fn early(&self, state: &ClusterState, job: &Job) -> BTreeMap<u32, AttemptId> {
        if self.follows { early(state, &self.shared.dispatcher(), job) } else { BTreeMap::new() }
    }

    fn gone(&self) -> RequestError {
        RequestError::JobNotFound { job: self.job.to_string() }
    }

    fn update(&mut self, seen: Seen) -> Result<(JobUpdate, bool), RequestError> {
        let mut told = std::mem::take(&mut self.told_rows);
        let made = self.shared.read(|state| {
            let now_ms = self.shared.now_ms(state);
            state.job(self.job).map(|job| {
                let (status, error) = self.verdict(job, &seen);
                let mut update = update(state, job, &seen, now_ms, status, error.as_ref());
                if !seen.ended {
                    // By the same state as those that are complete: of each partition one place is told.
                    let early = self.early(state, job);
                    let dispatcher = self.shared.dispatcher();
                    let places = early.values().filter_map(|&of| early_place(state, &dispatcher, of));
                    update.results.extend(places);
                }
                if self.reads_result {
                    add_rows(&mut update.results, job, &self.shared.rows(), &mut told);
                }
                update
            })
        });
        self.told_rows = told;
        let update = made.ok_or_else(|| self.gone())?;
        let ended = seen.ended;
        self.last = Some((seen, self.shared.env.clock.now()));
        Ok((update, ended))
    }

    /// The job's status for this watcher, and why it can't have the rows.
    fn verdict(&self, job: &Job, seen: &Seen) -> (JobStatus, Option<JobError>) {
        let status = show::status(job, &self.shared.dispatcher());
        match &seen.missing {
            Missing::None => (status, job.error.clone()),
            Missing::GivenBack(why) => (status, Some(why.clone())),
            Missing::ForNow(_) if self.knows_more_come => (status, None),
            // Whoever comes to read has them made again.
            Missing::UntilAsked(_) if self.knows_more_come && !self.reads_result => (status, None),
            Missing::ForNow(why) | Missing::UntilAsked(why) | Missing::Lost(why) => {
                (JobStatus::Failed, Some(why.clone()))
            }
        }
    }
}

/// The only update that a watch of the job would send, if it has ended well and its rows are where they are read.
pub(super) fn at_the_end(shared: &Shared, id: JobId) -> Option<JobUpdate> {
    shared.read(|state| {
        let job = state.job(id).filter(|job| job.status == JobStatus::Succeeded && !job.released)?;
        let missing = missing(state, job);
        let is_there = missing == Missing::None;
        let seen = Seen {
            revision: job.revision,
            ended: true,
            missing,
            running: BTreeMap::new(),
            early: BTreeMap::new(),
            waits_since_ms: 0,
        };
        is_there.then(|| {
            let mut update = update(state, job, &seen, shared.now_ms(state), job.status, None);
            add_rows(&mut update.results, job, &shared.rows(), &mut BTreeSet::new());
            update
        })
    })
}

/// Running attempts by stage.
fn running(shared: &Shared, state: &ClusterState, job: &Job) -> BTreeMap<StageId, u32> {
    let mut counts = BTreeMap::new();
    if state.is_active(job) {
        for (task, _) in shared.dispatcher().running_of(job.id) {
            *counts.entry(task.stage).or_default() += 1;
        }
    }
    counts
}

fn update(
    state: &ClusterState,
    job: &Job,
    seen: &Seen,
    now_ms: u64,
    status: JobStatus,
    error: Option<&JobError>,
) -> JobUpdate {
    let end_ms = job.ended_at_ms.unwrap_or_else(|| now_ms.max(job.submitted_at_ms));
    JobUpdate {
        job_id: job.id.to_string(),
        state: show::job_state(status).into(),
        stages: stages(job, &seen.running),
        results: state.results(job.id).filter_map(|location| place(job, &location)).collect(),
        error: error.map(show::job_error),
        elapsed_ms: end_ms.saturating_sub(job.submitted_at_ms),
        result_generation: state.result_generation(job),
        waits_since_ms: if state.is_active(job) { seen.waits_since_ms } else { 0 },
        more_come: job.status.is_ended() && !seen.ended,
    }
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
