//! An executor as the cluster knows it.

use std::{collections::BTreeMap, fmt};

use polybolos_model::{ExecutorId, Incarnation};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ExecutorState {
    /// Takes tasks.
    Live,
    /// Takes no new tasks, finishes its own and still serves its outputs.
    Draining,
    /// Gone, with all that it held. Its next registration gets a new incarnation.
    Lost,
}

impl fmt::Display for ExecutorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Draining => "draining",
            Self::Lost => "lost",
        })
    }
}

/// What the last heartbeat said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub memory_used_bytes: u64,
    /// Shuffle outputs held, in memory and on disk.
    pub shuffle_bytes: u64,
    pub running_tasks: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executor {
    pub id: ExecutorId,
    /// Unique in the cluster and ascending, also over executors.
    pub incarnation: Incarnation,
    /// `HOST:PORT` of its Arrow Flight service.
    pub address: String,
    pub slots: u32,
    pub memory_bytes: u64,
    pub labels: BTreeMap<String, String>,
    pub process_id: u64,
    pub state: ExecutorState,
    /// When the last beat or registration was committed, by the leader's clock.
    pub last_beat_ms: u64,
    /// Since when its stream is broken; `None` while it is not, as far as the log knows.
    pub suspect_since_ms: Option<u64>,
    pub usage: Usage,
    /// When and why it was lost; kept until it registers again.
    pub lost: Option<Loss>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    pub at_ms: u64,
    pub reason: String,
}

impl Executor {
    /// Whether it still runs and serves: live or draining.
    pub fn is_present(&self) -> bool {
        self.state != ExecutorState::Lost
    }

    /// Whether new tasks may go there.
    pub fn takes_tasks(&self) -> bool {
        self.state == ExecutorState::Live && self.suspect_since_ms.is_none()
    }
}
