//! Identities. A task's identity never changes; each try to run it has an [`AttemptId`] of its own.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::limits::MAX_NAME_BYTES;

/// A text is not a well-formed identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a valid {kind}: {expected}")]
pub struct IdParseError {
    pub kind: &'static str,
    /// What was given, cut to a printable length.
    pub text: String,
    pub expected: &'static str,
}

/// A query, statement or plan that was accepted for execution. Sixteen hexadecimal digits in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for JobId {
    type Err = IdParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let well_formed = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u64::from_str_radix(text, 16) {
            Ok(id) if well_formed => Ok(Self(id)),
            _ => Err(IdParseError {
                kind: "query id",
                text: text.chars().take(32).collect(),
                expected: "expected 16 hexadecimal digits, as printed by `jobs list`",
            }),
        }
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number_id!(
    /// Position of a stage in its job's [`crate::StageGraph`]; a stage's inputs have smaller ones.
    StageId(u32)
);
number_id!(
    /// The term of a leader. At most one leader holds a term.
    Term(u64)
);
number_id!(
    /// One life of an executor, given by the log at registration. A report from an older life is refused.
    Incarnation(u64)
);
number_id!(
    /// A scheduler replica.
    ReplicaId(u64)
);

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(String);

        impl $name {
            /// Accepts 1 to [`MAX_NAME_BYTES`] ASCII letters, digits, `.`, `_`, `-` and `:`.
            ///
            /// # Errors
            /// [`IdParseError`] names what was given and what is expected.
            pub fn new(text: impl Into<String>) -> Result<Self, IdParseError> {
                let text = text.into();
                let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-:".contains(&b);
                if !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(allowed) {
                    return Ok(Self(text));
                }
                Err(IdParseError {
                    kind: $kind,
                    text: text.chars().take(32).collect(),
                    expected: "expected 1 to 128 letters, digits, '.', '_', '-' or ':'",
                })
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }
    };
}

name_id!(
    /// An executor, across its restarts.
    ExecutorId,
    "executor id"
);
name_id!(
    /// A client's session: its `SET` options.
    SessionId,
    "session id"
);
name_id!(
    /// Given by a client with a submit; a second submit with the same key is answered with the first one's job.
    IdempotencyKey,
    "idempotency key"
);

/// One partition of one stage of one job: the unit that is scheduled and retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    pub job: JobId,
    pub stage: StageId,
    pub partition: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.job, self.stage, self.partition)
    }
}

/// One try to run a task. Unique in the cluster without a commit: a term has one leader, and that leader counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    pub term: Term,
    pub counter: u64,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_round_trip_and_reject_other_text() {
        let id = JobId(0xabc);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "abc", "+000000000000abc", "zzzzzzzzzzzzzzzz", "00000000000000000"] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_bounded_and_printable() {
        assert!(ExecutorId::new("executor-1.rack:7").is_ok());
        for bad in ["", "a b", "ü", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(ExecutorId::new(bad).is_err(), "{bad}");
        }
    }
}
