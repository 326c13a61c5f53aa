//! One call to whoever leads: an attempt, and what its answer means.
//!
//! ```text
//!   Shared::call ──▶ Search (whom to ask, when) ──▶ attempt ∥ superseded ──▶ verdict ──▶ Search
//! ```

use std::{error::Error, future::Future, time::Duration};

use polybolos_env::Env;
use polybolos_model::{JobId, limits::MAX_MESSAGE_BYTES};
use polybolos_proto::v1::{error_detail::Reason, query_service_client::QueryServiceClient};
use tokio::time::timeout;
use tonic::{Code, ConnectError, Response, Status, transport::Channel};

use crate::{
    ClientError,
    background::Background,
    channels::{Channels, describe},
    leader::Leader,
    limits::{
        BACKOFF_MAX, BACKOFF_MIN, CALL_ATTEMPT_TIMEOUT, CALL_DEADLINE, REPLICAS_ATTEMPT_TIMEOUT,
        REPLICAS_DEADLINE, SUBMIT_ATTEMPT_TIMEOUT, SUBMIT_DEADLINE, TRANSFER_DEADLINE, WATCH_PATIENCE,
    },
    search::Search,
    submit::Turns,
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
    pub(crate) leader: Leader,
    pub(crate) turns: Turns,
}

/// How long a call may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// For error texts.
    pub(crate) what: &'static str,
    pub(crate) deadline: Duration,
    pub(crate) attempt_timeout: Duration,
    /// Whether it matters to know that a lost call may have been done.
    pub(crate) changes: bool,
    /// A try before these may have been done.
    pub(crate) may_be_done: bool,
}

impl Call {
    const fn new(what: &'static str, deadline: Duration, attempt_timeout: Duration, changes: bool) -> Self {
        Self { what, deadline, attempt_timeout, changes, may_be_done: false }
    }

    pub(crate) const fn read(what: &'static str) -> Self {
        Self::new(what, CALL_DEADLINE, CALL_ATTEMPT_TIMEOUT, false)
    }

    pub(crate) const fn change(what: &'static str) -> Self {
        Self::new(what, CALL_DEADLINE, CALL_ATTEMPT_TIMEOUT, true)
    }

    /// The files of tables are looked at.
    pub(crate) const fn export() -> Self {
        Self::new("the export of a query", SUBMIT_DEADLINE, SUBMIT_ATTEMPT_TIMEOUT, false)
    }

    pub(crate) const fn submit(deadline: Duration) -> Self {
        Self::new("the submit", deadline, SUBMIT_ATTEMPT_TIMEOUT, true)
    }

    /// Opening a watch.
    pub(crate) const fn watch() -> Self {
        Self::new("watching the query", WATCH_PATIENCE, CALL_ATTEMPT_TIMEOUT, false)
    }

    /// A change of the set of replicas.
    pub(crate) const fn replicas(what: &'static str) -> Self {
        Self::new(what, REPLICAS_DEADLINE, REPLICAS_ATTEMPT_TIMEOUT, true)
    }

    /// The whole state goes over the wire.
    pub(crate) const fn transfer(what: &'static str, changes: bool) -> Self {
        Self::new(what, TRANSFER_DEADLINE, TRANSFER_DEADLINE, changes)
    }
}

/// What the answer to one try means for the next.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The scheduler has decided: trying again can't help.
    Final(ClientError),
    /// Ask the named replica, or any other.
    NotLeader(Option<String>),
    Busy(String),
    /// No majority of the replicas can be reached, in the replica's words.
    NoQuorum(String),
    /// The request didn't leave this host.
    NotSent(String),
    /// No answer; it may have been done.
    Unknown(String),
    /// No answer, and the named replica leads now; it may have been done.
    Superseded(String),
}

impl Shared {
    pub(crate) fn new(addresses: Vec<String>, env: Env, reach_deadline: Duration) -> Self {
        Self {
            channels: Channels::new(env.clone()),
            env,
            addresses,
            background: Background::new(),
            reach_deadline,
            leader: Leader::default(),
            turns: Turns::default(),
        }
    }

