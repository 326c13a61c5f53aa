//! An executor that runs nothing: it reports each task as completed at once.
//!
//! ```text
//!   Attach ─▶ LaunchTasks ─▶ TaskReports (all that came together) ─▶ ReportsCommitted ─▶ Progress
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::stream;
use polybolos_client::Client;
use polybolos_env::{Env, grpc};
use polybolos_model::limits::MAX_MESSAGE_BYTES;
use polybolos_proto::v1::{
    ExecutorMessage, Heartbeat, LaunchTasks, PartitionStats, Register, SchedulerMessage, TaskCompleted,
    TaskReport, TaskReports, executor_message::Message as Out,
    executor_service_client::ExecutorServiceClient, scheduler_message::Message as In, task_report::Outcome,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval},
};
use tonic::{Streaming, transport::Channel};

use super::super::{error::CliError, tpch::Times};

/// Messages that may wait for the network.
const OUTBOX: usize = 256;
/// Reports of one message; a real executor sends those that it has.
const REPORTS_AT_ONCE: usize = 512;

/// By stage: into how many partitions each of its tasks divides its output.
pub(super) type Widths = BTreeMap<u32, usize>;

/// What has been committed.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) committed: u64,
    /// From a report to its commitment.
    pub(super) times: Times,
    /// Committed tasks of each job.
    pub(super) by_job: HashMap<String, u64>,
}

impl Progress {
    /// What was committed since the last time, and counts anew.
    pub(super) fn take(&mut self) -> (Times, u64) {
        (std::mem::take(&mut self.times), std::mem::take(&mut self.committed))
    }
}

pub(super) struct FakeExecutor {
    outbox: mpsc::Sender<ExecutorMessage>,
    incoming: Streaming<SchedulerMessage>,
    incarnation: u64,
    heartbeat: Duration,
    widths: watch::Receiver<Widths>,
    /// Came before anybody knew the shape of their job.
    held: Vec<LaunchTasks>,
    progress: Arc<Mutex<Progress>>,
    /// Reports that are not committed yet.
    waiting: HashMap<u64, (String, Instant)>,
    sequence: u64,
    env: Env,
}

