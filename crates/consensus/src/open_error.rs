//! Why a replica could not start, and what to do about it.

use std::{collections::BTreeMap, io, path::PathBuf};

use polybolos_model::ReplicaId;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("replica {id} is not in --cluster {}", cluster_text(.cluster))]
    NotInCluster { id: ReplicaId, cluster: BTreeMap<ReplicaId, String> },
    #[error("the data folder {} can't be used: {reason}", .data_dir.display())]
    Folder { data_dir: PathBuf, reason: &'static str, source: io::Error },
    #[error(
        "the data folder {} is in use by another process (stop that one, or give this one a folder of its own)",
        .data_dir.display()
    )]
    Locked { data_dir: PathBuf },
    #[error(
        "the data folder {} belongs to replica {stored}, and this is replica {asked} (start with --id {stored}, or with another --data-dir)",
        .data_dir.display()
    )]
    OtherReplica { data_dir: PathBuf, stored: ReplicaId, asked: ReplicaId },
    #[error(
        "the data folder {} belongs to another cluster, or the replica has moved: to cluster {cluster_id} of {}, and not to one of {} (start with that --cluster, or with another --data-dir; a replica that moves is removed and added under another id)",
        .data_dir.display(), cluster_text(.stored), cluster_text(.asked)
    )]
    OtherCluster {
        data_dir: PathBuf,
        cluster_id: String,
        stored: BTreeMap<ReplicaId, String>,
        asked: BTreeMap<ReplicaId, String>,
    },
    #[error(
        "the data folder {} is damaged: {reason}. The replica does not start, since it could contradict what it acknowledged. Remove this replica (`polybolos cluster remove`) and rejoin as a new one, with another --id and an empty --data-dir; a cluster of one is restored from a backup (`polybolos cluster restore`)",
        .data_dir.display()
    )]
    Damaged { data_dir: PathBuf, reason: String },
    #[error("the data folder {} can't be read: {reason} (start a newer version of Polybolos, or the one that wrote it)", .data_dir.display())]
    Newer { data_dir: PathBuf, reason: String },
    #[error("the disk of the data folder {} is full ({free_bytes} bytes are free): make room, then start again", .data_dir.display())]
    Full { data_dir: PathBuf, free_bytes: u64 },
    #[error("the data folder {} keeps its log in another kind of store, {} (start with that one)", .data_dir.display(), .found.display())]
    OtherStore { data_dir: PathBuf, found: PathBuf },
    #[error("the replicated log of {} stopped while it started: {reason}", .data_dir.display())]
    Stopped { data_dir: PathBuf, reason: String },
}

pub(crate) fn cluster_text(cluster: &BTreeMap<ReplicaId, String>) -> String {
    let members: Vec<_> = cluster.iter().map(|(id, address)| format!("{id}={address}")).collect();
    members.join(",")
}
