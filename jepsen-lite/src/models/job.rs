//! The life of a job of a query engine: submitted under a key, queued, running, and ended once, in one of three ways.
//!
//! ```text
//!   absent ─submit─▶ queued ─▶ running ─▶ succeeded (with one result) · failed · cancelled (only if somebody asked)
//! ```
//!
//! The engine moves a job forward by itself, at any time. So what a specification can know is the furthest that anybody
//! was told, and each answer may be further on but never further back.

use serde_json::Value;

pub(crate) use super::job_op::{Answer, JobOp, Status, expected};
use super::{Names, Spec};
use crate::{HistoryError, Operation};

/// Ids of texts and numbers; 0 is "not told".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Told {
    job: u32,
    digest: u32,
    rows: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Submit { auto_cancel: bool, told: Told },
    Status { status: Status, told: Told },
    Cancel { left: Option<Status> },
    Query { auto_cancel: bool, end: Status, told: Told },
    Release,
}

/// How far the job is, as far as anybody was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    Absent,
    Queued,
    Running,
    /// In one of the three ways.
    Ended,
    Succeeded,
    Failed,
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    phase: Phase,
    told: Told,
    may_be_cancelled: bool,
    may_be_forgotten: bool,
}

#[derive(Debug)]
pub(crate) struct Job {
    names: Names,
    /// Whether the engine may forget a job that somebody saw ended.
    pub(crate) ended_may_be_forgotten: bool,
}

impl Job {
    pub(crate) fn new(ended_may_be_forgotten: bool) -> Self {
        Self { names: Names::default(), ended_may_be_forgotten }
    }

    fn told(&mut self, job: Option<String>, answer: Answer) -> Told {
        let names = &mut self.names;
        let mut id = |value: Option<Value>| names.id(&value.unwrap_or_default());
        Told {
            job: id(job.map(Value::from)),
            digest: id(answer.digest.map(Value::from)),
            rows: id(answer.rows.map(Value::from)),
        }
    }
}

/// What is known with one answer more; None if it contradicts.
fn merge(known: u32, told: u32) -> Option<u32> {
    match (known, told) {
        (known, 0) => Some(known),
        (0, told) => Some(told),
        (known, told) => (known == told).then_some(known),
    }
}

impl State {
    fn hears(mut self, told: Told) -> Option<Self> {
        self.told.job = merge(self.told.job, told.job)?;
        self.told.digest = merge(self.told.digest, told.digest)?;
        self.told.rows = merge(self.told.rows, told.rows)?;
        Some(self)
    }

    fn submitted(mut self, auto_cancel: bool) -> Self {
        if self.phase == Phase::Absent {
            self.phase = Phase::Queued;
        }
        self.may_be_cancelled |= auto_cancel;
        self
    }

    /// The job was seen like this.
    fn seen(mut self, status: Status, ended_may_be_forgotten: bool) -> Option<Self> {
        let next = match status {
            Status::Unknown => {
                let forgotten =
                    self.may_be_forgotten || (ended_may_be_forgotten && self.phase >= Phase::Ended);
                return (self.phase == Phase::Absent || forgotten).then_some(self);
            }
            Status::Queued => Phase::Queued,
            Status::Running => Phase::Running,
            Status::Succeeded => Phase::Succeeded,
            Status::Failed => Phase::Failed,
            Status::Cancelled if self.may_be_cancelled => Phase::Cancelled,
            Status::Cancelled => return None,
        };
        let forward = self.phase != Phase::Absent && self.phase <= next;
        let other_end = self.phase > Phase::Ended && self.phase != next;
        self.phase = next;
        (forward && !other_end).then_some(self)
    }

    fn cancelled(mut self) -> Option<Self> {
        match self.phase {
            Phase::Absent => return None,
            Phase::Queued | Phase::Running => {
                self.phase = Phase::Ended;
                self.may_be_cancelled = true;
            }
            Phase::Ended => self.may_be_cancelled = true,
            Phase::Succeeded | Phase::Failed | Phase::Cancelled => {}
        }
        Some(self)
    }
}

