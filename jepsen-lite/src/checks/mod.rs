//! The promises, one a file. Each is judged over all operations of a model at once.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::Serialize;

use crate::{HistoryError, Model, Operation, Options, Outcome};

mod answers;
mod completion;
mod durable;
mod linearizable;
mod own_writes;
mod reads;
mod registers;
mod rows;
mod status;
mod submit;

/// A promise that a history is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Some order of the operations, each at one moment between its invoke and its end, explains all answers.
    Linearizable,
    /// A job never ends twice differently: one final status, one result.
    ExactlyOnceCompletion,
    /// One key makes one job.
    IdempotentSubmit,
    /// A job that was acknowledged is never unknown later.
    DurableAcknowledgement,
    /// A job's status never moves back, whoever asks.
    MonotonicStatus,
    /// What a process reads never moves back.
    MonotonicReads,
    /// A process sees its own writes.
    ReadYourWrites,
    /// Each result is the one that the oracle gave.
    Answers,
    /// The rows of an acknowledged statement are there exactly once, of an indeterminate one at most once, and no others.
    RowsOnce,
}

impl Check {
    pub const ALL: [Self; 9] = [
        Self::Linearizable,
        Self::ExactlyOnceCompletion,
        Self::IdempotentSubmit,
        Self::DurableAcknowledgement,
        Self::MonotonicStatus,
        Self::MonotonicReads,
        Self::ReadYourWrites,
        Self::Answers,
        Self::RowsOnce,
    ];

    /// The checks that a model has.
    pub fn of(model: Model) -> &'static [Self] {
        match model {
            Model::Register | Model::Set => &[Self::Linearizable, Self::MonotonicReads, Self::ReadYourWrites],
            Model::Mutex => &[Self::Linearizable],
            Model::Job => &[
                Self::Linearizable,
                Self::ExactlyOnceCompletion,
                Self::IdempotentSubmit,
                Self::DurableAcknowledgement,
                Self::MonotonicStatus,
                Self::ReadYourWrites,
                Self::Answers,
            ],
            Model::Rows => &[Self::RowsOnce],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::ExactlyOnceCompletion => "exactly-once-completion",
            Self::IdempotentSubmit => "idempotent-submit",
            Self::DurableAcknowledgement => "durable-acknowledgement",
            Self::MonotonicStatus => "monotonic-status",
            Self::MonotonicReads => "monotonic-reads",
            Self::ReadYourWrites => "read-your-writes",
            Self::Answers => "answers",
            Self::RowsOnce => "rows-once",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no check `{0}`; there are {names}", names = Check::ALL.map(Check::name).join(", "))]
pub struct NoSuchCheck(String);

impl FromStr for Check {
    type Err = NoSuchCheck;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|check| check.name() == name).ok_or_else(|| NoSuchCheck(name.to_owned()))
    }
}

/// What is judged.
pub(crate) struct Case<'a> {
    pub(crate) keys: &'a BTreeMap<&'a str, Vec<&'a Operation>>,
    pub(crate) options: &'a Options,
}

/// A check that the model does not have looks at nothing and finds nothing.
pub(crate) fn run(check: Check, case: &Case<'_>) -> Result<Outcome, HistoryError> {
    let mut outcome = Outcome::new(check);
    if !Check::of(case.options.model).contains(&check) {
        outcome.unknown(format!("the model {} has no such check", case.options.model));
        return Ok(outcome);
    }
    match check {
        Check::Linearizable => linearizable::check(case, &mut outcome)?,
        Check::ExactlyOnceCompletion => completion::check(case, &mut outcome)?,
        Check::IdempotentSubmit => submit::check(case, &mut outcome)?,
        Check::DurableAcknowledgement => durable::check(case, &mut outcome)?,
        Check::MonotonicStatus => status::check(case, &mut outcome)?,
        Check::MonotonicReads => reads::check(case, &mut outcome)?,
        Check::ReadYourWrites => own_writes::check(case, &mut outcome)?,
        Check::Answers => answers::check(case, &mut outcome)?,
        Check::RowsOnce => rows::check(case, &mut outcome)?,
    }
    Ok(outcome)
}
