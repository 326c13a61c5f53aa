//! `ExecutorService.Attach`: one stream for each executor, for as long as both live.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use polybolos_model::{
    AttemptId, ExecutorId, Incarnation, JobId, StageId, TaskId, limits::MAX_INLINE_ROWS_BYTES,
};
use polybolos_proto::{
    ConvertError, attempt,
    v1::{
        ExecutorMessage, Heartbeat, Register, RunningTask, SchedulerMessage, TaskReport, TaskReports,
        executor_message::Message, executor_service_server::ExecutorService, task_report::Outcome,
    },
};
use polybolos_state::{Beat, ClusterState, Command, Reported, limits::MAX_ADDRESS_BYTES};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::is_address;
use crate::{
    error::RequestError,
    executors::{OUTGOING_MESSAGES, Outgoing, Stream, StreamId},
    input::{Input, Registration, Report, Reports},
    settle::refuse_registration,
    shared::Shared,
};

/// How long a new stream may take to say who it is.
const REGISTER_DEADLINE: Duration = Duration::from_secs(5);

pub(crate) struct ExecutorRpc {
    shared: Arc<Shared>,
    streams: AtomicU64,
}

impl ExecutorRpc {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, streams: AtomicU64::new(0) }
    }
}

#[tonic::async_trait]
impl ExecutorService for ExecutorRpc {
    type AttachStream = ReceiverStream<Result<SchedulerMessage, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<ExecutorMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (outgoing, messages) = mpsc::channel(OUTGOING_MESSAGES);
        let id = StreamId(self.streams.fetch_add(1, Ordering::Relaxed));
        let reader = Reader { shared: Arc::clone(&self.shared), id, incoming: request.into_inner() };
        tokio::spawn(reader.run(outgoing));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// Reads one stream until it ends, or the run loop drops its half.
struct Reader {
    shared: Arc<Shared>,
    id: StreamId,
    incoming: Streaming<ExecutorMessage>,
}

impl Reader {
    async fn run(mut self, outgoing: Outgoing) {
        let register = match timeout(REGISTER_DEADLINE, self.incoming.message()).await {
            Ok(Ok(Some(ExecutorMessage { message: Some(Message::Register(register)) }))) => register,
            Ok(Ok(_)) => {
                return refuse(&outgoing, Status::invalid_argument("the first message must be Register"));
            }
            Ok(Err(status)) => return tracing::debug!(%status, "a stream ended before it registered"),
            Err(_) => return refuse(&outgoing, Status::deadline_exceeded("no Register came")),
        };
        let (alive, mut dropped) = oneshot::channel();
        let stream = Stream { id: self.id, outgoing, _alive: alive };
        if let Err(error) = self.shared.require_leader() {
            return refuse_registration(&stream, &error, true);
        }
        let (executor, command, running) = match registration(register) {
            Ok(registration) => registration,
            Err(error) => {
                let why = RequestError::Refused { reason: error.to_string() };
                return refuse_registration(&stream, &why, false);
            }
        };
        let registration = Registration { executor: executor.clone(), command, running, stream };
        if !self.hand_in(Input::Registration(Box::new(registration))).await {
            return;
        }
        let why = tokio::select! {
            biased;
            _ = &mut dropped => return,
            why = self.forward(&executor) => why,
        };
        tracing::info!(%executor, why, "an executor's stream ended");
        self.hand_in(Input::StreamEnded { executor, stream: self.id }).await;
    }

    /// Says why it stopped.
    async fn forward(&mut self, executor: &ExecutorId) -> String {
        loop {
            let message = match self.incoming.message().await {
                Ok(Some(ExecutorMessage { message: Some(message) })) => message,
                // A message of a newer version.
                Ok(Some(ExecutorMessage { message: None })) => continue,
                Ok(None) => return "closed by the executor".to_owned(),
                Err(status) => return status.message().to_owned(),
            };
            let input = match message {
                Message::Register(_) => return "it registered twice".to_owned(),
                Message::Heartbeat(heartbeat) => {
                    Ok(Input::Beat { stream: self.id, beat: beat(executor, &heartbeat) })
                }
                Message::Reports(reports) => self.reports(executor, reports).map(Input::Reports),
                Message::Drain(drain) => Ok(Input::Drain {
                    executor: executor.clone(),
                    stream: self.id,
                    incarnation: Incarnation(drain.incarnation),
                    deadline_ms: drain.deadline_ms,
                }),
                Message::PullFailed(failed) => attempt(failed.attempt).map(|attempt| Input::PullFailed {
                    executor: executor.clone(),
                    stream: self.id,
                    attempt,
                }),
            };
            match input {
                Ok(input) => {
                    if !self.hand_in(input).await {
                        return "the scheduler stops".to_owned();
                    }
                }
                Err(error) => return format!("a malformed report: {error}"),
            }
        }
    }

