//! What is done to a data folder while no replica runs on it: a cluster made from a backup, and a lost quorum given up.
//!
//! Both leave a folder of a cluster of one voter, whose log says what was done. It starts as any other, and further
//! replicas are added to it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use openraft::{
    BasicNode, CommittedLeaderId, Entry, EntryPayload, LogId, Membership, RaftLogReader, SnapshotMeta,
    StoredMembership,
    storage::{RaftLogStorage, RaftStateMachine},
};
use polybolos_env::Env;
use polybolos_model::{ReplicaId, Term};
use polybolos_state::{ClusterState, Command, ENTRY_VERSION};

use crate::{
    OpenError,
    backup::{self, BackupError},
    codec,
    kv::{Batch, Durability, Kv},
    log_store::LogStore,
    machine::Machine,
    open,
    raft::{Proposal, TypeConfig},
    store::{
        self, StoreError, StoredLogId, entry, identity::Identity, purged::Purged, snapshot, vote::StoredVote,
    },
};

/// By how many terms such a folder is ahead of what it came from, so that executors which have heard its leader refuse
/// a left-over of the old cluster.
const TERM_JUMP: u64 = 1_000;

/// A data folder was not changed, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("the backup can't be restored: {reason}")]
    State { reason: String },
    #[error("the data folder {} holds a replica already (choose an empty one)", .data_dir.display())]
    NotEmpty { data_dir: PathBuf },
    #[error("the data folder {} holds no replica of any cluster: there is nothing to recover", .data_dir.display())]
    Nothing { data_dir: PathBuf },
    #[error(
        "replica {id} of the data folder {} was removed from its cluster before the others were lost: recover from the folder of a member",
        .data_dir.display()
    )]
    Removed { data_dir: PathBuf, id: ReplicaId },
    #[error("the data folder {} could not be written: {reason}", .data_dir.display())]
    Write { data_dir: PathBuf, reason: String },
}

/// Where a backup is restored to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreTarget {
    pub data_dir: PathBuf,
    pub id: ReplicaId,
    /// `HOST:PORT` at which the replica will serve.
    pub address: String,
}

/// What [`restore`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    pub cluster_id: String,
    /// The last entry of the old cluster that is in it.
    pub index: u64,
}

/// What [`recover`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    pub cluster_id: String,
    pub id: ReplicaId,
    /// The last entry that this replica held. What others acknowledged after it is lost.
    pub index: u64,
    /// The replicas that are given up; they must never run again.
    pub lost: Vec<ReplicaId>,
}

fn id_of(term: u64, index: u64) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(term, 0), index)
}

fn only(id: ReplicaId, address: &str) -> Membership<u64, BasicNode> {
    let node = BasicNode { addr: address.to_owned() };
    Membership::new(vec![[id.0].into()], BTreeMap::from([(id.0, node)]))
}

fn commands(version: u16, term: u64, env: &Env, commands: Vec<Command>) -> Result<Proposal, String> {
    let entry = polybolos_state::Entry::new(version, Term(term), env.clock.wall_ms(), commands);
    entry.encode().map(Proposal).map_err(|error| error.to_string())
}

fn write_error(data_dir: &Path) -> impl Fn(String) -> OfflineError + '_ {
    move |reason| OfflineError::Write { data_dir: data_dir.to_owned(), reason }
}

async fn put(kv: &dyn Kv, entries: &[Entry<TypeConfig>], vote: StoredVote) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    for one in entries {
        entry::put(&mut batch, one)?;
    }
    store::put(&mut batch, &vote)?;
    Ok(kv.write(batch, Durability::Flushed).await?)
}

/// Makes a new cluster of one replica, with a new id, from a backup file. Its executors count as lost, its queries go
/// on, and those that had not ended run again what was lost with the executors.
///
/// # Errors
/// [`OfflineError`]; the folder must be empty.
pub async fn restore(from: &[u8], target: RestoreTarget, env: &Env) -> Result<Restored, OfflineError> {
    let (header, encoded) = backup::decode(from)?;
    let bad = |error: codec::DecodeError| OfflineError::State { reason: error.to_string() };
    let state = codec::decode_state(encoded, ENTRY_VERSION).map_err(bad)?;
    let RestoreTarget { data_dir, id, address } = target;
    let failed = write_error(&data_dir);
    let kv = open::open_kv(&data_dir, env).await?;
    if store::get::<Identity>(kv.as_ref()).map_err(|error| failed(error.to_string()))?.is_some() {
        return Err(OfflineError::NotEmpty { data_dir: data_dir.clone() });
    }
    let cluster_id = format!("{:016x}{:016x}", env.random.next_u64(), env.random.next_u64());
    let note = format!(
        "restored as replica {id} from a backup of cluster {} at entry {}",
        header.cluster_id, header.index
    );
    let (last, term) = (id_of(header.term, header.index), header.term + TERM_JUMP);
    let meta = SnapshotMeta {
        last_log_id: Some(last),
        last_membership: StoredMembership::new(Some(last), only(id, &address)),
        snapshot_id: format!("restored-{}-{}", header.term, header.index),
    };
    let restart = Command::RestartCluster { cluster_id: Some(cluster_id.clone()), replica: id, note };
    let payload = commands(state.version(), term, env, vec![restart]).map_err(&failed)?;
    let entries = [Entry { log_id: id_of(term, header.index + 1), payload: EntryPayload::Normal(payload) }];
    let vote = StoredVote { term, voted_for: Some(id.0), committed: false };
    let folder = env.random.next_u64();
    let bootstrap = BTreeMap::from([(id.0, address.clone())]);
    let identity = Identity { cluster_id: cluster_id.clone(), replica: id.0, address, folder, bootstrap };
    let made = async {
        snapshot::save(kv.as_ref(), &meta, encoded).await?;
        let mut batch = Batch::default();
        store::put(&mut batch, &Purged(StoredLogId::from(last)))?;
        kv.write(batch, Durability::Flushed).await?;
        put(kv.as_ref(), &entries, vote).await?;
        // Last: a folder without it was not restored.
        open::write_identity(kv.as_ref(), &identity).await
    };
    made.await.map_err(|error: StoreError| failed(error.to_string()))?;
    Ok(Restored { cluster_id, index: header.index })
}

