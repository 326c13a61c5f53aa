//! What happened in a run, in order: what oracles judge, traces keep and reports draw.

use std::sync::Arc;

use polybolos_model::{JobId, simulation::Fact};
use serde::Serialize;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// Simulated time since the cluster started.
    pub at_us: u64,
    /// `scheduler-1`, `executor-2`, `client-1`, or `world` for what is nobody's.
    pub host: Arc<str>,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A host's process starts; the first life is 1.
    Up {
        life: u32,
    },
    /// It dies.
    Down {
        power_loss: bool,
    },
    /// The process ended by itself, and would be started again by whoever supervises it.
    Exited {
        reason: String,
    },
    /// The process refuses to run until somebody acts.
    Refused {
        reason: String,
    },
    FaultBegins {
        id: u32,
        name: &'static str,
        target: String,
    },
    FaultEnds {
        id: u32,
        name: &'static str,
        target: String,
    },
    /// It could not act, and why.
    FaultSkipped {
        id: u32,
        name: &'static str,
        reason: String,
    },
    /// A failpoint did something, at its so many-th time.
    Failpoint {
        point: &'static str,
        hit: u64,
        then: String,
    },
    /// See `sometimes!`.
    Mark(&'static str),
    Fact(Fact),
    Client(ClientEvent),
    /// `healed`, `at rest`.
    Phase(&'static str),
    /// A line that the real code logged.
    Log {
        level: &'static str,
        target: String,
        text: String,
    },
    /// A connection was made, refused or closed, or bytes were handed to it.
    Net {
        peer: String,
        kind: NetKind,
        bytes: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetKind {
    Connected,
    Refused,
    Sent,
    Closed,
}

/// What a client did or saw. Every op begins with `Invoked`, and ends with one of `Answered`, `Done`, `Failed`,
/// `Abandoned` unless the client dies before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum ClientEvent {
    Invoked {
        op: u32,
        what: String,
    },
    /// The submit was acknowledged.
    Accepted {
        op: u32,
        #[serde(serialize_with = "text")]
        job: JobId,
        key: Option<String>,
    },
    /// What a status read said of a job.
    Status {
        op: u32,
        #[serde(serialize_with = "text")]
        job: JobId,
        status: String,
        is_terminal: bool,
    },
    /// All rows came, and whether they are the ones that DataFusion gives in one process.
    Answered {
        op: u32,
        #[serde(serialize_with = "text")]
        job: JobId,
        rows: usize,
        mismatch: Option<String>,
    },
    /// A statement without a job, a status read or a cancel is through.
    Done {
        op: u32,
    },
    /// The op ended with an error.
    Failed {
        op: u32,
        error: String,
        outcome: Outcome,
    },
    /// The client stopped reading on purpose.
    Abandoned {
        op: u32,
        #[serde(serialize_with = "text")]
        job: JobId,
    },
}

/// What an error says of whether the op had its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The cluster says that the job was cancelled, which this client or a sharer of its key asked for.
    Cancelled,
    /// The cluster said that it failed.
    Failed,
    /// Nobody knows: a time-out.
    Unknown,
}

fn text<S: serde::Serializer>(job: &JobId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(job)
}
