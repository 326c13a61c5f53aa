//! The stream to the leader: found, opened, registered, lost, found again, for ever.
//!
//! ```text
//!   Waiting ──(delay over)──▶ Ready ──dial()──▶ Dialing ──(Registered)──▶ Attached
//!      ▲                        ▲                 │ refused, unreachable     │ broken, silent, reattach
//!      │                        ├── next address ─┤                          │
//!      └─ jittered back-off ◀───┴── all tried ◀───┴──────────────────────────┘
//! ```
//!
//! A leader that is paused or cut off keeps its streams open and says nothing, not even to heartbeats. So silence counts
//! as the end of a stream, and a replica that holds the executor up comes last in each round of tries, also when
//! another one names it as the leader.

use std::{
    collections::{BTreeSet, VecDeque},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use polybolos_env::{Clock, Env, Net, Random, grpc};
use polybolos_model::{ExecutorId, Incarnation, Term, limits::MAX_MESSAGE_BYTES};
use polybolos_proto::v1::{
    ExecutorMessage, Refused, Register, SchedulerMessage, executor_message, executor_service_client,
    scheduler_message,
};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::config::ExecutorFailure;

/// How long a connect may take, name resolution and handshake included, and then the opening of the stream. The kernel
/// connects to a process that is paused, which then opens nothing. One such replica must not cost the second after which
/// the cluster gives up an executor whose stream broke.
const CONNECT_DEADLINE: Duration = Duration::from_millis(600);
/// How long the answer to `Register` may take: the leader commits it first.
const REGISTER_DEADLINE: Duration = Duration::from_secs(3);
/// Heartbeats that may go without a sign of life from the scheduler, which answers each.
const SILENT_HEARTBEATS: u32 = 3;
/// Silence that is borne in any case.
const MIN_SILENCE: Duration = Duration::from_millis(1_200);
/// An executor that notices silence this late was itself paused or starved, and first reads what has come meanwhile.
const STARVED: Duration = Duration::from_millis(200);
/// The delay after the first round of tries, and the longest. It doubles with every second round, as an election takes
/// a few of the short ones; each is drawn from its upper half.
const FIRST_DELAY_MS: u64 = 50;
const MAX_DELAY_MS: u64 = 500;
/// Hints to another leader that are followed at once; then the next address is tried.
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
    #[error("connected, but no stream was opened within {CONNECT_DEADLINE:?}")]
    OpenDeadline,
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
    Attached(Box<Stream>),
}

/// An open stream, and what its silence is measured by.
struct Stream {
    inbound: Streaming<SchedulerMessage>,
    clock: Arc<dyn Clock>,
    patience: Duration,
    /// Over when nothing came for `patience` since `heard`.
    silence: Pin<Box<Sleep>>,
    heard: Instant,
}

enum Received {
    Message(SchedulerMessage),
    Ended(String),
    Silent,
}