impl FakeExecutor {
    /// Registers at the leader under the name and address of `number`.
    pub(super) async fn attach(
        env: &Env,
        leader: Channel,
        number: u32,
        slots: u32,
        widths: watch::Receiver<Widths>,
    ) -> Result<Self, CliError> {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let messages =
            stream::unfold(messages, async |mut messages| Some((messages.recv().await?, messages)));
        let register = Register {
            executor_id: format!("bench-{number}"),
            // Nobody listens there, and nobody calls.
            address: format!("{}:1", Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + number)),
            slots,
            memory_bytes: 1 << 40,
            process_id: env.random.next_u64(),
            ..Register::default()
        };
        send(&outbox, Out::Register(register)).await?;
        let mut service = ExecutorServiceClient::new(leader)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let attached = service.attach(Box::pin(messages)).await;
        let mut incoming = attached.map_err(|status| failed(&status))?.into_inner();
        let registered = match next(&mut incoming).await? {
            In::Registered(registered) => registered,
            other => return Err(failed(&format!("{other:?} instead of the registration"))),
        };
        Ok(Self {
            outbox,
            incoming,
            incarnation: registered.incarnation,
            heartbeat: Duration::from_millis(registered.heartbeat_interval_ms.max(1)),
            widths,
            held: Vec::new(),
            progress: Arc::default(),
            waiting: HashMap::new(),
            sequence: 0,
            env: env.clone(),
        })
    }

    /// A connection that many of them can share.
    pub(super) async fn connect(env: &Env, leader: &str) -> Result<Channel, CliError> {
        grpc::connect(&env.net, leader).await.map_err(|error| failed(&error))
    }

    /// Shared with whoever measures; they may take out of it what they have counted.
    pub(super) fn progress(&self) -> Arc<Mutex<Progress>> {
        Arc::clone(&self.progress)
    }

    /// Never ends but by an error: the stream broke, which it must not while something is measured.
    pub(super) async fn run(mut self) -> Result<(), CliError> {
        let mut beats = interval(self.heartbeat);
        loop {
            tokio::select! {
                biased;
                _ = beats.tick() => {
                    let heartbeat = Heartbeat { incarnation: self.incarnation, ..Heartbeat::default() };
                    send(&self.outbox, Out::Heartbeat(heartbeat)).await?;
                }
                known = self.widths.changed(), if !self.held.is_empty() => {
                    known.map_err(|_| CliError::Stopped)?;
                    for launch in std::mem::take(&mut self.held) {
                        self.complete(launch).await?;
                    }
                }
                message = next(&mut self.incoming) => match message? {
                    In::Launch(launch) if self.widths.borrow().is_empty() => self.held.push(launch),
                    In::Launch(launch) => self.complete(launch).await?,
                    In::Committed(committed) => self.committed(&committed.sequences),
                    In::Registered(_) | In::Refused(_) => return Err(failed("it was registered twice")),
                    In::Prepare(_)
                    | In::Cancel(_)
                    | In::Release(_)
                    | In::DeleteOutputs(_)
                    | In::Heartbeat(_)
                    | In::Drain(_)
                    | In::Pull(_)
                    | In::Moved(_)
                    | In::Lost(_)
                    | In::Leave(_) => {}
                },
            }
        }
    }

    async fn complete(&mut self, launch: LaunchTasks) -> Result<(), CliError> {
        let width = self.widths.borrow().get(&launch.stage_id).copied().unwrap_or(1);
        let now = self.env.clock.now();
        for tasks in launch.tasks.chunks(REPORTS_AT_ONCE) {
            let reports = tasks.iter().map(|task| {
                self.sequence += 1;
                self.waiting.insert(self.sequence, (launch.job_id.clone(), now));
                let outputs = vec![PartitionStats { rows: 1, bytes: 8 }; width];
                TaskReport {
                    sequence: self.sequence,
                    job_id: launch.job_id.clone(),
                    stage_id: launch.stage_id,
                    partition: task.partition,
                    attempt: task.attempt,
                    outcome: Some(Outcome::Completed(TaskCompleted {
                        outputs,
                        metrics: None,
                        durable: false,
                        arrow_stream: None,
                    })),
                    epoch: Some(launch.epoch),
                }
            });
            let reports = TaskReports { reports: reports.collect(), incarnation: self.incarnation };
            send(&self.outbox, Out::Reports(reports)).await?;
        }
        Ok(())
    }

    fn committed(&mut self, sequences: &[u64]) {
        let now = self.env.clock.now();
        // Each change is a whole one.
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        for (job, reported) in sequences.iter().filter_map(|sequence| self.waiting.remove(sequence)) {
            progress.committed += 1;
            progress.times.add(now - reported);
            *progress.by_job.entry(job).or_default() += 1;
        }
    }
}

/// # Errors
/// Some of the `reported` tasks are not done: a report that was refused is acknowledged, too.
pub(super) async fn check_done(client: &Client, reported: u64) -> Result<(), CliError> {
    let done: u64 = client.jobs().await?.iter().map(|job| u64::from(job.tasks_done)).sum();
    if done >= reported {
        return Ok(());
    }
    Err(failed(&format!("had {reported} reports taken, but {done} tasks are done")))
}

async fn send(outbox: &mpsc::Sender<ExecutorMessage>, message: Out) -> Result<(), CliError> {
    let message = ExecutorMessage { message: Some(message) };
    outbox.send(message).await.map_err(|_| failed("its stream has ended"))
}

async fn next(incoming: &mut Streaming<SchedulerMessage>) -> Result<In, CliError> {
    loop {
        let message = incoming.message().await.map_err(|status| failed(&status))?;
        let message = message.ok_or_else(|| failed("the scheduler closed its stream"))?;
        // A message of a newer version is none for this one.
        if let Some(message) = message.message {
            return Ok(message);
        }
    }
}

fn failed(what: &(impl ToString + ?Sized)) -> CliError {
    let (name, log) = ("the executor of the measurement".to_owned(), String::new());
    CliError::Node { name, what: format!("failed: {}", what.to_string()), log }
}
