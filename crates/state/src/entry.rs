//! What the log holds: decisions, in batches.

use polybolos_model::Term;
use serde::{Deserialize, Serialize};

use crate::Command;

/// Version of the commands' meaning. An entry of a newer version is refused as a whole.
pub const ENTRY_VERSION: u16 = 1;

/// One log entry: everything that one leader decided at one moment, in the order in which it is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// [`ENTRY_VERSION`] of the writer.
    pub version: u16,
    /// The leader that decided. An entry of an older term than the state's is refused as a whole.
    pub term: Term,
    /// Milliseconds since the Unix epoch by that leader's clock. The state's time never goes back.
    pub at_ms: u64,
    /// May be empty: then the entry only tells that its term has begun.
    pub commands: Vec<Command>,
}

impl Entry {
    pub fn new(term: Term, at_ms: u64, commands: Vec<Command>) -> Self {
        Self { version: ENTRY_VERSION, term, at_ms, commands }
    }
}