    /// Repeats `send` until a leader has answered or the deadline has passed. `send` must be safe to repeat.
    pub(crate) async fn call<R, F, S>(&self, call: Call, send: S) -> Result<R, ClientError>
    where
        S: Fn(Query) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.call_at(call, |channel| send(query(channel))).await.map(|(answer, _)| answer)
    }

    /// Like [`Shared::call`], for any service; tells also who answered.
    pub(crate) async fn call_at<R, F, S>(&self, call: Call, send: S) -> Result<(R, String), ClientError>
    where
        S: Fn(Channel) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut search = Search::new(self, call);
        loop {
            let address = search.address();
            let limit = search.attempt_timeout();
            let verdict = tokio::select! {
                biased;
                answer = self.attempt(&address, limit, &send) => match answer {
                    Ok(_) if call.changes && polybolos_model::buggify!("client.answer_lost") => {
                        Verdict::Unknown(format!("the answer of {address} was lost"))
                    }
                    Ok(answer) => {
                        self.leader.confirm(&address);
                        return Ok((answer, address));
                    }
                    Err(verdict) => verdict,
                },
                leader = self.superseded(&address) => {
                    polybolos_model::sometimes!("a client left a leader that was silent");
                    Verdict::Superseded(leader)
                }
            };
            search.judge(&address, verdict)?;
            search.pause().await;
        }
    }

    /// One try at one replica.
    pub(crate) async fn attempt<R, F>(
        &self,
        address: &str,
        limit: Duration,
        send: &impl Fn(Channel) -> F,
    ) -> Result<R, Verdict>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let answer = async {
            let channel = match self.channels.get(address).await {
                Ok(channel) => channel,
                Err(error) => return Err(Verdict::NotSent(format!("{address}: {error}"))),
            };
            match send(channel).await {
                Ok(response) => Ok(response.into_inner()),
                Err(status) => Err(verdict(&status, address)),
            }
        };
        match timeout(limit, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Verdict::Unknown(format!("{address} was silent for {} s", limit.as_secs_f32()))),
        }
    }

    /// The pause before try `step` (from 0), drawn so that clients don't come back all at once.
    pub(crate) fn backoff(&self, step: u32) -> Duration {
        self.backoff_within(step, BACKOFF_MAX)
    }

    /// The same, at most `longest`.
    pub(crate) fn backoff_within(&self, step: u32, longest: Duration) -> Duration {
        let step = BACKOFF_MIN.saturating_mul(1 << step.min(10)).min(longest);
        let half_us = u64::try_from(step.as_micros() / 2).unwrap_or(u64::MAX);
        Duration::from_micros(half_us + self.env.random.below(half_us))
    }
}

/// The service of queries at the other end of `channel`.
pub(crate) fn query(channel: Channel) -> Query {
    QueryServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// What `status`, sent by `address` or made up by the transport, means.
pub(crate) fn verdict(status: &Status, address: &str) -> Verdict {
    if let Some(detail) = polybolos_proto::detail_of(status) {
        let message = status.message().to_owned();
        match detail.reason() {
            Reason::Statement => return Verdict::Final(ClientError::Statement { message }),
            Reason::TooLarge => return Verdict::Final(ClientError::TooLarge { message }),
            Reason::Busy => return Verdict::Busy(message),
            Reason::NoQuorum => return Verdict::NoQuorum(message),
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
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded => {
            Verdict::Unknown(text)
        }
        // A reset HTTP/2 stream: the peer went away in the middle.
        Code::Internal if status.message().contains("h2 protocol error") => Verdict::Unknown(text),
        Code::OutOfRange => Verdict::Final(ClientError::TooLarge { message: status.message().to_owned() }),
        // Something else is under way, or leadership has not moved (yet): either call is safe to repeat.
        Code::ResourceExhausted | Code::Aborted => Verdict::Busy(status.message().to_owned()),
        Code::FailedPrecondition | Code::NotFound | Code::AlreadyExists => {
            Verdict::Final(ClientError::Refused { message: status.message().to_owned() })
        }
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
