//! What the page draws: intervals and events, as plain rows.
//!
//! A row is written as an array, since there are many; the names of its columns are written once, for the page's code.

use serde::{Serialize, Serializer, ser::SerializeSeq};

/// A struct that is written as an array.
macro_rules! row {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(super) struct $name { $(pub(super) $field: $type),* }

        impl $name {
            const COLUMNS: &[&str] = &[$(stringify!($field)),*];
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut row = serializer.serialize_seq(Some(Self::COLUMNS.len()))?;
                $(row.serialize_element(&self.$field)?;)*
                row.end()
            }
        }
    };
}

/// Index of a host in [`Chart::hosts`]; -1 for the world.
pub(super) type HostIndex = i32;

row!(Host { name: String, role: &'static str, });
row!(
    /// One process of a host. `end` is a [`LifeEnd`], `why` what the process said.
    Life { host: HostIndex, life: u32, from: u64, to: u64, end: u8, why: String, }
);
row!(
    /// A scheduler that was elected, until it died or a higher term had a leader.
    Reign { host: HostIndex, term: u64, from: u64, to: u64, last_term: u64, last_index: u64, until: String, }
);
row!(Fault { id: u32, name: String, target: String, from: u64, to: u64, hosts: Vec<HostIndex>, open: bool, });
row!(Phase { name: &'static str, from: u64, to: u64, });
row!(
    /// `end` is an [`AttemptEnd`]; `job` an index in [`Chart::jobs`]; `launched` is -1 if no scheduler said so.
    Attempt {
        host: HostIndex, from: u64, to: u64, end: u8, job: i32, stage: u32, partition: u32, attempt: String, launched: i64,
    }
);
row!(
    /// `end` is a [`JobEnd`]; `what` the client's words.
    Job { id: String, from: u64, to: u64, end: u8, what: String, why: String, }
);
row!(Stage { job: i32, stage: u32, from: u64, to: u64, attempts: u32, completed: u32, failed: u32 });
row!(
    /// `end` is an [`OpEnd`]; `accepted` is -1 if it never was; `job` an index or -1.
    Op { host: HostIndex, op: u32, what: String, from: u64, accepted: i64, to: u64, end: u8, text: String, job: i32, }
);
row!(
    /// `since` is the time after the event before; `kind` an index in [`KINDS`]; `text` one in [`Chart::texts`].
    Event { since: u64, host: HostIndex, kind: usize, grade: u8, text: usize, }
);

/// How a life ended, as [`Life::end`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum LifeEnd {
    Open = 0,
    Crashed = 1,
    PowerLost = 2,
    Exited = 3,
    RefusedToRun = 4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum AttemptEnd {
    Open = 0,
    Completed = 1,
    Failed = 2,
    Stopped = 3,
    LostWithHost = 4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum JobEnd {
    Open = 0,
    Succeeded = 1,
    Failed = 2,
    Cancelled = 3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum OpEnd {
    Open = 0,
    Answered = 1,
    Failed = 2,
    Unknown = 3,
    Cancelled = 4,
    Abandoned = 5,
    WrongAnswer = 6,
    LostWithClient = 7,
}

/// Kinds of events, by which the page filters.
pub(super) const KINDS: &[&str] = &[
    "life",
    "fault",
    "election",
    "log entry",
    "task",
    "job",
    "client",
    "failpoint",
    "mark",
    "phase",
    "log",
    "violation",
];

/// Messages, as columns; `at` holds differences, `kind` is 0 connected, 1 refused, 2 sent, 3 closed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Net {
    pub(super) at: Vec<u64>,
    pub(super) from: Vec<HostIndex>,
    pub(super) to: Vec<HostIndex>,
    pub(super) kind: Vec<u8>,
    pub(super) bytes: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Violation {
    pub(super) oracle: String,
    pub(super) what: String,
    pub(super) at_us: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Meta {
    /// As text: JavaScript's numbers end at 53 bits.
    pub(super) seed: String,
    pub(super) scenario: String,
    pub(super) build: String,
    pub(super) mutant: Option<String>,
    /// Arguments of the command that runs it again.
    pub(super) replay: String,
    /// The schedule's TOML, with which anybody can replay the run.
    pub(super) schedule: String,
    pub(super) lines: usize,
    pub(super) end_us: u64,
}

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Chart {
    pub(super) meta: Meta,
    pub(super) columns: Columns,
    pub(super) kinds: Vec<&'static str>,
    pub(super) violation: Option<Violation>,
    pub(super) hosts: Vec<Host>,
    pub(super) lives: Vec<Life>,
    pub(super) reigns: Vec<Reign>,
    pub(super) faults: Vec<Fault>,
    pub(super) phases: Vec<Phase>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) jobs: Vec<Job>,
    pub(super) stages: Vec<Stage>,
    pub(super) ops: Vec<Op>,
    pub(super) net: Net,
    pub(super) events: Vec<Event>,
    pub(super) texts: Vec<String>,
}

/// Names of the columns, for the page's code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Columns {
    hosts: &'static [&'static str],
    lives: &'static [&'static str],
    reigns: &'static [&'static str],
    faults: &'static [&'static str],
    phases: &'static [&'static str],
    attempts: &'static [&'static str],
    jobs: &'static [&'static str],
    stages: &'static [&'static str],
    ops: &'static [&'static str],
    events: &'static [&'static str],
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            hosts: Host::COLUMNS,
            lives: Life::COLUMNS,
            reigns: Reign::COLUMNS,
            faults: Fault::COLUMNS,
            phases: Phase::COLUMNS,
            attempts: Attempt::COLUMNS,
            jobs: Job::COLUMNS,
            stages: Stage::COLUMNS,
            ops: Op::COLUMNS,
            events: Event::COLUMNS,
        }
    }
}
