//! Elements that are added and never taken out.

use serde_json::Value;

use super::{Model, Names, Spec, bad_input, bad_output};
use crate::{HistoryError, Operation, show::words};

/// An operation on a set, with its answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SetOp {
    Add(Value),
    Contains(Value, bool),
    Read(Vec<Value>),
}

impl SetOp {
    pub(crate) fn parse(op: &Operation, answered: bool) -> Result<Option<Self>, HistoryError> {
        let parsed = match op.f.as_str() {
            "add" => Self::Add(op.input.clone()),
            "contains" | "read" if !answered => return Ok(None),
            "contains" => match op.output.as_array().map(Vec::as_slice) {
                Some([element, Value::Bool(there)]) => Self::Contains(element.clone(), *there),
                _ => return Err(bad_output(op, "[ELEMENT, true] or [ELEMENT, false]")),
            },
            "read" => match op.output.as_array() {
                Some(elements) => Self::Read(elements.clone()),
                None => return Err(bad_output(op, "an array of the elements")),
            },
            _ => return Err(Model::Set.unknown_function(op)),
        };
        match &parsed {
            Self::Contains(element, _) if !op.input.is_null() && *element != op.input => {
                Err(bad_input(op, "the element of the answer"))
            }
            Self::Add(_) | Self::Contains(..) | Self::Read(_) => Ok(Some(parsed)),
        }
    }
}

/// Elements by their number, a bit each; the last word is never 0.
type Bits = Vec<u64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Add(u32),
    Contains(u32, bool),
    Read(Bits),
    /// A read that lists an element twice: no set does that.
    Doubled,
}

#[derive(Debug, Default)]
pub(crate) struct Set {
    names: Names,
}

fn has(bits: &Bits, element: u32) -> bool {
    bits.get(element as usize / 64).is_some_and(|word| word >> (element % 64) & 1 == 1)
}

fn put(bits: &mut Bits, element: u32) {
    let index = element as usize / 64;
    if bits.len() <= index {
        bits.resize(index + 1, 0);
    }
    if let Some(word) = bits.get_mut(index) {
        *word |= 1 << (element % 64);
    }
}

fn elements(bits: &Bits) -> impl Iterator<Item = u32> {
    (0..u32::try_from(bits.len() * 64).unwrap_or(u32::MAX)).filter(|element| has(bits, *element))
}

impl Spec for Set {
    type State = Bits;
    type Call = Call;
    const ONLY_GROWS: bool = true;

    fn call(&mut self, op: &Operation, answered: bool) -> Result<Option<Call>, HistoryError> {
        Ok(SetOp::parse(op, answered)?.map(|op| match op {
            SetOp::Add(element) => Call::Add(self.names.id(&element)),
            SetOp::Contains(element, there) => Call::Contains(self.names.id(&element), there),
            SetOp::Read(elements) => {
                let mut bits = Bits::new();
                for element in &elements {
                    let element = self.names.id(element);
                    if has(&bits, element) {
                        return Call::Doubled;
                    }
                    put(&mut bits, element);
                }
                Call::Read(bits)
            }
        }))
    }

    fn initial(&self) -> Bits {
        Bits::new()
    }

    fn step(&mut self, state: &Bits, call: &Call) -> Option<Bits> {
        match call {
            Call::Add(element) => {
                let mut state = state.clone();
                put(&mut state, *element);
                Some(state)
            }
            Call::Contains(element, there) => (has(state, *element) == *there).then(|| state.clone()),
            Call::Read(elements) => (elements == state).then(|| state.clone()),
            Call::Doubled => None,
        }
    }

    fn is_spoiled(&self, state: &Bits, call: &Call) -> bool {
        match call {
            Call::Add(_) => false,
            Call::Contains(element, there) => !there && has(state, *element),
            Call::Read(elements) => {
                let seen = elements.iter().copied().chain(std::iter::repeat(0));
                state.iter().zip(seen).any(|(there, seen)| there & !seen != 0)
            }
            Call::Doubled => true,
        }
    }

    fn observes(&self, earlier: &Call, later: &Call) -> bool {
        match (earlier, later) {
            (Call::Add(element), Call::Contains(seen, there)) => *there && element == seen,
            (Call::Add(element), Call::Read(seen)) => has(seen, *element),
            (Call::Add(_), Call::Add(_) | Call::Doubled) => false,
            (Call::Contains(..) | Call::Read(_) | Call::Doubled, _) => false,
        }
    }

    fn suspects(&self, state: &Bits, call: &Call) -> Vec<u32> {
        match call {
            Call::Add(element) | Call::Contains(element, _) => vec![*element],
            Call::Read(seen) => elements(state)
                .filter(|element| !has(seen, *element))
                .chain(elements(seen).filter(|element| !has(state, *element)))
                .collect(),
            Call::Doubled => Vec::new(),
        }
    }

    fn part(&self, call: &Call, part: u32) -> Option<Call> {
        match call {
            Call::Add(element) | Call::Contains(element, _) => (*element == part).then(|| call.clone()),
            Call::Read(seen) => Some(Call::Contains(part, has(seen, part))),
            Call::Doubled => None,
        }
    }

    fn only_looks(&self, call: &Call) -> bool {
        !matches!(call, Call::Add(_))
    }

    fn show(&self, state: &Bits) -> String {
        let values = elements(state).filter_map(|element| self.names.value(element));
        match values.map(Value::to_string).collect::<Vec<_>>().join(", ") {
            all if all.is_empty() => "there is no element".to_owned(),
            all => format!("the elements are {}", words::shorten(&all, 200)),
        }
    }

    fn held_bytes(&self) -> usize {
        self.names.bytes()
    }
}
