//! What watchers are told of a result: where its partitions are, and which of them are missing after success.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use polybolos_model::{AttemptId, ErrorClass, JobId, TaskError, TaskId, settings::has_early_results};
use polybolos_proto::v1::{ResultPartition, ShuffleTicket};
use polybolos_state::{ClusterState, Dispatcher, Job, JobError, JobStatus, ResultLocation};
use prost::Message;

use crate::rows::Rows;

/// Partitions of a result that its readers need and that are not where they could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missing {
    /// None, or the job has not succeeded.
    None,
    /// They will be there again without anybody's doing.
    ForNow(JobError),
    /// They are made again for whoever asks.
    UntilAsked(JobError),
    Lost(JobError),
    /// All of them: they were read and given back.
    GivenBack(JobError),
}

/// Of a job that has succeeded. That of `EXPLAIN ANALYZE` is in the log.
pub(crate) fn missing(state: &ClusterState, job: &Job) -> Missing {
    if job.status != JobStatus::Succeeded || job.explain_analyze.is_some() {
        return Missing::None;
    }
    if job.released {
        return given_back(state, job).map_or(Missing::None, Missing::GivenBack);
    }
    if state.is_active(job) {
        let partition = job.runs.last().and_then(|run| run.open.first().copied()).unwrap_or(0);
        let message = format!("partition {partition} of the result was lost, and is made again: ask again");
        return Missing::ForNow(of_result(job, partition, message));
    }
    if let Some((partition, why)) = job.results_lost.iter().next() {
        let tried = if state.given_up_for(job.id).is_some() { " and could not be made again" } else { "" };
        let message = format!(
            "partition {partition} of the result was lost before it was read{tried} ({why}): run the query again"
        );
        let error = of_result(job, *partition, message);
        return if state.can_reopen(job) { Missing::UntilAsked(error) } else { Missing::Lost(error) };
    }
    let is_out_of_reach = |location: &ResultLocation<'_>| location.address.is_none() && has_rows(location);
    match state.results(job.id).find(is_out_of_reach).map(|location| location.partition) {
        Some(partition) => {
            let message = format!(
                "partition {partition} of the result is in the durable store, and no executor is there that reads it: \
                 start one and ask again"
            );
            Missing::ForNow(of_result(job, partition, message))
        }
        None => Missing::None,
    }
}

/// Why the rows of a released job can't be had, told to whoever repeats its submit. An empty result needs no executor.
fn given_back(state: &ClusterState, job: &Job) -> Option<JobError> {
    let open = job.runs.last().and_then(|run| run.open.first().copied());
    let partition = open.or_else(|| Some(state.results(job.id).find(has_rows)?.partition))?;
    let message = "the result was read and given back: run the query again, under another key";
    Some(of_result(job, partition, message.to_owned()))
}

fn has_rows(location: &ResultLocation<'_>) -> bool {
    location.done.outputs.iter().any(|out| out.rows > 0)
}

fn of_result(job: &Job, partition: u32, message: String) -> JobError {
    let error = TaskError::new(ErrorClass::Retryable, message);
    JobError { stage: Some(job.result_stage()), partition: Some(partition), ..JobError::of_job(error) }
}

/// Where its readers find a partition; `None` when nobody serves it now.
pub(crate) fn place(job: &Job, location: &ResultLocation<'_>) -> Option<ResultPartition> {
    let ticket = ShuffleTicket {
        job_id: job.id.to_string(),
        stage_id: job.result_stage().0,
        map_partition: location.partition,
        attempt: Some(location.done.attempt.into()),
        output_partition: 0,
        end_partition: 0,
        durable: location.durable,
        follow: false,
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
        repeatable: has_early_results(&job.options),
        ..ResultPartition::default()
    })
}

/// Attempts at partitions of the job's result whose rows may be read before they are done, by partition. A slow task has
/// two of them: told is the first.
pub(crate) fn early(state: &ClusterState, dispatcher: &Dispatcher, job: &Job) -> BTreeMap<u32, AttemptId> {
    let may_be_read = has_early_results(&job.options) && job.explain_analyze.is_none() && !job.released;
    if !may_be_read || !state.is_active(job) {
        return BTreeMap::new();
    }
    let stage = job.result_stage();
    let is_open = |task: TaskId| {
        task.stage == stage && job.task(stage, task.partition).is_some_and(|run| run.completed.is_none())
    };
    let running = dispatcher.running_of(job.id).filter(|(task, _)| is_open(*task));
    running.map(|(task, attempt)| (task.partition, attempt)).collect()
}

/// Where its readers find what there is of a partition that `attempt` makes; `None` when it does not run any more.
pub(crate) fn early_place(
    state: &ClusterState,
    dispatcher: &Dispatcher,
    attempt: AttemptId,
) -> Option<ResultPartition> {
    let running = dispatcher.running(attempt)?;
    let TaskId { job, stage, partition } = running.task;
    let executor = state.present(&running.executor, running.incarnation)?;
    let ticket = ShuffleTicket {
        job_id: job.to_string(),
        stage_id: stage.0,
        map_partition: partition,
        attempt: Some(attempt.into()),
        follow: true,
        ..ShuffleTicket::default()
    };
    Some(ResultPartition {
        partition,
        address: executor.address.clone(),
        ticket: ticket.encode_to_vec().into(),
        attempt: attempt.to_string(),
        unfinished: true,
        repeatable: true,
        ..ResultPartition::default()
    })
}

/// Puts the rows that this leader holds beside the places of their partitions, those of the very attempts that the state
/// holds as completed. `told` are attempts of which the reader has them.
pub(crate) fn add_rows(
    places: &mut [ResultPartition],
    job: &Job,
    held: &Rows,
    told: &mut BTreeSet<AttemptId>,
) {
    if job.released {
        return;
    }
    let stage = job.result_stage();
    for place in places {
        let partition = place.partition;
        let Some(done) = job.task(stage, partition).and_then(|run| run.completed.as_ref()) else { continue };
        if !told.contains(&done.attempt) {
            place.arrow_stream = held.of(TaskId { job: job.id, stage, partition }, done.attempt);
            told.extend(place.arrow_stream.is_some().then_some(done.attempt));
        }
    }
}

/// Which partitions and attempts those tickets of the job's result were for. Others say nothing.
pub(crate) fn named(job: JobId, tickets: &[Bytes]) -> Vec<(u32, AttemptId)> {
    let named = tickets.iter().filter_map(|ticket| {
        let ticket = ShuffleTicket::decode(ticket.clone()).ok()?;
        let attempt = ticket.attempt?;
        (ticket.job_id == job.to_string()).then(|| (ticket.map_partition, attempt.into()))
    });
    let mut named: Vec<_> = named.collect();
    named.sort_unstable();
    named.dedup();
    named
}