/// Makes the replica of this folder the only one of its cluster, because a majority of the others is lost for good.
/// Everything that it holds counts as committed from now on; what only the others held is lost.
///
/// # Errors
/// [`OfflineError`].
pub async fn recover(data_dir: &Path, env: &Env) -> Result<Recovered, OfflineError> {
    let failed = write_error(data_dir);
    let kv = open::open_kv(data_dir, env).await?;
    let broken = |error: StoreError| failed(error.to_string());
    let Some(identity) = store::get::<Identity>(kv.as_ref()).map_err(broken)? else {
        return Err(OfflineError::Nothing { data_dir: data_dir.to_owned() });
    };
    let mut log_store = LogStore::open(Arc::clone(&kv), ENTRY_VERSION).map_err(broken)?;
    // A snapshot that was installed, whose purge a crash prevented.
    let snapshot = snapshot::last_log_id(kv.as_ref()).map_err(broken)?;
    if let Some(upto) = snapshot
        && log_store.get_log_state().await.map_err(|error| failed(error.to_string()))?.last_log_id
            < Some(upto)
    {
        log_store.purge(upto).await.map_err(|error| failed(error.to_string()))?;
    }
    let (members, applied, state) = held(&kv, &mut log_store, env).await.map_err(&failed)?;
    let (id, version) = (ReplicaId(identity.replica), state.version());
    if state.is_retired(id) {
        return Err(OfflineError::Removed { data_dir: data_dir.to_owned(), id });
    }
    let log = log_store.get_log_state().await.map_err(|error| failed(error.to_string()))?;
    let Some(last) = log.last_log_id else {
        return Err(OfflineError::Nothing { data_dir: data_dir.to_owned() });
    };
    if applied != Some(last) {
        return Err(failed(format!(
            "its log ends at {last}, and its state can't be brought there: use another folder"
        )));
    }
    let voted = store::get::<StoredVote>(kv.as_ref()).map_err(broken)?.map_or(0, |vote| vote.term);
    let term = voted.max(last.leader_id.term) + TERM_JUMP;
    let lost: Vec<ReplicaId> = members.into_iter().filter(|member| *member != id).collect();
    let names = lost.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let note = format!(
        "recovered by force from replica {id} at entry {}; replicas {names} were given up",
        last.index
    );
    let mut told = vec![Command::RestartCluster { cluster_id: None, replica: id, note }];
    told.extend(lost.iter().map(|replica| Command::RetireReplica { replica: *replica }));
    let payload = commands(version, term, env, told).map_err(&failed)?;
    let entries = [
        Entry {
            log_id: id_of(term, last.index + 1),
            payload: EntryPayload::Membership(only(id, &identity.address)),
        },
        Entry { log_id: id_of(term, last.index + 2), payload: EntryPayload::Normal(payload) },
    ];
    let vote = StoredVote { term, voted_for: Some(id.0), committed: false };
    put(kv.as_ref(), &entries, vote).await.map_err(broken)?;
    Ok(Recovered { cluster_id: identity.cluster_id, id, index: last.index, lost })
}

/// The members by the newest membership, the last entry applied, and the state then.
type Held = (Vec<ReplicaId>, Option<LogId<u64>>, ClusterState);

/// What snapshot and log hold together.
async fn held(kv: &Arc<dyn Kv>, log: &mut LogStore, env: &Env) -> Result<Held, String> {
    let mut machine =
        Machine::open(Arc::clone(kv), env, ENTRY_VERSION).await.map_err(|error| error.to_string())?;
    let shared = machine.shared();
    let first = shared.copy().0.map_or(0, |id| id.index + 1);
    let entries = log.try_get_log_entries(first..).await.map_err(|error| error.to_string())?;
    machine.apply(entries).await.map_err(|error| error.to_string())?;
    let (_, members) = machine.applied_state().await.map_err(|error| error.to_string())?;
    let members = members.nodes().map(|(id, _)| ReplicaId(*id)).collect();
    let (applied, state) = shared.copy();
    Ok((members, applied, state))
}
