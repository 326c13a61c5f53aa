//! The replicated state behind a lock, and its snapshots, as openraft wants them.

use std::{
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use openraft::{
    BasicNode, Entry, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta,
    StorageIOError, StoredMembership, storage::RaftStateMachine,
};
use polybolos_env::Env;
use polybolos_model::{
    Term,
    simulation::{Fact, report},
};
use polybolos_state::{Applied, ClusterState, CodecError};
use tokio::sync::{Mutex, oneshot, watch};

use crate::{
    codec::{self, DecodeError},
    completions,
    kv::Kv,
    raft::{Reply, StorageError, TypeConfig},
    store::{StoreError, snapshot},
};

/// The state as of the last applied entry.
struct Present {
    state: ClusterState,
    last_applied: Option<LogId<u64>>,
    members: StoredMembership<u64, BasicNode>,
}

/// What readers and the state machine share.
pub(crate) struct Shared {
    present: RwLock<Present>,
    applied: watch::Sender<u64>,
    /// Commands applied since the last snapshot that was asked for by size.
    bytes_since_snapshot: AtomicU64,
    /// Size of the newest snapshot.
    snapshot_bytes: AtomicU64,
    /// Set when something was met that only a newer version can read.
    too_new: OnceLock<String>,
}

/// The state at one moment, for `status`.
pub(crate) struct Described {
    pub(crate) applied: u64,
    pub(crate) hash: u64,
}

impl Shared {
    fn new(present: Present, snapshot_bytes: u64) -> Self {
        let index = present.last_applied.map_or(0, |id| id.index);
        Self {
            present: RwLock::new(present),
            applied: watch::Sender::new(index),
            bytes_since_snapshot: AtomicU64::new(0),
            snapshot_bytes: AtomicU64::new(snapshot_bytes),
            too_new: OnceLock::new(),
        }
    }

    /// Reads the whole state.
    pub(crate) fn describe(&self) -> Described {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        Described { applied: present.last_applied.map_or(0, |id| id.index), hash: present.state.hash() }
    }

    /// The state and the entry that it is as of.
    pub(crate) fn copy(&self) -> (Option<LogId<u64>>, ClusterState) {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        (present.last_applied, present.state.clone())
    }

    /// Whether a snapshot is due, since commands of `limit_bytes` were applied after the last one.
    pub(crate) fn is_snapshot_due(&self, limit_bytes: u64) -> bool {
        let due = self.bytes_since_snapshot.load(Ordering::Relaxed) >= limit_bytes;
        if due {
            self.bytes_since_snapshot.store(0, Ordering::Relaxed);
        }
        due
    }

    pub(crate) fn snapshot_bytes(&self) -> u64 {
        self.snapshot_bytes.load(Ordering::Relaxed)
    }

    /// What only a newer version of this program can read, if such was met.
    pub(crate) fn too_new(&self) -> Option<String> {
        self.too_new.get().cloned()
    }

    pub(crate) fn read(&self, f: &mut dyn FnMut(&ClusterState)) {
        f(&self.present.read().unwrap_or_else(PoisonError::into_inner).state);
    }

    pub(crate) fn read_with<R>(&self, f: impl FnOnce(&ClusterState) -> R) -> R {
        f(&self.present.read().unwrap_or_else(PoisonError::into_inner).state)
    }

    /// Index of the last applied entry; 0 before the first.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    fn change<T>(&self, f: impl FnOnce(&mut Present) -> T) -> T {
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        let changed = f(&mut present);
        let index = present.last_applied.map_or(0, |id| id.index);
        drop(present);
        self.applied.send_replace(index);
        changed
    }
}

