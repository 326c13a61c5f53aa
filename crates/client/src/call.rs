//! One call to whoever leads: tries, redirections, pauses, deadlines.

use std::{
    error::Error,
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use polybolos_env::Env;
use polybolos_model::{JobId, limits::MAX_MESSAGE_BYTES};
use polybolos_proto::v1::{error_detail::Reason, query_service_client::QueryServiceClient};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, ConnectError, Response, Status, transport::Channel};

use crate::{
    ClientError,
    background::Background,
    channels::{Channels, describe},
    limits::{
        BACKOFF_MAX, BACKOFF_MIN, BUSY_PATIENCE, CALL_ATTEMPT_TIMEOUT, CALL_DEADLINE, SUBMIT_ATTEMPT_TIMEOUT,
    },
};

pub(crate) type Query = QueryServiceClient<Channel>;

/// What the clones of a client, its jobs and its streams share.
pub(crate) struct Shared {
    pub(crate) env: Env,
    /// Not empty.
    pub(crate) addresses: Vec<String>,
    pub(crate) channels: Channels,
    pub(crate) background: Background,
    pub(crate) reach_deadline: Duration,
    /// Who answered as the leader last, or was named as it.
    leader: Mutex<Option<String>>,
}

/// How long a call may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// For error texts.
    pub(crate) what: &'static str,
    pub(crate) deadline: Duration,
    pub(crate) attempt_timeout: Duration,
    /// Whether it matters to know that a lost call may have been done.
    changes: bool,
}

impl Call {
    pub(crate) const fn read(what: &'static str) -> Self {
        Self { what, deadline: CALL_DEADLINE, attempt_timeout: CALL_ATTEMPT_TIMEOUT, changes: false }
    }

    pub(crate) const fn change(what: &'static str) -> Self {
        Self { what, deadline: CALL_DEADLINE, attempt_timeout: CALL_ATTEMPT_TIMEOUT, changes: true }
    }

    pub(crate) const fn submit(deadline: Duration) -> Self {
        Self { what: "the submit", deadline, attempt_timeout: SUBMIT_ATTEMPT_TIMEOUT, changes: true }
    }
}

/// What the answer to one try means for the next.
pub(crate) enum Verdict {
    /// The scheduler has decided: trying again can't help.
    Final(ClientError),
    /// Ask the named replica, or any other.
    NotLeader(Option<String>),
    Busy(String),
    /// The request didn't leave this host.
    NotSent(String),
    /// No answer; it may have been done.
    Unknown(String),
}

impl Shared {
    pub(crate) fn new(addresses: Vec<String>, env: Env, reach_deadline: Duration) -> Self {
        let channels = Channels::new(env.clone());
        Self {
            env,
            addresses,
            channels,
            background: Background::new(),
            reach_deadline,
            leader: Mutex::default(),
        }
    }

    /// Repeats `send` until a leader has answered or the deadline has passed. `send` must be safe to repeat.
    pub(crate) async fn call<R, F, S>(&self, call: Call, send: S) -> Result<R, ClientError>
    where
        S: Fn(Query) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut search = Search::new(self, call);
        loop {
            let address = search.address();
            let limit = search.attempt_timeout();
            let verdict = match timeout(limit, self.attempt(&address, &send)).await {
                Ok(Ok(answer)) => {
                    self.set_leader(Some(address));
                    return Ok(answer);
                }
                Ok(Err(verdict)) => verdict,
                Err(_) => Verdict::Unknown(format!("{address} was silent for {} s", limit.as_secs_f32())),
            };
            search.judge(&address, verdict)?;
            search.pause().await;
        }
    }

    async fn attempt<R, F>(&self, address: &str, send: &impl Fn(Query) -> F) -> Result<R, Verdict>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let channel = match self.channels.get(address).await {
            Ok(channel) => channel,
            Err(error) => return Err(Verdict::NotSent(format!("{address}: {error}"))),
        };
        let query = QueryServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        match send(query).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(verdict(&status, address)),
        }
    }

    pub(crate) fn leader(&self) -> Option<String> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_leader(&self, address: Option<String>) {
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// The pause before try `step` (from 0), drawn so that clients don't come back all at once.
    pub(crate) fn backoff(&self, step: u32) -> Duration {
        let step = BACKOFF_MIN.saturating_mul(1 << step.min(10)).min(BACKOFF_MAX);
        let half_us = u64::try_from(step.as_micros() / 2).unwrap_or(u64::MAX);
        Duration::from_micros(half_us + self.env.random.below(half_us))
    }
}

/// The tries of one call.
struct Search<'a> {
    shared: &'a Shared,
    call: Call,
    started: Instant,
    /// Position in the addresses of the next one to ask when no leader is known.
    next: usize,
    /// Since when no replica answered as the leader.
    leaderless_since: Instant,
    busy_since: Option<Instant>,
    /// Tries since the last pause.
    tries: usize,
    pauses: u32,
    /// Whether a try may have been done although its answer was lost.
    may_be_done: bool,
    redirected: bool,
    last: String,
}

impl<'a> Search<'a> {
    fn new(shared: &'a Shared, call: Call) -> Self {
        let now = shared.env.clock.now();
        Self {
            shared,
            call,
            started: now,
            next: 0,
            leaderless_since: now,
            busy_since: None,
            tries: 0,
            pauses: 0,
            may_be_done: false,
            redirected: false,
            last: String::new(),
        }
    }

