//! The stream to the leader: found, opened, registered, lost, found again, for ever.
//!
//! ```text
//!   Waiting ──(delay over)──▶ Ready ──dial()──▶ Dialing ──(Registered)──▶ Attached
//!      ▲                                          │ refused, unreachable     │ broken, reattach
//!      └──────────── jittered back-off ◀──────────┴──────────────────────────┘
//! ```

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use polybolos_env::{Env, Net, Random, grpc};
use polybolos_model::{ExecutorId, Incarnation, Term, limits::MAX_MESSAGE_BYTES};
use polybolos_proto::v1::{
    ExecutorMessage, Refused, Register, SchedulerMessage, executor_message, executor_service_client,
    scheduler_message,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::config::ExecutorFailure;

/// How long a connect may take, name resolution and handshake included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// How long the answer to `Register` may take: the leader commits it first.
const REGISTER_DEADLINE: Duration = Duration::from_secs(10);
/// The first delay after all addresses have failed, and the longest; each is drawn from its upper half.
const FIRST_DELAY_MS: u64 = 50;
const MAX_DELAY_MS: u64 = 2_000;
/// Hints to another leader that are followed at once; then the next one waits like any failure.
const MAX_HINTS: u32 = 4;
/// Messages to the scheduler that may wait for the network.
const OUTBOX: usize = 64;
/// Heartbeats come no closer than this, whatever the scheduler asks for.
const MIN_HEARTBEAT: Duration = Duration::from_millis(50);

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("no connection within {CONNECT_DEADLINE:?}")]
    ConnectDeadline,
    #[error("no answer to the registration within {REGISTER_DEADLINE:?}")]
    RegisterDeadline,
    #[error("can't connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("the stream failed: {0}")]
    Stream(#[from] Status),
    #[error("the stream closed before the registration was answered")]
    Closed,
    #[error("the first message was not an answer to the registration")]
    Protocol,
    #[error("refused: {}", .0.reason)]
    Refused(Refused),
}

/// The answer to `Register`.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    pub(crate) term: Term,
    pub(crate) cluster: String,
    pub(crate) incarnation: Incarnation,
    pub(crate) heartbeat: Duration,
    pub(crate) outbox: mpsc::Sender<ExecutorMessage>,
}

pub(crate) enum LinkEvent {
    /// Time to [`Link::dial`].
    Ready,
    Attached(Attachment),
    Message(SchedulerMessage),
    Lost,
    Fatal(ExecutorFailure),
}

