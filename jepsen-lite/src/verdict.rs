//! Valid, invalid or unknown.

use std::fmt;

use serde::Serialize;

/// In the order in which one outweighs the other: a report is as bad as its worst check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything that was seen can be explained.
    Valid,
    /// The budget ended before an answer, or there was nothing to judge.
    Unknown,
    /// What was seen can't be explained.
    Invalid,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Valid => "valid",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
        })
    }
}