/// See the module's docs. Every wait lives in the value, so that [`Link::next`] may be dropped and called again.
pub(crate) struct Link {
    net: Arc<dyn Net>,
    random: Arc<dyn Random>,
    clock: Arc<dyn Clock>,
    me: ExecutorId,
    addresses: Vec<String>,
    /// Index of the address that the next round begins with.
    position: usize,
    /// What is left of this round.
    round: VecDeque<String>,
    /// Delays since the last attachment.
    delays: u32,
    hint: Option<String>,
    hints_followed: u32,
    /// Of `addresses`: those that fell silent or let a deadline pass since the last attachment.
    unresponsive: BTreeSet<String>,
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
            clock: Arc::clone(&env.clock),
            me,
            position: usize::try_from(env.random.below(count as u64)).unwrap_or_default(),
            addresses,
            round: VecDeque::new(),
            delays: 0,
            hint: None,
            hints_followed: 0,
            unresponsive: BTreeSet::new(),
            target: String::new(),
            state: State::Ready,
        }
    }

    /// Starts to register at the next address.
    pub(crate) fn dial(&mut self, register: Register) {
        self.target = match self.hint.take() {
            Some(hint) => hint,
            None => self.next_address(),
        };
        self.state = State::Dialing(Box::pin(dial(Arc::clone(&self.net), self.target.clone(), register)));
    }

    fn next_address(&mut self) -> String {
        if self.round.is_empty() {
            let count = self.addresses.len();
            let turns = self.addresses.iter().cycle().skip(self.position).take(count).cloned();
            let (slow, quick): (Vec<_>, Vec<_>) =
                turns.partition(|address| self.unresponsive.contains(address));
            self.round = quick.into_iter().chain(slow).collect();
            self.position = (self.position + 1) % count.max(1);
        }
        self.round.pop_front().unwrap_or_default()
    }

    /// Drops the stream, to register anew after a short delay: elsewhere first, if there is elsewhere.
    pub(crate) fn drop_stream(&mut self) {
        if let Some(index) = self.addresses.iter().position(|address| *address == self.target) {
            self.position = (index + 1) % self.addresses.len();
        }
        self.round.clear();
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
                Ok((attachment, inbound)) => self.attached(attachment, inbound),
                Err(error) => self.failed(error),
            },
            State::Attached(stream) => match stream.next().await {
                Received::Message(message) => LinkEvent::Message(message),
                Received::Ended(reason) => self.lost(&reason),
                Received::Silent => {
                    let reason = format!("silent for {:?}", stream.patience);
                    self.note_unresponsive();
                    self.lost(&reason)
                }
            },
        }
    }

    fn attached(&mut self, attachment: Attachment, inbound: Streaming<SchedulerMessage>) -> LinkEvent {
        (self.delays, self.hints_followed) = (0, 0);
        self.unresponsive.clear();
        let patience = (attachment.heartbeat * SILENT_HEARTBEATS).max(MIN_SILENCE);
        let (clock, heard) = (Arc::clone(&self.clock), self.clock.now());
        let stream = Stream { inbound, clock, patience, silence: Box::pin(sleep(patience)), heard };
        self.state = State::Attached(Box::new(stream));
        LinkEvent::Attached(attachment)
    }

    fn lost(&mut self, reason: &str) -> LinkEvent {
        tracing::warn!(scheduler = %self.target, reason, "the stream to the scheduler broke; it will be opened again");
        self.drop_stream();
        LinkEvent::Lost
    }

    fn failed(&mut self, error: DialError) -> LinkEvent {
        match &error {
            DialError::Refused(refused) => {
                if !refused.retry && refused.leader.is_empty() {
                    self.state = State::Waiting(Box::pin(futures::future::pending()));
                    return LinkEvent::Fatal(ExecutorFailure::Refused {
                        executor: self.me.clone(),
                        scheduler: self.target.clone(),
                        reason: refused.reason.clone(),
                    });
                }
                if self.follows(&refused.leader) {
                    tracing::debug!(scheduler = %self.target, leader = %refused.leader, "another replica leads");
                    self.hints_followed += 1;
                    self.hint = Some(refused.leader.clone());
                    self.state = State::Ready;
                    return LinkEvent::Ready;
                }
            }
            DialError::ConnectDeadline | DialError::OpenDeadline | DialError::RegisterDeadline => {
                self.note_unresponsive();
            }
            DialError::Connect(_) | DialError::Stream(_) | DialError::Closed | DialError::Protocol => {}
        }
        self.hints_followed = 0;
        if !self.round.is_empty() {
            tracing::debug!(scheduler = %self.target, %error, "no registration here; the next address is tried");
            self.state = State::Ready;
            return LinkEvent::Ready;
        }
        let ceiling_ms = (FIRST_DELAY_MS << (self.delays / 2).min(16)).min(MAX_DELAY_MS);
        self.delays = self.delays.saturating_add(1);
        if self.delays.is_power_of_two() {
            tracing::warn!(scheduler = %self.target, %error, rounds = self.delays, "no scheduler takes the registration; still trying");
        }
        self.state = State::Waiting(self.delay(ceiling_ms));
        LinkEvent::Lost
    }

    fn note_unresponsive(&mut self) {
        if self.addresses.contains(&self.target) {
            self.unresponsive.insert(self.target.clone());
        }
    }

    /// Whether a hint is worth a try. An address that holds executors up has its turn anyway.
    fn follows(&self, leader: &str) -> bool {
        !leader.is_empty()
            && leader != self.target
            && self.hints_followed < MAX_HINTS
            && !self.unresponsive.contains(leader)
    }

    /// Waits between half of `ceiling_ms` and all of it, so that a fleet does not come back all at once.
    fn delay(&self, ceiling_ms: u64) -> BoxFuture<'static, ()> {
        let delay_ms = ceiling_ms / 2 + self.random.below(ceiling_ms / 2 + 1);
        Box::pin(sleep(Duration::from_millis(delay_ms)))
    }
}

impl Stream {
    /// May be dropped and called again.
    async fn next(&mut self) -> Received {
        loop {
            let message = tokio::select! {
                biased;
                message = self.inbound.message() => message,
                () = &mut self.silence => {
                    let quiet = self.clock.now() - self.heard;
                    if quiet < self.patience + STARVED {
                        return Received::Silent;
                    }
                    self.heard = self.clock.now();
                    self.silence = Box::pin(sleep(self.patience));
                    continue;
                }
            };
            self.heard = self.clock.now();
            self.silence = Box::pin(sleep(self.patience));
            return match message {
                Ok(Some(message)) => Received::Message(message),
                Ok(None) => Received::Ended("closed by the scheduler".to_owned()),
                Err(status) => Received::Ended(status.message().to_owned()),
            };
        }
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
    // It is open once the replica has seen the call, whatever becomes of the registration.
    let opened = timeout(CONNECT_DEADLINE, client.attach(ReceiverStream::new(messages))).await;
    let mut inbound = opened.map_err(|_| DialError::OpenDeadline)??.into_inner();
    let answered = timeout(REGISTER_DEADLINE, inbound.message()).await;
    let answer = answered.map_err(|_| DialError::RegisterDeadline)??;
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
            polybolos_model::failpoint!("executor.registered");
            Ok((attachment, inbound))
        }
        Some(scheduler_message::Message::Refused(refused)) => Err(DialError::Refused(refused)),
        _ => Err(DialError::Protocol),
    }
}
