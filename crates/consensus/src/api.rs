//! What the scheduler sees of the log.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use polybolos_model::{ReplicaId, Term, limits::MAX_MESSAGE_BYTES};
use polybolos_state::{Applied, ClusterState, Entry};
use tokio::sync::watch;

/// How long a proposal may take before its outcome counts as unknown.
pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest encoded entry: a largest plan with its texts, and as much again for what was decided with it.
pub const MAX_ENTRY_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// The replicated log and the state that it makes.
#[async_trait]
pub trait Log: Send + Sync {
    /// Commits `entry` and applies it, within [`PROPOSE_TIMEOUT`].
    ///
    /// # Errors
    /// Each says whether the entry may still be committed: [`ProposeError::may_be_committed`].
    async fn propose(&self, entry: Entry) -> Result<Committed, ProposeError>;

    /// Calls `f` once with the present state, under a lock that holds up `apply`: keep it short. [`read_with`] returns
    /// what the function returns.
    fn read(&self, f: &mut dyn FnMut(&ClusterState));

    /// Index of the last applied entry. Ticks after each.
    fn applied(&self) -> watch::Receiver<u64>;

    /// Who leads. `is_self` once this replica leads *and* has applied all that earlier leaders committed.
    fn leadership(&self) -> watch::Receiver<Leadership>;

    /// Set once the log has failed for good. The process must exit then: a wedged replica is worse than a dead one.
    fn fatal(&self) -> watch::Receiver<Option<Fatal>>;

    /// Stops cleanly; what was committed stays. Later proposals fail.
    async fn shutdown(&self);
}

/// What `f` makes of the present state. See [`Log::read`].
pub fn read_with<R>(log: &dyn Log, f: impl FnOnce(&ClusterState) -> R) -> R {
    let (mut f, mut read) = (Some(f), None);
    log.read(&mut |state| read = f.take().map(|f| f(state)).or(read.take()));
    match read {
        Some(read) => read,
        None => unreachable!("`Log::read` calls its function"),
    }
}

/// An entry that is committed, and what applying it gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub index: u64,
    pub applied: Applied,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The highest term that this replica knows of.
    pub term: Term,
    /// The leader and its address, while one is known and ready.
    pub leader: Option<(ReplicaId, String)>,
    pub is_self: bool,
}

/// The log has failed for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the replicated log has failed ({reason}); this process must exit, and may be started again")]
pub struct Fatal {
    pub reason: Arc<str>,
}

/// A proposal was not seen to be committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this replica does not lead, {}", leader_text(.leader.as_ref()))]
    NotLeader { leader: Option<(ReplicaId, String)> },
    #[error(
        "an entry of {bytes} bytes; at most {MAX_ENTRY_BYTES} are allowed (propose fewer commands at once)"
    )]
    TooLarge { bytes: usize },
    #[error("the entry was refused ({reason})")]
    Refused { reason: String },
    #[error("the entry was not committed within {waited_ms} ms, and may still be")]
    Unknown { waited_ms: u64 },
    #[error("the replicated log stopped ({reason}); the entry may have been committed")]
    Stopped { reason: String },
}

impl ProposeError {
    /// Whether the entry may have been, or may yet be, committed.
    pub fn may_be_committed(&self) -> bool {
        match self {
            Self::NotLeader { .. } | Self::TooLarge { .. } | Self::Refused { .. } => false,
            Self::Unknown { .. } | Self::Stopped { .. } => true,
        }
    }
}

fn leader_text(leader: Option<&(ReplicaId, String)>) -> String {
    match leader {
        Some((id, address)) => format!("replica {id} at {address} does"),
        None => "and no leader is known: ask again soon".to_owned(),
    }
}

/// What a replica is, and where it keeps its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaConfig {
    pub id: ReplicaId,
    /// Addresses (`HOST:PORT`) of all replicas, this one included.
    pub cluster: BTreeMap<ReplicaId, String>,
    pub data_dir: PathBuf,
}
