//! What the log holds: decisions, in batches.

use polybolos_model::Term;
use serde::{Deserialize, Serialize};

use crate::Command;

/// The newest version of entries that this program can apply. Which one is in use the log decides; see
/// [`crate::ClusterState::version`].
pub const ENTRY_VERSION: u16 = 4;

/// The version that a new cluster starts with, so that each program since then can join it.
pub const FIRST_VERSION: u16 = 1;

/// One log entry: everything that one leader decided at one moment, in the order in which it is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What the commands mean, and which there may be: the version that was in use when the entry was decided. It
    /// comes first, so that it can be read of an entry whose rest can't be.
    pub version: u16,
    /// The leader that decided. An entry of an older term than the state's is refused as a whole.
    pub term: Term,
    /// Milliseconds since the Unix epoch by that leader's clock. The state's time never goes back.
    pub at_ms: u64,
    /// May be empty: then the entry only tells that its term has begun.
    pub commands: Vec<Command>,
}

impl Entry {
    /// `version` is [`crate::ClusterState::version`] of the state that the commands were decided on.
    pub fn new(version: u16, term: Term, at_ms: u64, commands: Vec<Command>) -> Self {
        Self { version, term, at_ms, commands }
    }
}
