//! Jobs as they are shown.

use std::collections::BTreeMap;

use polybolos_model::StageId;
use polybolos_proto::v1::{
    JobDetail, JobError as WireError, JobState, JobSummary, LossCost as WireCost, StageDetail, StageLoss,
    StoryLine as WireLine, StoryToll, WriteDetail,
};
use polybolos_state::{
    ClusterState, Dispatcher, Job, JobError, JobStatus, LossCost, LostWork, Row, StoryEvent, StoryLine,
    Timeline, Toll,
};

use super::tasks::Seen;

/// Statements in lists are cut to this.
const SUMMARY_SQL_BYTES: usize = 1_000;

pub(crate) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

pub(crate) fn job_state(status: JobStatus) -> JobState {
    match status {
        JobStatus::Queued => JobState::Queued,
        JobStatus::Running => JobState::Running,
        JobStatus::Succeeded => JobState::Succeeded,
        JobStatus::Failed => JobState::Failed,
        JobStatus::Cancelled => JobState::Cancelled,
    }
}

pub(crate) fn job_error(error: &JobError) -> WireError {
    WireError {
        class: polybolos_proto::v1::ErrorClass::from(error.error.class).into(),
        message: error.error.message.clone(),
        stage_id: error.stage.map(|stage| stage.0),
        partition: error.partition,
        attempt: error.attempt.map(Into::into),
        executor_id: error.executor.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// The log's: that tasks run only this leader knows, and what was shown is never taken back.
pub(crate) fn status(job: &Job, dispatcher: &Dispatcher) -> JobStatus {
    if polybolos_model::mutant!("running-from-memory") && dispatcher.running_of(job.id).next().is_some() {
        return job.status.max(JobStatus::Running);
    }
    job.status
}

pub(crate) fn summary(job: &Job, dispatcher: &Dispatcher) -> JobSummary {
    let end = (0..=SUMMARY_SQL_BYTES.min(job.sql.len())).rev().find(|&at| job.sql.is_char_boundary(at));
    JobSummary {
        job_id: job.id.to_string(),
        state: job_state(status(job, dispatcher)).into(),
        sql: job.sql.get(..end.unwrap_or(0)).unwrap_or_default().to_owned(),
        submitted_at_ms: job.submitted_at_ms,
        ended_at_ms: job.ended_at_ms.unwrap_or_default(),
        tasks: count(job.tasks_total()),
        tasks_done: count(job.tasks_done()),
        session_id: job.session.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// `leads` if the dispatcher is one of a leader, at `now_ms` by its clock.
pub(crate) fn detail(
    state: &ClusterState,
    job: &Job,
    dispatcher: &Dispatcher,
    leads: bool,
    now_ms: u64,
) -> JobDetail {
    let seen = Seen::new(state, job, dispatcher, leads, now_ms);
    let stages = job.graph.stages.iter().zip(&job.runs).map(|(stage, run)| StageDetail {
        stage_id: stage.id.0,
        exchange: stage.exchange.to_string(),
        inputs: stage.inputs.iter().map(|input| input.stage.0).collect(),
        output_partitions: stage.output_partitions,
        plan: stage.display.clone(),
        tasks: seen.tasks(stage, run),
        shares: state.shares_in_words(job.id, stage.id).unwrap_or_default(),
    });
    let Timeline { rows, left_out: story_left_out, toll, .. } = timeline(state, job);
    JobDetail {
        summary: Some(summary(job, dispatcher)),
        error: job.error.as_ref().map(job_error),
        stages: stages.collect(),
        freshness: None,
        waits_since_ms: 0,
        story: rows.into_iter().map(|row| story_line(row, job.submitted_at_ms)).collect(),
        story_left_out,
        loss_costs: state.loss_costs(job.id).iter().map(loss_cost).collect(),
        write: state
            .write(job.id)
            .map(|write| WriteDetail { url: write.target.url.clone(), phase: write.phase.to_string() }),
        toll: Some(story_toll(toll)),
    }
}

fn story_toll(toll: Toll) -> StoryToll {
    let Toll {
        executors_lost,
        executors_left,
        elections,
        failed_attempts,
        refused_reports,
        lost_tasks,
        lost_us,
        lost_bytes,
    } = toll;
    StoryToll {
        executors_lost,
        executors_left,
        elections,
        failed_attempts,
        refused_reports,
        lost_tasks,
        lost_us,
        lost_bytes,
    }
}

fn loss_cost(cost: &LossCost) -> WireCost {
    let mut stages: BTreeMap<StageId, StageLoss> = BTreeMap::new();
    for LostWork { task, elapsed_us, bytes } in &cost.work {
        let of = stages.entry(task.stage).or_default();
        *of = StageLoss {
            stage_id: task.stage.0,
            tasks: of.tasks + 1,
            elapsed_us: of.elapsed_us.saturating_add(*elapsed_us),
            bytes: of.bytes.saturating_add(*bytes),
        };
    }
    WireCost {
        executor_id: cost.executor.to_string(),
        stages: stages.into_values().collect(),
        fails: cost.fails.clone().unwrap_or_default(),
    }
}

/// The story as `jobs timeline` tells it.
pub(crate) fn timeline(state: &ClusterState, job: &Job) -> Timeline {
    let (story, left_out) = state.story(job.id);
    Timeline {
        rows: story.iter().map(|line| row(line, job.submitted_at_ms)).collect(),
        left_out,
        toll: state.toll(job.id),
        ended: job.ended_at_ms.map(|at| (at.saturating_sub(job.submitted_at_ms), job.status.to_string())),
        submitted: String::new(),
        tasks: count(job.tasks_total()),
    }
}

fn row(line: &StoryLine, submitted_at_ms: u64) -> Row {
    let (tasks, elapsed_us, bytes) = match &line.event {
        StoryEvent::WorkLost { tasks, elapsed_us, bytes, .. } => (*tasks, *elapsed_us, *bytes),
        StoryEvent::LeaderBegan { .. }
        | StoryEvent::ExecutorDied { .. }
        | StoryEvent::TaskFailed { .. }
        | StoryEvent::ReportRefused { .. }
        | StoryEvent::ResultsLost { .. }
        | StoryEvent::ExecutorLost { .. }
        | StoryEvent::ExecutorCame { .. }
        | StoryEvent::DrainBegan { .. }
        | StoryEvent::ExecutorLeft { .. } => (0, 0, 0),
    };
    Row {
        after_ms: line.at_ms.saturating_sub(submitted_at_ms),
        kind: line.event.kind().to_owned(),
        text: line.event.to_string(),
        tasks,
        elapsed_us,
        bytes,
        done: line.done.iter().sum(),
    }
}

fn story_line(row: Row, submitted_at_ms: u64) -> WireLine {
    let Row { after_ms, kind, text, tasks, elapsed_us, bytes, done } = row;
    let at_ms = submitted_at_ms.saturating_add(after_ms);
    WireLine { at_ms, kind, text, tasks, elapsed_us, bytes, done }
}
