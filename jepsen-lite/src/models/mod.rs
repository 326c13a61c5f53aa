//! The objects that histories are about, as sequential specifications.

use std::{collections::HashMap, fmt, hash::Hash, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{HistoryError, Kind, Operation};

pub(crate) mod job;
mod job_op;
pub(crate) mod mutex;
pub(crate) mod register;
pub(crate) mod rows;
pub(crate) mod set;

/// What kind of object the keys of a history name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// One value: `read`, `write`, `cas`, `append`.
    Register,
    /// Elements that are never taken out: `add`, `contains`, `read`.
    Set,
    /// A lock: `acquire`, `release`.
    Mutex,
    /// A job of a query engine, by its idempotency key: `submit`, `status`, `cancel`, `fetch`, `query`, `release`.
    Job,
    /// A table that statements write to: `insert`, `scan`.
    Rows,
}

impl Model {
    pub const ALL: [Self; 5] = [Self::Register, Self::Set, Self::Mutex, Self::Job, Self::Rows];

    /// What `f` may be.
    pub fn functions(self) -> &'static [&'static str] {
        match self {
            Self::Register => &["read", "write", "cas", "append"],
            Self::Set => &["add", "contains", "read"],
            Self::Mutex => &["acquire", "release"],
            Self::Job => &["submit", "status", "cancel", "fetch", "query", "release"],
            Self::Rows => &["insert", "scan"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Set => "set",
            Self::Mutex => "mutex",
            Self::Job => "job",
            Self::Rows => "rows",
        }
    }

    pub(crate) fn unknown_function(self, op: &Operation) -> HistoryError {
        HistoryError::UnknownFunction { line: op.line, model: self, f: op.f.clone() }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no model `{0}`; there are register, set, mutex, job and rows")]
pub struct NoSuchModel(String);

impl FromStr for Model {
    type Err = NoSuchModel;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|model| model.name() == name).ok_or_else(|| NoSuchModel(name.to_owned()))
    }
}

/// An object that does one operation after the other.
pub(crate) trait Spec {
    type State: Clone + Eq + Hash;
    /// An operation with its answer, or without one when nobody heard it.
    type Call: Clone + Eq + Hash;
    /// Whether the object only grows: each operation whose effect `observes` tells to be seen must have come before, and
    /// those which nobody heard of may come in any order.
    const ONLY_GROWS: bool = false;

    /// None if the operation can't matter: a read that nobody heard the answer of. `answered` is false for an operation
    /// whose answer must not be used.
    fn call(&mut self, op: &Operation, answered: bool) -> Result<Option<Self::Call>, HistoryError>;

    fn initial(&self) -> Self::State;

    /// A state that allows whatever any state allows, if there is one.
    fn anything(&self) -> Option<Self::State> {
        None
    }

    /// None if the operation can't have had this answer in this state.
    fn step(&mut self, state: &Self::State, call: &Self::Call) -> Option<Self::State>;

    /// Whether the call can't be answered like that any more, whatever happens first.
    fn is_spoiled(&self, _state: &Self::State, _call: &Self::Call) -> bool {
        false
    }

    /// Whether the call can't be answered like that, as only `pending` can happen before it.
    fn is_late<'a>(
        &self,
        _state: &Self::State,
        _call: &Self::Call,
        _pending: impl Iterator<Item = &'a Self::Call>,
    ) -> bool
    where
        Self: 'a,
    {
        false
    }

    /// What can only be seen in one state: the token of that state.
    fn token(&self, _state: &Self::State) -> Option<u32> {
        None
    }

    /// Tokens of the state that the call leaves, whatever was before, and of the state that it needs.
    fn tokens(&self, _call: &Self::Call) -> Tokens {
        Tokens::default()
    }

    /// Whether `later` may need `earlier`. Where it does not, and comes after it, the answers stay possible when `earlier`
    /// is left out or comes after `later`.
    fn observes(&self, earlier: &Self::Call, later: &Self::Call) -> bool;

    /// Parts of the object, such as elements of a set, that may be to blame when `call` can't be answered in `state`.
    fn suspects(&self, _state: &Self::State, _call: &Self::Call) -> Vec<u32> {
        Vec::new()
    }

    /// What the call says of one part alone: if all calls are possible, so are these. None if it says nothing.
    fn part(&self, call: &Self::Call, _part: u32) -> Option<Self::Call> {
        Some(call.clone())
    }

    /// Whether the call only looks: no other can ever need it, wherever it stands.
    fn only_looks(&self, call: &Self::Call) -> bool;

    fn show(&self, state: &Self::State) -> String;

    /// What the specification itself keeps, beside the states.
    fn held_bytes(&self) -> usize {
        0
    }
}

/// See [`Spec::tokens`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) gives: Option<u32>,
    pub(crate) needs: Option<u32>,
}

/// Values as small numbers. `null` is 0.
#[derive(Debug)]
pub(crate) struct Names {
    ids: HashMap<String, u32>,
    values: Vec<Value>,
    bytes: usize,
}

impl Default for Names {
    fn default() -> Self {
        let mut names = Self { ids: HashMap::new(), values: Vec::new(), bytes: 0 };
        names.id(&Value::Null);
        names
    }
}

impl Names {
    pub(crate) fn id(&mut self, value: &Value) -> u32 {
        let text = canonical(value);
        if let Some(id) = self.ids.get(&text) {
            return *id;
        }
        let id = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.bytes += 2 * text.len() + 64;
        self.values.push(value.clone());
        self.ids.insert(text, id);
        id
    }

    pub(crate) fn value(&self, id: u32) -> Option<&Value> {
        self.values.get(id as usize)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Equal texts for equal values, whatever the order of an object's fields.
pub(crate) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name:?}:{}", canonical(value))).collect();
            fields.sort_unstable();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// The input is not as it must be.
pub(crate) fn bad_input(op: &Operation, expected: &'static str) -> HistoryError {
    bad(op.line, Kind::Invoke, op, &op.input, expected)
}

/// The answer is not as it must be.
pub(crate) fn bad_output(op: &Operation, expected: &'static str) -> HistoryError {
    bad(op.end_line, Kind::Ok, op, &op.output, expected)
}

fn bad(line: usize, kind: Kind, op: &Operation, found: &Value, expected: &'static str) -> HistoryError {
    let mut found = found.to_string();
    if let Some((cut, _)) = found.char_indices().nth(80) {
        found.truncate(cut);
        found.push('…');
    }
    HistoryError::Shape { line, kind, f: op.f.clone(), found, expected }
}