/// A stored entry or snapshot can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    #[error("log entry {index} can't be applied: {source}")]
    Entry { index: u64, source: DecodeError },
    #[error("applying log entry {index} panicked, which is a bug")]
    Panic { index: u64 },
    #[error("the snapshot can't be read: {0}")]
    Snapshot(#[from] DecodeError),
    #[error("the snapshot can't be written: {0}")]
    Encode(#[from] CodecError),
    #[error("the CPU threads have stopped")]
    Cpu,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps one snapshot; savers take turns.
struct Snapshots {
    kv: Arc<dyn Kv>,
    turn: Mutex<()>,
    shared: Arc<Shared>,
}

impl Snapshots {
    /// Does nothing if a newer one is there: it arrived from the leader while this one was being built.
    async fn save(&self, meta: &SnapshotMeta<u64, BasicNode>, data: &[u8]) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        if snapshot::last_log_id(self.kv.as_ref())? > meta.last_log_id {
            polybolos_model::sometimes!("a snapshot gave way to a newer one");
            return Ok(());
        }
        snapshot::save(self.kv.as_ref(), meta, data).await?;
        polybolos_model::failpoint!("snapshot.saved_before_purge");
        self.shared.snapshot_bytes.store(data.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

pub(crate) struct Machine {
    shared: Arc<Shared>,
    snapshots: Arc<Snapshots>,
    env: Env,
    /// Highest version of entries and snapshots that it takes.
    version: u16,
}

impl Machine {
    /// The state of the newest snapshot, or that of a new cluster, which has no name yet.
    ///
    /// # Errors
    /// The snapshot is damaged or of a newer version than `version`.
    pub(crate) async fn open(kv: Arc<dyn Kv>, env: &Env, version: u16) -> Result<Self, MachineError> {
        let (present, bytes) = match snapshot::load(kv.as_ref())? {
            Some((meta, data)) => {
                let bytes = data.len() as u64;
                let state = on_cpu(env, move || codec::decode_state(&data, version)).await??;
                (Present { state, last_applied: meta.last_log_id, members: meta.last_membership }, bytes)
            }
            None => {
                let (state, members) = (ClusterState::default(), StoredMembership::default());
                (Present { state, last_applied: None, members }, 0)
            }
        };
        report_installed(&present);
        let shared = Arc::new(Shared::new(present, bytes));
        let snapshots = Arc::new(Snapshots { kv, turn: Mutex::new(()), shared: Arc::clone(&shared) });
        Ok(Self { shared, snapshots, env: env.clone(), version })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn apply_one(&self, entry: Entry<TypeConfig>) -> Result<Reply, MachineError> {
        let (id, index) = (entry.log_id, entry.log_id.index);
        match entry.payload {
            EntryPayload::Blank => {
                self.shared.change(|present| {
                    present.last_applied = Some(id);
                    report_applied(present, id, &[]);
                });
                Ok(Reply(None))
            }
            EntryPayload::Membership(members) => {
                self.shared.change(|present| {
                    present.last_applied = Some(id);
                    present.members = StoredMembership::new(Some(id), members);
                    report_applied(present, id, &[]);
                });
                Ok(Reply(None))
            }
            EntryPayload::Normal(proposal) => {
                let entry = codec::decode_entry(&proposal.0, self.version)
                    .map_err(|source| MachineError::Entry { index, source })?;
                let bytes = proposal.0.len() as u64;
                self.shared.bytes_since_snapshot.fetch_add(bytes, Ordering::Relaxed);
                let applied = self.shared.change(|present| {
                    present.last_applied = Some(id);
                    let applied = apply_caught(&mut present.state, &entry)?;
                    report_applied(present, id, &proposal.0);
                    Some(applied)
                });
                if let Some(applied) = &applied {
                    completions::tell(index, &entry, applied);
                }
                applied.map(|applied| Reply(Some(applied))).ok_or(MachineError::Panic { index })
            }
        }
    }

    async fn install(&self, meta: &SnapshotMeta<u64, BasicNode>, data: Vec<u8>) -> Result<(), MachineError> {
        let data = Arc::new(data);
        let copy = Arc::clone(&data);
        let version = self.version;
        let state = on_cpu(&self.env, move || codec::decode_state(&copy, version)).await??;
        polybolos_model::failpoint!("snapshot.installing");
        self.snapshots.save(meta, &data).await?;
        polybolos_model::sometimes!("a snapshot was installed");
        self.shared.change(|present| {
            let (last_applied, members) = (meta.last_log_id, meta.last_membership.clone());
            *present = Present { state, last_applied, members };
            report_installed(present);
        });
        Ok(())
    }
}

impl Machine {
    /// A replica that is too old for what its cluster writes must say so, and not only that its storage failed.
    fn note(&self, error: &MachineError) {
        if let MachineError::Entry { source: DecodeError::Newer { .. }, .. }
        | MachineError::Snapshot(DecodeError::Newer { .. }) = error
        {
            // The first one is the cause.
            let _ = self.shared.too_new.set(error.to_string());
        }
    }
}

/// Tells a simulator, before anybody can read the state.
fn report_applied(present: &Present, id: LogId<u64>, entry: &[u8]) {
    report(|| Fact::Applied {
        index: id.index,
        term: Term(id.leader_id.term),
        entry: entry.to_vec(),
        state_hash: present.state.hash(),
    });
}

/// The state of a snapshot counts as taken over also where it was found at the start.
fn report_installed(present: &Present) {
    let Some(id) = present.last_applied else { return };
    report(|| Fact::Installed {
        index: id.index,
        term: Term(id.leader_id.term),
        state_hash: present.state.hash(),
    });
}

/// `None` after a panic. Without this openraft's worker would be gone and its callers would wait for ever; with it the
/// replica stops as after any other failure.
fn apply_caught(state: &mut ClusterState, entry: &polybolos_state::Entry) -> Option<Applied> {
    catch_unwind(AssertUnwindSafe(|| state.apply(entry))).ok()
}

/// Runs `work` away from the threads that serve the network.
pub(crate) async fn on_cpu<T: Send + 'static>(
    env: &Env,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, MachineError> {
    let (done, result) = oneshot::channel();
    let _task = env.cpu.spawn(Box::pin(async move {
        // Nobody waits any more when the replica stops.
        let _ = done.send(work());
    }));
    result.await.map_err(|_| MachineError::Cpu)
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, BasicNode>), StorageError> {
        let present = self.shared.present.read().unwrap_or_else(PoisonError::into_inner);
        Ok((present.last_applied, present.members.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Reply>, StorageError>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut replies = Vec::new();
        for entry in entries {
            let id = entry.log_id;
            let applied = self.apply_one(entry).inspect_err(|error| self.note(error));
            replies.push(applied.map_err(|error| StorageIOError::apply(id, &error))?);
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let present = self.shared.present.read().unwrap_or_else(PoisonError::into_inner);
        let snapshot_id = match present.last_applied {
            Some(id) => format!("{}-{}", id.leader_id.term, id.index),
            None => "empty".to_owned(),
        };
        let (last_log_id, last_membership) = (present.last_applied, present.members.clone());
        Builder {
            meta: SnapshotMeta { last_log_id, last_membership, snapshot_id },
            state: Arc::new(present.state.clone()),
            snapshots: Arc::clone(&self.snapshots),
            env: self.env.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, BasicNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let installed = self.install(meta, snapshot.into_inner()).await.inspect_err(|error| self.note(error));
        installed.map_err(|error| StorageIOError::write_snapshot(Some(meta.signature()), &error).into())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let loaded = snapshot::load(self.snapshots.kv.as_ref());
        let loaded = loaded.map_err(|error| StorageIOError::read_snapshot(None, &error))?;
        Ok(loaded.map(|(meta, data)| Snapshot { meta, snapshot: Box::new(Cursor::new(data)) }))
    }
}

/// Writes down the state of the moment at which it was made, while the state goes on changing.
pub(crate) struct Builder {
    meta: SnapshotMeta<u64, BasicNode>,
    state: Arc<ClusterState>,
    snapshots: Arc<Snapshots>,
    env: Env,
}

impl Builder {
    async fn build(&self) -> Result<Vec<u8>, MachineError> {
        let state = Arc::clone(&self.state);
        let data = on_cpu(&self.env, move || state.encode()).await??;
        self.snapshots.save(&self.meta, &data).await?;
        polybolos_model::sometimes!("a snapshot was built");
        Ok(data)
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        match self.build().await {
            Ok(data) => Ok(Snapshot { meta: self.meta.clone(), snapshot: Box::new(Cursor::new(data)) }),
            Err(error) => Err(StorageIOError::write_snapshot(Some(self.meta.signature()), &error).into()),
        }
    }
}
