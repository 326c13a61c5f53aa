//! Opening a data folder: whose is it, is it sound, then start.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use polybolos_env::Env;
use polybolos_model::ReplicaId;

use crate::{
    Log, OpenError, ReplicaConfig,
    codec::DecodeError,
    kv::{
        Batch, Durability, Kv, KvError,
        sled::{self, SledKv, SledOpenError},
    },
    machine::MachineError,
    replica::{Replica, StartError},
    runtime,
    store::{self, StoreError, identity::Identity},
};

/// Opens the replica's data folder, which is made if need be, and starts the replica.
///
/// Returns once the replica leads and has applied its whole log.
///
/// # Errors
/// Each says what to do about it.
pub async fn open(config: ReplicaConfig, env: &Env) -> Result<Arc<dyn Log>, OpenError> {
    let address = check_cluster(&config)?;
    let data_dir = config.data_dir.as_path();
    env.disk.create_dir_all(data_dir).await.map_err(|source| folder(data_dir, "it can't be made", source))?;
    let kv: Arc<dyn Kv> = match SledKv::open(&sled::folder_in(data_dir)).await {
        Ok(kv) => Arc::new(kv),
        Err(SledOpenError::Locked) => return Err(OpenError::Locked { data_dir: data_dir.to_owned() }),
        Err(SledOpenError::Kv(error)) => return Err(of_kv(data_dir, error)),
    };
    let identity = identify(kv.as_ref(), &config, env).await?;
    let start = Replica::start(kv, &identity.cluster_id, (config.id, address), env);
    let replica = runtime::within(env, start).await.map_err(|error| of_start(data_dir, error))?;
    tracing::info!(
        replica = %config.id,
        cluster = identity.cluster_id,
        term = %replica.leadership().borrow().term,
        "the replicated log is open"
    );
    Ok(Arc::new(replica))
}

/// The address of this replica.
fn check_cluster(config: &ReplicaConfig) -> Result<&str, OpenError> {
    let Some(address) = config.cluster.get(&config.id) else {
        return Err(OpenError::NotInCluster { id: config.id, cluster: config.cluster.clone() });
    };
    match config.cluster.len() {
        1 => Ok(address),
        count => Err(OpenError::ManyReplicas { count }),
    }
}

/// Reads whose folder this is and checks that it is ours, or writes that it is.
async fn identify(kv: &dyn Kv, config: &ReplicaConfig, env: &Env) -> Result<Identity, OpenError> {
    let data_dir = config.data_dir.as_path();
    let of_store = |error| of_store(data_dir, error);
    if let Some(stored) = store::get::<Identity>(kv).map_err(of_store)? {
        check_identity(&stored, config)?;
        return Ok(stored);
    }
    let identity = Identity {
        cluster_id: format!("{:016x}{:016x}", env.random.next_u64(), env.random.next_u64()),
        replica: config.id.0,
        cluster: config.cluster.iter().map(|(id, address)| (id.0, address.clone())).collect(),
    };
    let mut batch = Batch::default();
    store::put(&mut batch, &identity).map_err(of_store)?;
    kv.write(batch, Durability::Flushed).await.map_err(|error| of_kv(data_dir, error))?;
    Ok(identity)
}

fn check_identity(stored: &Identity, config: &ReplicaConfig) -> Result<(), OpenError> {
    let cluster: BTreeMap<_, _> =
        stored.cluster.iter().map(|(id, address)| (ReplicaId(*id), address.clone())).collect();
    let data_dir = config.data_dir.clone();
    // A membership of the same cluster changes through the cluster, never by the flag.
    if stored.replica != config.id.0 {
        let (stored, asked) = (ReplicaId(stored.replica), config.id);
        return Err(OpenError::OtherReplica { data_dir, stored, asked });
    }
    if config.cluster != cluster {
        let (cluster_id, asked) = (stored.cluster_id.clone(), config.cluster.clone());
        return Err(OpenError::OtherCluster { data_dir, cluster_id, stored: cluster, asked });
    }
    Ok(())
}

fn folder(data_dir: &Path, reason: &'static str, source: std::io::Error) -> OpenError {
    OpenError::Folder { data_dir: data_dir.to_owned(), reason, source }
}

fn damaged(data_dir: &Path, reason: impl ToString) -> OpenError {
    OpenError::Damaged { data_dir: data_dir.to_owned(), reason: reason.to_string() }
}

fn newer(data_dir: &Path, reason: impl ToString) -> OpenError {
    OpenError::Newer { data_dir: data_dir.to_owned(), reason: reason.to_string() }
}

fn of_kv(data_dir: &Path, error: KvError) -> OpenError {
    match error {
        KvError::Io { operation, source } => folder(data_dir, operation, source),
        // sled panics on some kinds of damage.
        error @ (KvError::Damaged { .. } | KvError::Stopped { .. }) => damaged(data_dir, error),
    }
}

fn of_store(data_dir: &Path, error: StoreError) -> OpenError {
    match error {
        StoreError::Kv(error) => of_kv(data_dir, error),
        error @ StoreError::Version { .. } => newer(data_dir, error),
        error => damaged(data_dir, error),
    }
}

fn of_start(data_dir: &Path, error: StartError) -> OpenError {
    let stopped = |reason| OpenError::Stopped { data_dir: data_dir.to_owned(), reason };
    match error {
        StartError::Store(error) | StartError::Machine(MachineError::Store(error)) => {
            of_store(data_dir, error)
        }
        StartError::Machine(error @ MachineError::Snapshot(DecodeError::Newer { .. })) => {
            newer(data_dir, error)
        }
        StartError::Machine(error @ MachineError::Cpu) => stopped(error.to_string()),
        StartError::Machine(error) => damaged(data_dir, error),
        StartError::Storage(error) => damaged(data_dir, error),
        StartError::Stopped(reason) => stopped(reason),
        StartError::NoLeader => {
            let waited_ms = u64::try_from(StartError::LEAD_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
            OpenError::NoLeader { data_dir: data_dir.to_owned(), waited_ms }
        }
    }
}