    fn address(&mut self) -> String {
        if let Some(leader) = self.shared.leader() {
            return leader;
        }
        let address = self.shared.addresses.get(self.next % self.shared.addresses.len().max(1));
        self.next += 1;
        address.cloned().unwrap_or_default()
    }

    fn attempt_timeout(&self) -> Duration {
        self.call.deadline.saturating_sub(self.waited()).min(self.call.attempt_timeout)
    }

    fn waited(&self) -> Duration {
        self.shared.env.clock.now() - self.started
    }

    /// An error if this was the last try.
    fn judge(&mut self, address: &str, verdict: Verdict) -> Result<(), ClientError> {
        let now = self.shared.env.clock.now();
        self.tries = self.tries.saturating_add(1);
        self.redirected = false;
        match verdict {
            Verdict::Final(error) => return Err(error),
            Verdict::Busy(message) => {
                let since = *self.busy_since.get_or_insert(now);
                if now - since >= BUSY_PATIENCE {
                    return Err(ClientError::Busy { message });
                }
                self.last = message;
                self.leaderless_since = now;
                // A full cluster is in no hurry: skip the shortest pauses.
                self.pauses = self.pauses.max(2);
                self.tries = usize::MAX;
                return Ok(());
            }
            Verdict::NotLeader(leader) => {
                self.last = match &leader {
                    Some(leader) => format!("{address} names {leader} as the leader"),
                    None => format!("{address} knows no leader"),
                };
                self.redirected = leader.as_deref().is_some_and(|leader| leader != address);
                self.shared.set_leader(leader.filter(|_| self.redirected));
            }
            Verdict::NotSent(last) => self.lose(address, last),
            Verdict::Unknown(last) => {
                self.may_be_done |= self.call.changes;
                self.lose(address, last);
            }
        }
        let unreached = !self.may_be_done && now - self.leaderless_since >= self.shared.reach_deadline;
        if unreached || self.waited() >= self.call.deadline {
            return Err(self.give_up());
        }
        Ok(())
    }

    fn lose(&mut self, address: &str, last: String) {
        tracing::debug!(address, last, "a call to a scheduler was lost");
        self.last = last;
        self.shared.channels.forget(address);
        if self.shared.leader().as_deref() == Some(address) {
            self.shared.set_leader(None);
        }
    }

    fn give_up(&self) -> ClientError {
        let last = self.last.clone();
        if self.may_be_done {
            return ClientError::Deadline { what: self.call.what, waited: self.waited(), last };
        }
        ClientError::Unreachable { addresses: self.shared.addresses.clone(), last }
    }

    /// At once to a replica that was not asked since the last pause, or that was just named as the leader.
    async fn pause(&mut self) {
        let replicas = self.shared.addresses.len();
        if self.tries < replicas || (self.redirected && self.tries <= replicas) {
            return;
        }
        let pause = self.shared.backoff(self.pauses);
        self.pauses = self.pauses.saturating_add(1);
        self.tries = 0;
        sleep(pause.min(self.call.deadline.saturating_sub(self.waited()))).await;
    }
}

/// What `status`, sent by `address` or made up by the transport, means.
pub(crate) fn verdict(status: &Status, address: &str) -> Verdict {
    if let Some(detail) = polybolos_proto::detail_of(status) {
        let message = status.message().to_owned();
        match detail.reason() {
            Reason::Statement => return Verdict::Final(ClientError::Statement { message }),
            Reason::TooLarge => return Verdict::Final(ClientError::TooLarge { message }),
            Reason::Busy => return Verdict::Busy(message),
            Reason::NotLeader => return Verdict::NotLeader(Some(detail.leader).filter(|l| !l.is_empty())),
            Reason::JobNotFound => {
                return Verdict::Final(about_job(&detail.job_id, |job| ClientError::NotFound { job }));
            }
            Reason::JobEnded => {
                return Verdict::Final(about_job(&detail.job_id, |job| ClientError::Ended { job, message }));
            }
            Reason::Unspecified => {}
        }
    }
    let text = format!("{address}: {}", describe(status));
    match status.code() {
        Code::Unavailable if was_not_sent(status) => Verdict::NotSent(text),
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Aborted => {
            Verdict::Unknown(text)
        }
        // A reset HTTP/2 stream: the peer went away in the middle.
        Code::Internal if status.message().contains("h2 protocol error") => Verdict::Unknown(text),
        Code::OutOfRange => Verdict::Final(ClientError::TooLarge { message: status.message().to_owned() }),
        Code::ResourceExhausted => Verdict::Busy(status.message().to_owned()),
        code => Verdict::Final(ClientError::Protocol {
            what: format!("{address} answered {code:?}: {}", status.message()),
        }),
    }
}

fn about_job(id: &str, error: impl FnOnce(JobId) -> ClientError) -> ClientError {
    match id.parse() {
        Ok(job) => error(job),
        Err(malformed) => ClientError::Protocol { what: malformed.to_string() },
    }
}

fn was_not_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(cause) = source {
        if cause.is::<ConnectError>() {
            return true;
        }
        source = cause.source();
    }
    false
}
