//! What the scheduler sees of the log.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use polybolos_model::{ReplicaId, Term, limits::MAX_MESSAGE_BYTES};
use polybolos_state::{Applied, ClusterState, Entry};
use tokio::sync::watch;

/// How long a proposal may take before its outcome counts as unknown.
pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long [`Log::describe`] waits for the other replicas.
pub const DESCRIBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Largest encoded entry: a largest plan with its texts, and as much again for what was decided with it.
pub const MAX_ENTRY_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

/// The replicated log and the state that it makes.
#[async_trait]
pub trait Log: Send + Sync {
    /// Commits `entry` and applies it, within [`PROPOSE_TIMEOUT`] and no longer than this replica leads.
    ///
    /// # Errors
    /// Each says whether the entry may still be committed: [`ProposeError::may_be_committed`].
    async fn propose(&self, entry: Entry) -> Result<Committed, ProposeError>;

    /// Calls `f` once with the present state, under a lock that holds up `apply`: keep it short. [`read_with`] returns
    /// what the function returns.
    fn read(&self, f: &mut dyn FnMut(&ClusterState));

    /// Makes reads from now on see everything that was committed before this call: a majority confirms that this
    /// replica leads, and it has applied what was committed (Raft's read index). Calls at the same time share a round.
    ///
    /// # Errors
    /// It does not lead, or no majority answers.
    async fn confirm(&self) -> Result<(), ConfirmError>;

    /// How old what [`Log::read`] shows may be: what was committed longer ago is in it. `None` if this replica has not
    /// heard of any leader since it started.
    fn age(&self) -> Option<Duration>;

    /// Index of the last applied entry. Ticks after each.
    fn applied(&self) -> watch::Receiver<u64>;

    /// Who leads. `is_self` once this replica leads *and* has applied all that earlier leaders committed.
    fn leadership(&self) -> watch::Receiver<Leadership>;

    /// Every replica that this one knows of, itself included, ascending by id. Asks those that are elsewhere, all at
    /// once, for at most [`DESCRIBE_TIMEOUT`].
    async fn describe(&self) -> Vec<ReplicaInfo>;

    /// What [`Log::describe`] last knew, in words and without asking: for an error that says why nothing is decided.
    fn outline(&self) -> String;

    /// Changes of the set of replicas; `None` for a log that can have one only.
    fn replicas(&self) -> Option<&dyn Replicas>;

    /// Set once the log has failed for good. The process must exit then: a wedged replica is worse than a dead one.
    fn fatal(&self) -> watch::Receiver<Option<Fatal>>;

    /// Hands leadership over if this replica leads and another can take it, then stops; what was committed stays.
    /// Later proposals fail.
    async fn shutdown(&self);
}

/// Operating the set of replicas. Every call must go to the leader.
#[async_trait]
pub trait Replicas: Send + Sync {
    /// Enters a replica as a learner, waits until it has caught up, and makes it a voter. Repeating it is safe.
    ///
    /// # Errors
    /// [`ReplicasError`].
    async fn add(&self, id: ReplicaId, address: String) -> Result<(), ReplicasError>;

    /// Takes a replica out for good. The leader itself hands over first, and the next leader must be asked then.
    /// Repeating it is safe.
    ///
    /// # Errors
    /// [`ReplicasError`].
    async fn remove(&self, id: ReplicaId) -> Result<(), ReplicasError>;

    /// Falls silent so that `to`, or the voter that is furthest, takes over. Returns who leads then.
    ///
    /// # Errors
    /// [`ReplicasError`].
    async fn transfer(&self, to: Option<ReplicaId>) -> Result<Leadership, ReplicasError>;

    /// The state as of now, linearizably, as a backup file's content; see [`crate::restore`].
    ///
    /// # Errors
    /// [`ReplicasError`].
    async fn backup(&self) -> Result<Vec<u8>, ReplicasError>;
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
    /// A majority has answered this leader lately. Without it nothing is committed; it leads on until it hears of a
    /// higher term, and its attempts' numbers go on, so this is no end of leadership.
    pub has_quorum: bool,
}

impl Leadership {
    /// It leads and can commit.
    pub fn serves(&self) -> bool {
        self.is_self && self.has_quorum
    }
}

/// The log has failed for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Fatal {
    pub reason: Arc<str>,
    /// It must not start again before somebody acts: a wrong folder, flag or version, or a replica that was removed.
    pub refused: bool,
}

/// Reads can't be made linearizable here and now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    #[error("this replica does not lead, {}", leader_text(.leader.as_ref()))]
    NotLeader { leader: Option<(ReplicaId, String)> },
    #[error("no majority of the replicas confirmed the leader within {waited_ms} ms")]
    NoQuorum { waited_ms: u64 },
    #[error("the replicated log stopped ({reason})")]
    Stopped { reason: String },
}

