//! A lock that one holds at a time. Who releases it is not looked at.

use super::{Model, Spec};
use crate::{HistoryError, Operation};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Acquire,
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Free,
    Held,
    Any,
}

#[derive(Debug, Default)]
pub(crate) struct Mutex;

impl Spec for Mutex {
    type State = State;
    type Call = Call;

    fn call(&mut self, op: &Operation, _answered: bool) -> Result<Option<Call>, HistoryError> {
        match op.f.as_str() {
            "acquire" => Ok(Some(Call::Acquire)),
            "release" => Ok(Some(Call::Release)),
            _ => Err(Model::Mutex.unknown_function(op)),
        }
    }

    fn initial(&self) -> State {
        State::Free
    }

    fn anything(&self) -> Option<State> {
        Some(State::Any)
    }

    fn step(&mut self, state: &State, call: &Call) -> Option<State> {
        match (call, state) {
            (Call::Acquire, State::Free | State::Any) => Some(State::Held),
            (Call::Release, State::Held | State::Any) => Some(State::Free),
            (Call::Acquire, State::Held) | (Call::Release, State::Free) => None,
        }
    }

    fn observes(&self, _earlier: &Call, _later: &Call) -> bool {
        true
    }

    fn only_looks(&self, _call: &Call) -> bool {
        false
    }

    fn show(&self, state: &State) -> String {
        match state {
            State::Free => "the lock is free",
            State::Held => "the lock is held",
            State::Any => "the lock may be free or held",
        }
        .to_owned()
    }
}