    fn reports(&self, executor: &ExecutorId, reports: TaskReports) -> Result<Reports, ConvertError> {
        let incarnation = Incarnation(reports.incarnation);
        let version = self.shared.read(ClusterState::version);
        let convert = |one: TaskReport| {
            let attempt = attempt(one.attempt)?;
            // An executor of the first versions does not tell, but the leader that launched the attempt may know.
            let launched = || self.shared.dispatcher().running(attempt).and_then(|running| running.epoch);
            let epoch = one.epoch.or_else(launched).filter(|_| version >= 3);
            report(executor, incarnation, attempt, epoch, one)
        };
        let reports = reports.reports.into_iter().map(convert).collect::<Result<_, _>>()?;
        Ok(Reports { executor: executor.clone(), stream: self.id, reports })
    }

    /// False when nobody takes inputs any more.
    async fn hand_in(&self, input: Input) -> bool {
        self.shared.inputs.send(input).await.is_ok()
    }
}

fn refuse(outgoing: &Outgoing, status: Status) {
    // The channel is new and has room.
    let _ = outgoing.try_send(Err(status));
}

type Registered = (ExecutorId, Command, Vec<Reported>);

/// A registration that no executor of ours sends.
#[derive(Debug, thiserror::Error)]
enum Malformed {
    #[error(transparent)]
    Field(#[from] ConvertError),
    #[error("'{0}' is no address: others must reach the executor at HOST:PORT")]
    Address(String),
}

fn registration(register: Register) -> Result<Registered, Malformed> {
    let executor = ExecutorId::new(register.executor_id).map_err(ConvertError::from)?;
    if !is_address(&register.address) {
        return Err(Malformed::Address(register.address.chars().take(MAX_ADDRESS_BYTES).collect()));
    }
    let running = register.running.into_iter().map(running).collect::<Result<_, _>>()?;
    let command = Command::RegisterExecutor {
        executor: executor.clone(),
        address: register.address,
        slots: register.slots,
        memory_bytes: register.memory_bytes,
        labels: register.labels.into_iter().collect(),
        process_id: register.process_id,
    };
    Ok((executor, command, running))
}

fn running(running: RunningTask) -> Result<Reported, ConvertError> {
    let task = task_id(&running.job_id, running.stage_id, running.partition)?;
    Ok(Reported { task, attempt: attempt(running.attempt)?, epoch: running.epoch })
}

fn task_id(job: &str, stage: u32, partition: u32) -> Result<TaskId, ConvertError> {
    Ok(TaskId { job: job.parse::<JobId>()?, stage: StageId(stage), partition })
}

fn beat(executor: &ExecutorId, heartbeat: &Heartbeat) -> Beat {
    Beat {
        executor: executor.clone(),
        incarnation: Incarnation(heartbeat.incarnation),
        memory_used_bytes: heartbeat.memory_used_bytes,
        shuffle_bytes: heartbeat.shuffle_bytes,
        running_tasks: heartbeat.running_tasks,
        refused_commands: heartbeat.refused_commands,
    }
}

/// With an `epoch` as a command of version 3.
fn report(
    executor: &ExecutorId,
    incarnation: Incarnation,
    attempt: AttemptId,
    epoch: Option<u32>,
    report: TaskReport,
) -> Result<Report, ConvertError> {
    let task = task_id(&report.job_id, report.stage_id, report.partition)?;
    let executor = executor.clone();
    let mut rows = None;
    let command = match report.outcome.ok_or(ConvertError::Missing("outcome"))? {
        Outcome::Completed(completed) => {
            let outputs = completed.outputs.into_iter().map(Into::into).collect();
            let metrics = completed.metrics.map(Into::into).unwrap_or_default();
            // A copy: as they came they are a piece of the whole message, and would keep all of it.
            let few = completed.arrow_stream.filter(|rows| rows.len() <= MAX_INLINE_ROWS_BYTES);
            rows = few.map(|rows| Bytes::copy_from_slice(&rows));
            match epoch {
                Some(epoch) => {
                    let durable = completed.durable;
                    Command::CompleteTaskIn {
                        executor,
                        incarnation,
                        task,
                        attempt,
                        epoch,
                        durable,
                        outputs,
                        metrics,
                    }
                }
                None => Command::CompleteTask { executor, incarnation, task, attempt, outputs, metrics },
            }
        }
        Outcome::Failed(failed) => {
            Command::FailTask { executor, incarnation, task, attempt, error: failed.try_into()? }
        }
        Outcome::OutputDurable(_) => Command::OutputDurable { executor, incarnation, task, attempt },
        Outcome::OutputMoved(moved) => {
            let (from, from_incarnation) =
                (ExecutorId::new(moved.executor_id)?, Incarnation(moved.incarnation));
            Command::OutputMoved { executor, incarnation, task, attempt, from, from_incarnation }
        }
    };
    Ok(Report { sequence: report.sequence, task, attempt, command, rows })
}
