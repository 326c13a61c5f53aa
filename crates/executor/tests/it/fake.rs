//! A scheduler that does what the test says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::stream::BoxStream;
use polybolos_env::{Env, grpc};
use polybolos_model::limits::MAX_MESSAGE_BYTES;
use polybolos_proto::v1::{
    ExecutorMessage, Heartbeat, HeartbeatAck, Refused, Register, Registered, ReportsCommitted,
    SchedulerMessage, TaskReport, executor_message, executor_service_server::*, scheduler_message::Message,
};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct FakeScheduler {
    pub(crate) address: String,
    sessions: Mutex<mpsc::Receiver<Session>>,
    server: JoinHandle<()>,
}

impl Drop for FakeScheduler {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One stream of one executor. Dropping it breaks the stream.
pub(crate) struct Session {
    pub(crate) register: Register,
    inbound: mpsc::UnboundedReceiver<executor_message::Message>,
    outbound: mpsc::Sender<Result<SchedulerMessage, Status>>,
    /// Of the last message sent.
    term: Arc<AtomicU64>,
    acknowledges: Arc<AtomicBool>,
}

struct Service(mpsc::Sender<Session>);

#[tonic::async_trait]
impl ExecutorService for Service {
    type AttachStream = BoxStream<'static, Result<SchedulerMessage, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<ExecutorMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut inbound = request.into_inner();
        let Some(executor_message::Message::Register(register)) = inbound.message().await?.unwrap().message
        else {
            panic!("the first message must be Register");
        };
        let (outbound, messages) = mpsc::channel(100);
        let (forward, received) = mpsc::unbounded_channel();
        let session = Session {
            register,
            inbound: received,
            outbound,
            term: Arc::new(AtomicU64::new(0)),
            acknowledges: Arc::new(AtomicBool::new(true)),
        };
        tokio::spawn(session.reader(inbound, forward));
        self.0.send(session).await.unwrap();
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

impl FakeScheduler {
    pub(crate) async fn start(env: &Env) -> Self {
        Self::start_on(env, "127.0.0.1:0").await
    }

    pub(crate) async fn start_on(env: &Env, address: &str) -> Self {
        let listener = env.net.listen(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, sessions) = mpsc::channel(10);
        let service =
            ExecutorServiceServer::new(Service(sender)).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let serving = grpc::server().add_service(service).serve_with_incoming(grpc::incoming(listener));
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { address, sessions: Mutex::new(sessions), server }
    }

    /// The next executor that attaches.
    pub(crate) async fn next(&self) -> Session {
        timeout(DEADLINE, async { self.sessions.lock().await.recv().await.unwrap() }).await.unwrap()
    }

    /// Nobody attaches for `time`.
    pub(crate) async fn is_left_alone_for(&self, time: Duration) {
        let mut sessions = self.sessions.lock().await;
        assert!(timeout(time, sessions.recv()).await.is_err(), "an executor attached");
    }

    /// The next executor that attaches, registered.
    pub(crate) async fn registered(&self, term: u64, incarnation: u64) -> Session {
        let session = self.next().await;
        session.register(term, incarnation).await;
        session
    }
}

impl Session {
    /// Passes on what comes, and answers heartbeats, also while the test does something else.
    fn reader(
        &self,
        mut inbound: Streaming<ExecutorMessage>,
        forward: mpsc::UnboundedSender<executor_message::Message>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (outbound, term, acknowledges) =
            (self.outbound.downgrade(), Arc::clone(&self.term), Arc::clone(&self.acknowledges));
        async move {
            while let Ok(Some(message)) = inbound.message().await {
                let message = message.message.unwrap();
                let is_beat = matches!(message, executor_message::Message::Heartbeat(_));
                if is_beat && acknowledges.load(Relaxed) {
                    let Some(outbound) = outbound.upgrade() else { return };
                    let ack = Some(Message::Heartbeat(HeartbeatAck {}));
                    let _ =
                        outbound.send(Ok(SchedulerMessage { term: term.load(Relaxed), message: ack })).await;
                }
                if forward.send(message).is_err() {
                    return;
                }
            }
        }
    }

    /// From now on heartbeats get no answer.
    pub(crate) fn fall_silent(&self) {
        self.acknowledges.store(false, Relaxed);
    }

    pub(crate) async fn register(&self, term: u64, incarnation: u64) {
        let registered = Registered { incarnation, cluster_id: "test".to_owned(), heartbeat_interval_ms: 50 };
        self.send(term, Message::Registered(registered)).await;
    }

    pub(crate) async fn refuse(&self, leader: &str, retry: bool) {
        let refused = Refused { reason: "the test says so".to_owned(), leader: leader.to_owned(), retry };
        self.send(1, Message::Refused(refused)).await;
    }

    pub(crate) async fn send(&self, term: u64, message: Message) {
        self.term.store(term, Relaxed);
        self.outbound.send(Ok(SchedulerMessage { term, message: Some(message) })).await.unwrap();
    }

    pub(crate) async fn commit(&self, term: u64, sequences: Vec<u64>) {
        self.send(term, Message::Committed(ReportsCommitted { sequences })).await;
    }

    async fn message(&mut self) -> executor_message::Message {
        let message = timeout(DEADLINE, self.inbound.recv()).await.expect("a message in time");
        message.expect("an open stream")
    }

    pub(crate) async fn reports(&mut self) -> Vec<TaskReport> {
        loop {
            if let executor_message::Message::Reports(reports) = self.message().await {
                return reports.reports;
            }
        }
    }

    pub(crate) async fn report(&mut self) -> TaskReport {
        let mut reports = self.reports().await;
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports.remove(0)
    }

    pub(crate) async fn heartbeat(&mut self) -> Heartbeat {
        match self.message().await {
            executor_message::Message::Heartbeat(heartbeat) => heartbeat,
            other => panic!("{other:?}"),
        }
    }
}