/// The set of replicas was not changed, or is not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicasError {
    #[error("this replica does not lead, {}", leader_text(.leader.as_ref()))]
    NotLeader { leader: Option<(ReplicaId, String)> },
    #[error(
        "replica {id} was removed from this cluster, and its id is never used again (choose another one)"
    )]
    Retired { id: ReplicaId },
    #[error(
        "replica {id} is a member already, at {address} (remove it first, and give the new one another id)"
    )]
    OtherAddress { id: ReplicaId, address: String },
    #[error("replica {id} is not a member of this cluster")]
    NotAMember { id: ReplicaId },
    #[error("replica {id} does not vote, so it can't lead")]
    NotAVoter { id: ReplicaId },
    #[error("replica {id} is the only voter (add another one first)")]
    LastVoter { id: ReplicaId },
    #[error(
        "replica {id} at {address} did not catch up within {waited_ms} ms: {state} (is it running with --id {id}? The call may be repeated)"
    )]
    NotCaughtUp { id: ReplicaId, address: String, waited_ms: u64, state: String },
    #[error("leadership did not move within {waited_ms} ms; {}", leader_text(.leader.as_ref()))]
    NotMoved { waited_ms: u64, leader: Option<(ReplicaId, String)> },
    #[error("another change of the replicas is under way: try again when it is done")]
    UnderWay,
    #[error("the change was not committed within {waited_ms} ms, and may still be: ask for the status")]
    Unknown { waited_ms: u64 },
    #[error("the change was refused ({reason})")]
    Refused { reason: String },
    #[error("the replicated log stopped ({reason})")]
    Stopped { reason: String },
}

/// A replica as it describes itself; of one that does not answer only what the others know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaInfo {
    pub id: ReplicaId,
    pub address: String,
    pub role: Role,
    pub is_voter: bool,
    pub term: Term,
    pub last_log_index: u64,
    pub committed_index: u64,
    pub applied_index: u64,
    /// Of the whole state at `applied_index`.
    pub state_hash: u64,
    /// The last entry that the newest snapshot holds, and its size; zeros without one.
    pub snapshot_index: u64,
    pub snapshot_bytes: u64,
    pub disk: DiskState,
    /// Highest version of entries that it can apply.
    pub version: u16,
    /// Messages of other clusters, strangers or deposed leaders that it refused.
    pub refused_messages: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
    Candidate,
    /// Receives the log and does not vote.
    Learner,
    /// Not part of the cluster yet.
    Joining,
    #[default]
    Unreachable,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Joining => "joining",
            Self::Unreachable => "unreachable",
        })
    }
}

/// Whether a replica can write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DiskState {
    #[default]
    Ok,
    /// The replica reads only, until there is room again; `free_bytes` are left.
    Full { free_bytes: u64 },
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
    /// Addresses (`HOST:PORT`) of all replicas, this one included: the first voters of a new cluster, and whom a replica
    /// asks that joins one. Later the log knows better.
    pub cluster: BTreeMap<ReplicaId, String>,
    pub data_dir: PathBuf,
    pub store: Store,
    pub timing: Timing,
    pub snapshots: Snapshots,
    /// Highest version of entries that it says it can apply; see [`polybolos_state::ENTRY_VERSION`]. Lower than that
    /// only to keep a downgrade possible.
    pub version: u16,
}

impl ReplicaConfig {
    /// The default times, and this program's version.
    pub fn new(id: ReplicaId, cluster: BTreeMap<ReplicaId, String>, data_dir: PathBuf) -> Self {
        let (store, timing, version) = (Store::Sled, Timing::default(), polybolos_state::ENTRY_VERSION);
        Self { id, cluster, data_dir, store, timing, snapshots: Snapshots::default(), version }
    }
}

/// What the log is kept in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Store {
    #[default]
    Sled,
    /// One file over `env.disk`: what the simulator runs, since sled's threads can't.
    Journal,
}

/// When a snapshot replaces the log. There is a limit by size too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshots {
    /// After so many entries.
    pub every_entries: u64,
    /// So many entries stay in the log although a snapshot holds them, for replicas that are a little behind.
    pub keep_entries: u64,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { every_entries: 2_000, keep_entries: 100 }
    }
}

/// How quickly a lost leader is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader lets hear of itself.
    pub heartbeat: Duration,
    /// A replica that has heard its leader within this time consents to no other.
    pub lease: Duration,
    /// A replica campaigns when it has heard no leader for a time drawn anew, each time, between these.
    pub election_min: Duration,
    pub election_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { heartbeat: ms(100), lease: ms(300), election_min: ms(300), election_max: ms(600) }
    }
}
