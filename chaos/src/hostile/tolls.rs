//! What came of each kind of load and of hostile input.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

/// How one try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By the server's own word, or it closed the connection: how.
    Refused(String),
    /// As a right request is.
    Answered,
    /// The server was not reached, or is not the one to ask: that says nothing about what was sent.
    Elsewhere(String),
    /// It had no end at its deadline.
    Hung,
}

/// Sums of one kind, as they stand in `events.jsonl` at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toll {
    pub sent: u64,
    /// Tries by how they ended.
    pub ends: BTreeMap<String, u64>,
    /// Ends that the server gave to what it should refuse.
    pub refused: u64,
    /// Tries without an end at their deadline.
    pub hung: u64,
    /// Answered like a right request, which it was not.
    pub taken: u64,
    /// The first one that hung or was taken.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub first_wrong: String,
}

/// How a try ended that was answered.
pub(crate) const ANSWERED: &str = "answered";

/// By kind.
#[derive(Debug, Default)]
pub struct Tolls(Mutex<BTreeMap<&'static str, Toll>>);

impl Tolls {
    /// `what` names the try, if it ended wrongly. `may_be_answered` says that an answer is right, too.
    pub(crate) fn note(
        &self,
        kind: &'static str,
        ending: &Ending,
        may_be_answered: bool,
        what: impl FnOnce() -> String,
    ) {
        let mut tolls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let toll = tolls.entry(kind).or_default();
        toll.sent += 1;
        let end = match ending {
            Ending::Refused(how) => {
                toll.refused += 1;
                how.clone()
            }
            Ending::Answered => ANSWERED.to_owned(),
            Ending::Elsewhere(why) => why.clone(),
            Ending::Hung => "hung".to_owned(),
        };
        *toll.ends.entry(end).or_default() += 1;
        let is_taken = *ending == Ending::Answered && !may_be_answered;
        toll.hung += u64::from(*ending == Ending::Hung);
        toll.taken += u64::from(is_taken);
        if toll.first_wrong.is_empty() && (is_taken || *ending == Ending::Hung) {
            toll.first_wrong = what();
        }
    }

    pub fn all(&self) -> BTreeMap<&'static str, Toll> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_said_is_a_refusal() {
        let tolls = Tolls::default();
        let what = || "it".to_owned();
        tolls.note("empty", &Ending::Refused("InvalidArgument".to_owned()), false, what);
        tolls.note("empty", &Ending::Elsewhere("Unavailable".to_owned()), false, what);
        tolls.note("empty", &Ending::Answered, true, what);
        let toll = tolls.all()["empty"].clone();
        assert_eq!((toll.sent, toll.refused, toll.hung, toll.taken), (3, 1, 0, 0));
        assert!(toll.first_wrong.is_empty());
        tolls.note("empty", &Ending::Answered, false, || "this one".to_owned());
        tolls.note("empty", &Ending::Hung, false, what);
        let toll = tolls.all()["empty"].clone();
        assert_eq!((toll.taken, toll.hung, toll.first_wrong.as_str()), (1, 1, "this one"));
    }
}
