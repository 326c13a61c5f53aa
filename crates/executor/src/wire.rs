//! Between the wire's messages and the core's commands and reports.

use std::collections::BTreeMap;

use polybolos_model::{AttemptId, ExecutorId, Incarnation, JobId, StageId, TaskId, Term};
use polybolos_proto::{
    ConvertError, attempt,
    v1::{self, scheduler_message::Message},
};
use prost::Message as _;

use polybolos_shuffle::{Handover, OutputKey};

use crate::core::{Command, Event, MovedTo, Outcome, Report, StageKey, Work};

/// A scheduler's message, as the core's event and what only the shell keeps.
pub(crate) struct Incoming {
    pub(crate) event: Event,
    pub(crate) prepare: Option<v1::PrepareStage>,
    pub(crate) handover: Option<Handover>,
}

/// `None` for a message that asks for nothing.
///
/// # Errors
/// The message lacks a field, or is one that only a dial expects.
pub(crate) fn incoming(message: v1::SchedulerMessage) -> Result<Option<Incoming>, ConvertError> {
    let (mut prepare, mut handover) = (None, None);
    let command = match message.message.ok_or(ConvertError::Missing("message"))? {
        Message::Registered(_) | Message::Refused(_) => return Err(ConvertError::Missing("a command")),
        Message::Prepare(message) => {
            let stage = stage_key(&message.job_id, message.stage_id)?;
            let command = Command::Prepare { stage, epoch: message.epoch, bytes: message.encoded_len() };
            prepare = Some(message);
            command
        }
        Message::Launch(launch) => Command::Launch {
            stage: stage_key(&launch.job_id, launch.stage_id)?,
            epoch: launch.epoch,
            tasks: launch
                .tasks
                .into_iter()
                .map(|task| Ok((task.partition, attempt(task.attempt)?)))
                .collect::<Result<_, ConvertError>>()?,
        },
        Message::Cancel(cancel) => Command::Cancel { attempts: attempts(cancel.attempts) },
        Message::DeleteOutputs(delete) => Command::DeleteOutputs { attempts: attempts(delete.attempts) },
        Message::Release(release) => Command::Release { job: release.job_id.parse()? },
        Message::Committed(committed) => Command::Committed { sequences: committed.sequences },
        Message::Heartbeat(v1::HeartbeatAck {}) => return Ok(None),
        Message::Drain(drain) => Command::Drain { deadline_ms: drain.deadline_ms },
        Message::Pull(message) => {
            let (command, wanted) = pull(message)?;
            handover = Some(wanted);
            command
        }
        Message::Moved(moved) => {
            Command::Moved { outputs: moved.outputs.into_iter().map(moved_to).collect::<Result<_, _>>()? }
        }
        Message::Lost(lost) => Command::Lost { address: lost.address },
        Message::Leave(v1::Leave {}) => Command::Leave,
    };
    let event = Event::Command { term: Term(message.term), command };
    Ok(Some(Incoming { event, prepare, handover }))
}

fn pull(message: v1::PullOutput) -> Result<(Command, Handover), ConvertError> {
    let job = message.job_id.parse::<JobId>()?;
    let task = TaskId { job, stage: StageId(message.stage_id), partition: message.partition };
    let attempt = attempt(message.attempt)?;
    let (from, incarnation) = (ExecutorId::new(message.executor_id)?, Incarnation(message.incarnation));
    let handover = Handover {
        key: OutputKey { task, attempt },
        address: message.address,
        outputs: message.outputs.into_iter().map(Into::into).collect(),
    };
    Ok((Command::Pull { task, attempt, from, incarnation }, handover))
}

fn moved_to(moved: v1::MovedOutput) -> Result<MovedTo, ConvertError> {
    let (job, attempt) = (moved.job_id.parse()?, attempt(moved.attempt)?);
    Ok(MovedTo { job, attempt, address: moved.address })
}

fn attempts(ids: Vec<v1::AttemptId>) -> Vec<AttemptId> {
    ids.into_iter().map(Into::into).collect()
}

fn stage_key(job: &str, stage: u32) -> Result<StageKey, ConvertError> {
    Ok(StageKey::new(job.parse::<JobId>()?, StageId(stage)))
}

pub(crate) fn report(report: Report) -> v1::TaskReport {
    let outcome = match report.outcome {
        Outcome::Completed { outputs, metrics, durable, rows } => {
            v1::task_report::Outcome::Completed(v1::TaskCompleted {
                outputs: outputs.into_iter().map(Into::into).collect(),
                metrics: Some(metrics.into()),
                durable,
                arrow_stream: rows,
            })
        }
        Outcome::Failed(error) => v1::task_report::Outcome::Failed(error.into()),
        Outcome::Durable => v1::task_report::Outcome::OutputDurable(v1::OutputDurable {}),
        Outcome::Moved { from, incarnation } => {
            let (executor_id, incarnation) = (from.to_string(), incarnation.0);
            v1::task_report::Outcome::OutputMoved(v1::OutputMoved { executor_id, incarnation })
        }
    };
    v1::TaskReport {
        sequence: report.sequence,
        job_id: report.task.job.to_string(),
        stage_id: report.task.stage.0,
        partition: report.task.partition,
        attempt: Some(report.attempt.into()),
        outcome: Some(outcome),
        epoch: Some(report.epoch),
    }
}

pub(crate) fn running(adoptable: BTreeMap<AttemptId, Work>) -> Vec<v1::RunningTask> {
    let running = adoptable.into_iter().map(|(attempt, Work { task, epoch })| v1::RunningTask {
        job_id: task.job.to_string(),
        stage_id: task.stage.0,
        partition: task.partition,
        attempt: Some(attempt.into()),
        epoch: Some(epoch),
    });
    running.collect()
}
