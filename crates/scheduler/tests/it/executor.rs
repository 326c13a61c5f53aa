//! An executor that does what the test says.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use polybolos_env::grpc;
use polybolos_proto::v1::{
    AttemptId, ErrorClass, ExecutorMessage, FetchFailure, Heartbeat, LaunchTasks, PartitionStats,
    PrepareStage, Refused, Register, Registered, RunningTask, SchedulerMessage, TaskCompleted, TaskFailed,
    TaskReport, TaskReports, executor_message::Message as Out,
    executor_service_client::ExecutorServiceClient, scheduler_message::Message as In, task_report::Outcome,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::harness::Place;

const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct FakeExecutor {
    register: Register,
    outgoing: mpsc::Sender<ExecutorMessage>,
    incoming: Streaming<SchedulerMessage>,
    pub(crate) incarnation: u64,
    sequence: u64,
    /// By job and stage, the latest.
    pub(crate) prepared: HashMap<(String, u32), PrepareStage>,
    pub(crate) deleted: Vec<AttemptId>,
    acks: Vec<u64>,
    launches: Vec<LaunchTasks>,
    releases: Vec<String>,
    /// Attempts that it was told to stop.
    pub(crate) cancelled: Vec<AttemptId>,
    pub(crate) answered_beats: usize,
    /// What its heartbeats say.
    pub(crate) refused_commands: Arc<AtomicU64>,
    beats: tokio::task::JoinHandle<()>,
}

impl FakeExecutor {
    pub(crate) async fn attach(place: &impl Place, name: &str, slots: u32) -> Self {
        Self::attach_at(place, name, &format!("{name}:1"), slots).await
    }

    pub(crate) async fn attach_at(place: &impl Place, name: &str, address: &str, slots: u32) -> Self {
        let register = Register {
            executor_id: name.to_owned(),
            address: address.to_owned(),
            slots,
            memory_bytes: 1 << 30,
            process_id: 7,
            ..Register::default()
        };
        Self::open(place, register).await.expect("the registration is accepted")
    }

    pub(crate) async fn refused(place: &impl Place, name: &str, address: &str) -> Refused {
        let register = Register {
            executor_id: name.to_owned(),
            address: address.to_owned(),
            slots: 1,
            process_id: 8,
            ..Register::default()
        };
        Self::open(place, register).await.err().expect("the registration is refused")
    }

    /// The same process over a new stream, still running `launches`.
    pub(crate) async fn reattach(self, place: &impl Place, launches: &[&LaunchTasks]) -> Self {
        let running = launches.iter().flat_map(|launch| {
            launch.tasks.iter().map(|task| RunningTask {
                job_id: launch.job_id.clone(),
                stage_id: launch.stage_id,
                partition: task.partition,
                attempt: task.attempt,
                epoch: Some(launch.epoch),
            })
        });
        let register = Register { running: running.collect(), ..self.register.clone() };
        drop(self);
        Self::open(place, register).await.expect("the registration is accepted")
    }

    async fn open(place: &impl Place, register: Register) -> Result<Self, Refused> {
        let channel = grpc::connect(&place.env().net, place.address()).await.unwrap();
        let (outgoing, messages) = mpsc::channel(64);
        outgoing.send(message(Out::Register(register.clone()))).await.unwrap();
        let mut client = ExecutorServiceClient::new(channel);
        let mut incoming = client.attach(ReceiverStream::new(messages)).await.unwrap().into_inner();
        let registered = match next(&mut incoming).await {
            In::Registered(registered) => registered,
            In::Refused(refused) => return Err(refused),
            other => panic!("{other:?} before the registration"),
        };
        assert!(!registered.cluster_id.is_empty());
        let incarnation = registered.incarnation;
        let refused_commands = Arc::new(AtomicU64::new(0));
        let beats = tokio::spawn(beat(outgoing.clone(), registered, Arc::clone(&refused_commands)));
        Ok(Self {
            register,
            outgoing,
            incoming,
            incarnation,
            cancelled: Vec::new(),
            answered_beats: 0,
            refused_commands,
            sequence: 0,
            prepared: HashMap::new(),
            deleted: Vec::new(),
            acks: Vec::new(),
            launches: Vec::new(),
            releases: Vec::new(),
            beats,
        })
    }

    async fn receive(&mut self) {
        match next(&mut self.incoming).await {
            In::Prepare(stage) => {
                self.prepared.insert((stage.job_id.clone(), stage.stage_id), stage);
            }
            In::Launch(launch) => {
                let stage = self.prepared.get(&(launch.job_id.clone(), launch.stage_id));
                assert_eq!(
                    stage.map(|stage| stage.epoch),
                    Some(launch.epoch),
                    "prepared before it is launched"
                );
                self.launches.push(launch);
            }
            In::Release(release) => self.releases.push(release.job_id),
            In::DeleteOutputs(delete) => self.deleted.extend(delete.attempts),
            In::Committed(committed) => self.acks.extend(committed.sequences),
            In::Cancel(cancel) => self.cancelled.extend(cancel.attempts),
            In::Heartbeat(_) => self.answered_beats += 1,
            In::Lost(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }

    /// From now on it beats only when it is told to.
    pub(crate) fn stop_beating(&self) {
        self.beats.abort();
    }

    pub(crate) async fn beat(&self) {
        let heartbeat = Heartbeat { incarnation: self.incarnation, ..Heartbeat::default() };
        self.outgoing.send(message(Out::Heartbeat(heartbeat))).await.unwrap();
    }

    /// Closes its side of the stream.
    pub(crate) fn hang_up(&mut self) {
        self.beats.abort();
        self.outgoing = mpsc::channel(1).0;
    }

    /// Waits until the stream ends.
    pub(crate) async fn left(&mut self) {
        let ended = async { while matches!(self.incoming.message().await, Ok(Some(_))) {} };
        timeout(PATIENCE, ended).await.expect("the stream's end in time");
    }

    /// Takes what comes for a while.
    pub(crate) async fn listen(&mut self, time: Duration) {
        let _ = timeout(time, async {
            loop {
                self.receive().await;
            }
        })
        .await;
    }

    /// The next launch, in the order in which they came.
    pub(crate) async fn launch(&mut self) -> LaunchTasks {
        while self.launches.is_empty() {
            self.receive().await;
        }
        self.launches.remove(0)
    }

    pub(crate) async fn released(&mut self) -> String {
        while self.releases.is_empty() {
            self.receive().await;
        }
        self.releases.remove(0)
    }

    pub(crate) async fn committed(&mut self) -> Vec<u64> {
        while self.acks.is_empty() {
            self.receive().await;
        }
        std::mem::take(&mut self.acks)
    }

    /// Completes a launched task of one output partition.
    pub(crate) async fn complete(&mut self, launch: &LaunchTasks, index: usize, rows: u64) {
        self.complete_wide(launch, index, rows, 1).await;
    }

    /// Completes a launched task, with `rows` in each of `width` output partitions.
    pub(crate) async fn complete_wide(
        &mut self,
        launch: &LaunchTasks,
        index: usize,
        rows: u64,
        width: usize,
    ) {
        let outputs = vec![PartitionStats { rows, bytes: rows * 8 }; width];
        self.complete_as(launch, index, outputs).await;
    }

    /// Completes a launched task of one output partition, whose rows come along.
    pub(crate) async fn complete_with_rows(&mut self, launch: &LaunchTasks, index: usize, rows: &[u8]) {
        let outputs = vec![PartitionStats { rows: 1, bytes: 8 }];
        let arrow_stream = Some(rows.to_vec().into());
        let completed = TaskCompleted { outputs, metrics: None, durable: false, arrow_stream };
        self.report(launch, index, Outcome::Completed(completed)).await;
    }

    /// Completes a launched task that has written so many rows and bytes.
    pub(crate) async fn complete_with(&mut self, launch: &LaunchTasks, index: usize, rows: u64, bytes: u64) {
        self.complete_as(launch, index, vec![PartitionStats { rows, bytes }]).await;
    }

    async fn complete_as(&mut self, launch: &LaunchTasks, index: usize, outputs: Vec<PartitionStats>) {
        let completed = TaskCompleted { outputs, metrics: None, durable: false, arrow_stream: None };
        self.report(launch, index, Outcome::Completed(completed)).await;
    }

    pub(crate) async fn fail(
        &mut self,
        launch: &LaunchTasks,
        index: usize,
        class: ErrorClass,
        text: &str,
        fetch: Option<FetchFailure>,
    ) {
        let failed = TaskFailed { class: class.into(), message: text.to_owned(), fetch };
        self.report(launch, index, Outcome::Failed(failed)).await;
    }

    async fn report(&mut self, launch: &LaunchTasks, index: usize, outcome: Outcome) {
        self.sequence += 1;
        let report = TaskReport {
            sequence: self.sequence,
            job_id: launch.job_id.clone(),
            stage_id: launch.stage_id,
            partition: launch.tasks[index].partition,
            attempt: launch.tasks[index].attempt,
            outcome: Some(outcome),
            epoch: Some(launch.epoch),
        };
        let reports = TaskReports { incarnation: self.incarnation, reports: vec![report] };
        self.outgoing.send(message(Out::Reports(reports))).await.unwrap();
    }
}

impl Drop for FakeExecutor {
    fn drop(&mut self) {
        self.beats.abort();
    }
}

async fn beat(
    outgoing: mpsc::Sender<ExecutorMessage>,
    registered: Registered,
    refused_commands: Arc<AtomicU64>,
) {
    loop {
        let heartbeat = Heartbeat {
            incarnation: registered.incarnation,
            refused_commands: refused_commands.load(Ordering::Relaxed),
            ..Default::default()
        };
        if outgoing.send(message(Out::Heartbeat(heartbeat))).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(registered.heartbeat_interval_ms)).await;
    }
}

fn message(message: Out) -> ExecutorMessage {
    ExecutorMessage { message: Some(message) }
}

async fn next(incoming: &mut Streaming<SchedulerMessage>) -> In {
    let message = timeout(PATIENCE, incoming.message()).await.expect("a message in time").unwrap();
    message.expect("an open stream").message.expect("a message of this version")
}