impl Spec for Job {
    type State = State;
    type Call = Call;

    fn call(&mut self, op: &Operation, answered: bool) -> Result<Option<Call>, HistoryError> {
        Ok(JobOp::parse(op, answered)?.map(|op| match op {
            JobOp::Submit { auto_cancel, job } => {
                Call::Submit { auto_cancel, told: self.told(job, Answer::default()) }
            }
            JobOp::Status { status, job } => Call::Status { status, told: self.told(job, Answer::default()) },
            JobOp::Cancel { left } => Call::Cancel { left },
            JobOp::Fetch { answer, job } => {
                Call::Status { status: Status::Succeeded, told: self.told(job, answer) }
            }
            JobOp::Query { auto_cancel, end, answer, job } => {
                Call::Query { auto_cancel, end, told: self.told(job, answer) }
            }
            JobOp::Release => Call::Release,
        }))
    }

    fn initial(&self) -> State {
        let told = Told::default();
        State { phase: Phase::Absent, told, may_be_cancelled: false, may_be_forgotten: false }
    }

    fn step(&mut self, state: &State, call: &Call) -> Option<State> {
        match *call {
            Call::Submit { auto_cancel, told } => state.submitted(auto_cancel).hears(told),
            Call::Status { status: Status::Unknown, .. } => {
                state.seen(Status::Unknown, self.ended_may_be_forgotten)
            }
            Call::Status { status, told } => state.seen(status, false)?.hears(told),
            Call::Cancel { left: None } => state.cancelled(),
            Call::Cancel { left: Some(status) } if status.is_end() => state.cancelled()?.seen(status, false),
            // It was noted, and the job goes on for now.
            Call::Cancel { left: Some(status) } => {
                State { may_be_cancelled: true, ..*state }.seen(status, self.ended_may_be_forgotten)
            }
            Call::Query { auto_cancel, end, told } => {
                state.submitted(auto_cancel).seen(end, false)?.hears(told)
            }
            // There is nothing to give back of a job that nobody has made.
            Call::Release if state.phase == Phase::Absent => Some(*state),
            Call::Release => Some(State { may_be_forgotten: true, ..*state }),
        }
    }

    fn observes(&self, earlier: &Call, later: &Call) -> bool {
        let sees = match later {
            // Then a job that was seen ended explains it, too.
            Call::Status { status: Status::Unknown, .. } if self.ended_may_be_forgotten => return true,
            Call::Status { status, .. } => Some(*status),
            Call::Cancel { left } => Some(left.unwrap_or(Status::Succeeded)),
            Call::Query { end, .. } => (*end == Status::Cancelled).then_some(*end),
            Call::Release => Some(Status::Queued),
            Call::Submit { .. } => None,
        };
        match earlier {
            Call::Status { .. } => false,
            Call::Submit { .. } | Call::Query { .. } => sees.is_some_and(|status| status != Status::Unknown),
            Call::Cancel { .. } => sees == Some(Status::Cancelled),
            Call::Release => sees == Some(Status::Unknown),
        }
    }

    fn only_looks(&self, call: &Call) -> bool {
        matches!(call, Call::Status { .. })
    }

    fn show(&self, state: &State) -> String {
        let phase = match state.phase {
            Phase::Absent => return "there is no job".to_owned(),
            Phase::Queued => "queued",
            Phase::Running => "running",
            Phase::Ended => "ended",
            Phase::Succeeded => "succeeded",
            Phase::Failed => "failed",
            Phase::Cancelled => "cancelled",
        };
        let job = self.names.value(state.told.job).and_then(Value::as_str);
        let digest = self.names.value(state.told.digest).and_then(Value::as_str);
        let job = job.map_or_else(|| "the job".to_owned(), |job| format!("job {job}"));
        let digest = digest.map(|digest| format!(" with the result {digest}")).unwrap_or_default();
        format!("{job} is {phase}{digest}")
    }
}