enum State {
    Waiting(BoxFuture<'static, ()>),
    Ready,
    Dialing(BoxFuture<'static, Result<(Attachment, Streaming<SchedulerMessage>), DialError>>),
    Attached(Box<Streaming<SchedulerMessage>>),
}

/// See the module's docs. Every wait lives in the value, so that [`Link::next`] may be dropped and called again.
pub(crate) struct Link {
    net: Arc<dyn Net>,
    random: Arc<dyn Random>,
    me: ExecutorId,
    addresses: Vec<String>,
    /// Index of the address that is tried next.
    position: usize,
    hint: Option<String>,
    hints_followed: u32,
    /// Failures since the last attachment.
    failures: u32,
    target: String,
    state: State,
}

impl Link {
    /// `addresses` must not be empty.
    pub(crate) fn new(env: &Env, me: ExecutorId, addresses: Vec<String>) -> Self {
        let count = addresses.len().max(1);
        Self {
            net: Arc::clone(&env.net),
            random: Arc::clone(&env.random),
            me,
            position: usize::try_from(env.random.below(count as u64)).unwrap_or_default(),
            addresses,
            hint: None,
            hints_followed: 0,
            failures: 0,
            target: String::new(),
            state: State::Ready,
        }
    }

    /// Starts to register at the next address.
    pub(crate) fn dial(&mut self, register: Register) {
        self.target = self.hint.take().unwrap_or_else(|| {
            let address = self.addresses.get(self.position).cloned().unwrap_or_default();
            self.position = (self.position + 1) % self.addresses.len().max(1);
            address
        });
        self.state = State::Dialing(Box::pin(dial(Arc::clone(&self.net), self.target.clone(), register)));
    }

    /// Drops the stream, to register anew after a short delay.
    pub(crate) fn drop_stream(&mut self) {
        self.failures = self.failures.max(1);
        self.state = State::Waiting(self.delay(FIRST_DELAY_MS));
    }

    /// What happens next.
    pub(crate) async fn next(&mut self) -> LinkEvent {
        match &mut self.state {
            State::Waiting(delay) => {
                delay.await;
                self.state = State::Ready;
                LinkEvent::Ready
            }
            State::Ready => LinkEvent::Ready,
            State::Dialing(dialing) => match dialing.await {
                Ok((attachment, inbound)) => {
                    (self.failures, self.hints_followed) = (0, 0);
                    self.state = State::Attached(Box::new(inbound));
                    LinkEvent::Attached(attachment)
                }
                Err(error) => self.failed(error),
            },
            State::Attached(inbound) => match inbound.message().await {
                Ok(Some(message)) => LinkEvent::Message(message),
                Ok(None) => self.lost("closed by the scheduler"),
                Err(status) => self.lost(status.message()),
            },
        }
    }

    fn lost(&mut self, reason: &str) -> LinkEvent {
        tracing::warn!(scheduler = %self.target, reason, "the stream to the scheduler broke; it will be opened again");
        self.drop_stream();
        LinkEvent::Lost
    }

    fn failed(&mut self, error: DialError) -> LinkEvent {
        if let DialError::Refused(refused) = &error {
            if !refused.retry && refused.leader.is_empty() {
                self.state = State::Waiting(Box::pin(futures::future::pending()));
                return LinkEvent::Fatal(ExecutorFailure::Refused {
                    executor: self.me.clone(),
                    scheduler: self.target.clone(),
                    reason: refused.reason.clone(),
                });
            }
            if !refused.leader.is_empty() {
                self.hint = Some(refused.leader.clone());
                if self.hints_followed < MAX_HINTS && refused.leader != self.target {
                    self.hints_followed += 1;
                    tracing::debug!(scheduler = %self.target, leader = %refused.leader, "another replica leads");
                    self.state = State::Ready;
                    return LinkEvent::Ready;
                }
            }
        }
        self.failures = self.failures.saturating_add(1);
        self.hints_followed = 0;
        let round = self.failures / u32::try_from(self.addresses.len().max(1)).unwrap_or(u32::MAX);
        if round == 0 {
            tracing::info!(scheduler = %self.target, %error, "no registration here; the next address is tried");
            self.state = State::Ready;
            return LinkEvent::Ready;
        }
        let ceiling_ms = (FIRST_DELAY_MS << (round - 1).min(16)).min(MAX_DELAY_MS);
        tracing::warn!(scheduler = %self.target, %error, failures = self.failures, ceiling_ms, "no scheduler took the registration; trying again");
        self.state = State::Waiting(self.delay(ceiling_ms));
        LinkEvent::Lost
    }

    /// Waits between half of `ceiling_ms` and all of it, so that a fleet does not come back all at once.
    fn delay(&self, ceiling_ms: u64) -> BoxFuture<'static, ()> {
        let delay_ms = ceiling_ms / 2 + self.random.below(ceiling_ms / 2 + 1);
        Box::pin(tokio::time::sleep(Duration::from_millis(delay_ms)))
    }
}

async fn dial(
    net: Arc<dyn Net>,
    address: String,
    register: Register,
) -> Result<(Attachment, Streaming<SchedulerMessage>), DialError> {
    let connected = timeout(CONNECT_DEADLINE, grpc::connect(&net, &address)).await;
    let channel = connected.map_err(|_| DialError::ConnectDeadline)??;
    let mut client = executor_service_client::ExecutorServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (outbox, messages) = mpsc::channel(OUTBOX);
    let first = ExecutorMessage { message: Some(executor_message::Message::Register(register)) };
    outbox.try_send(first).map_err(|_| DialError::Closed)?;
    let answered = timeout(REGISTER_DEADLINE, async {
        let mut inbound = client.attach(ReceiverStream::new(messages)).await?.into_inner();
        let answer = inbound.message().await?;
        Ok::<_, Status>((inbound, answer))
    });
    let (inbound, answer) = answered.await.map_err(|_| DialError::RegisterDeadline)??;
    let answer = answer.ok_or(DialError::Closed)?;
    match answer.message {
        Some(scheduler_message::Message::Registered(registered)) => {
            let attachment = Attachment {
                term: Term(answer.term),
                cluster: registered.cluster_id,
                incarnation: Incarnation(registered.incarnation),
                heartbeat: Duration::from_millis(registered.heartbeat_interval_ms).max(MIN_HEARTBEAT),
                outbox,
            };
            Ok((attachment, inbound))
        }
        Some(scheduler_message::Message::Refused(refused)) => Err(DialError::Refused(refused)),
        _ => Err(DialError::Protocol),
    }
}
