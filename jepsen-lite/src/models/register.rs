//! One value that is read, written, compared and swapped, or appended to.

use serde_json::Value;

use super::{Model, Names, Spec, Tokens, bad_input, bad_output};
use crate::{HistoryError, Operation, show::words};

/// An operation on a register, with its answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RegisterOp {
    Read(Value),
    Write(Value),
    /// It was `old` and is `new`.
    Swap(Value, Value),
    /// It was compared with this and was something else.
    Differs(Value),
    Append(String),
}

impl RegisterOp {
    pub(crate) fn parse(op: &Operation, answered: bool) -> Result<Option<Self>, HistoryError> {
        let parsed = match op.f.as_str() {
            "read" if !answered => return Ok(None),
            "read" => Self::Read(op.output.clone()),
            "write" => Self::Write(op.input.clone()),
            "append" => Self::Append(
                op.input.as_str().ok_or_else(|| bad_input(op, "the text to append, a string"))?.to_owned(),
            ),
            "cas" => Self::swap(op, answered)?,
            _ => return Err(Model::Register.unknown_function(op)),
        };
        Ok(Some(parsed))
    }

    fn swap(op: &Operation, answered: bool) -> Result<Self, HistoryError> {
        let [old, new] = op.input.as_array().map(Vec::as_slice).unwrap_or_default() else {
            return Err(bad_input(op, "the old and the new value, an array of two"));
        };
        let swapped = match op.output.as_array().map(Vec::as_slice) {
            _ if !answered => true,
            None if op.output.is_null() => true,
            Some([_, _]) => true,
            Some([_, _, Value::Bool(swapped)]) => *swapped,
            _ => {
                return Err(bad_output(
                    op,
                    "null if it was swapped, or [OLD, NEW, false] if it was different",
                ));
            }
        };
        Ok(if swapped { Self::Swap(old.clone(), new.clone()) } else { Self::Differs(old.clone()) })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Read(u32),
    Write(u32),
    Swap(u32, u32),
    Differs(u32),
    Append(u32),
}

/// Any value at all.
const ANY: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(crate) struct Register {
    names: Names,
    /// Whether values come about that no operation names.
    appends: bool,
}

impl Register {
    /// The value as a text that may grow; None if it is none.
    fn text(&self, value: u32) -> Option<&str> {
        match self.names.value(value)? {
            Value::Null => Some(""),
            Value::String(text) => Some(text),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Whether `value` can become `wanted` by nothing but appending.
    fn may_grow(&self, value: u32, wanted: u32) -> bool {
        self.text(value).zip(self.text(wanted)).is_some_and(|(value, wanted)| wanted.starts_with(value))
    }

    /// None if what is there is no text.
    fn append(&mut self, state: u32, text: u32) -> Option<u32> {
        let joined = format!("{}{}", self.text(state)?, self.text(text)?);
        Some(self.names.id(&Value::String(joined)))
    }
}

impl Spec for Register {
    type State = u32;
    type Call = Call;

    fn call(&mut self, op: &Operation, answered: bool) -> Result<Option<Call>, HistoryError> {
        Ok(RegisterOp::parse(op, answered)?.map(|op| match op {
            RegisterOp::Read(value) => Call::Read(self.names.id(&value)),
            RegisterOp::Write(value) => Call::Write(self.names.id(&value)),
            RegisterOp::Swap(old, new) => Call::Swap(self.names.id(&old), self.names.id(&new)),
            RegisterOp::Differs(old) => Call::Differs(self.names.id(&old)),
            RegisterOp::Append(text) => {
                self.appends = true;
                Call::Append(self.names.id(&Value::String(text)))
            }
        }))
    }

    fn initial(&self) -> u32 {
        0
    }

    fn anything(&self) -> Option<u32> {
        Some(ANY)
    }

    fn step(&mut self, state: &u32, call: &Call) -> Option<u32> {
        let is = |value: u32| *state == value || *state == ANY;
        match *call {
            Call::Read(value) => is(value).then_some(value),
            Call::Write(value) => Some(value),
            Call::Swap(old, new) => is(old).then_some(new),
            Call::Differs(old) => (*state != old).then_some(*state),
            Call::Append(_) if *state == ANY => Some(ANY),
            Call::Append(text) => self.append(*state, text),
        }
    }

    fn is_late<'a>(&self, state: &u32, call: &Call, mut pending: impl Iterator<Item = &'a Call>) -> bool {
        let (Call::Read(wanted) | Call::Swap(wanted, _)) = *call else { return false };
        if *state == wanted || *state == ANY {
            return false;
        }
        !pending.any(|other| match *other {
            Call::Write(value) | Call::Swap(_, value) => {
                value == wanted || (self.appends && self.may_grow(value, wanted))
            }
            // Only what comes next in the wanted text, if that is what it goes on with.
            Call::Append(text) => {
                let rest =
                    self.text(*state).zip(self.text(wanted)).and_then(|(now, all)| all.strip_prefix(now));
                rest.zip(self.text(text)).is_some_and(|(rest, text)| rest.starts_with(text))
            }
            Call::Read(_) | Call::Differs(_) => false,
        })
    }

    fn token(&self, state: &u32) -> Option<u32> {
        (*state != ANY && !self.appends).then_some(*state)
    }

    fn tokens(&self, call: &Call) -> Tokens {
        match *call {
            _ if self.appends => Tokens::default(),
            Call::Read(value) => Tokens { gives: None, needs: Some(value) },
            Call::Write(value) => Tokens { gives: Some(value), needs: None },
            Call::Swap(old, new) => Tokens { gives: Some(new), needs: Some(old) },
            Call::Differs(_) | Call::Append(_) => Tokens::default(),
        }
    }

    fn observes(&self, earlier: &Call, later: &Call) -> bool {
        let leaves = match *earlier {
            Call::Read(_) | Call::Differs(_) => return false,
            Call::Write(value) | Call::Swap(_, value) => value,
            Call::Append(text) => {
                return match *later {
                    Call::Read(seen) | Call::Swap(seen, _) => {
                        let text = self.text(text).unwrap_or_default();
                        self.text(seen).is_some_and(|seen| seen.contains(text))
                    }
                    Call::Write(_) => false,
                    Call::Differs(_) | Call::Append(_) => true,
                };
            }
        };
        match *later {
            Call::Read(value) | Call::Swap(value, _) => value == leaves,
            Call::Write(_) => false,
            Call::Differs(_) | Call::Append(_) => true,
        }
    }

    fn only_looks(&self, call: &Call) -> bool {
        matches!(call, Call::Read(_) | Call::Differs(_))
    }

    fn show(&self, state: &u32) -> String {
        match self.names.value(*state) {
            Some(value) => format!("the value is {}", words::value(value)),
            None => "the value may be any".to_owned(),
        }
    }

    fn held_bytes(&self) -> usize {
        self.names.bytes()
    }
}
