//! Why a replica could not start, and what to do about it.

use std::{collections::BTreeMap, io, path::PathBuf};

use polybolos_model::ReplicaId;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("replica {id} is not in --cluster {}", cluster_text(.cluster))]
    NotInCluster { id: ReplicaId, cluster: BTreeMap<ReplicaId, String> },
    #[error(
        "--cluster names {count} replicas; this version runs one and would not replicate to the others (name only this one)"
    )]
    ManyReplicas { count: usize },
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
        "the data folder {} belongs to another cluster: to cluster {cluster_id} of {}, and not to one of {} (start with that --cluster, or with another --data-dir)",
        .data_dir.display(), cluster_text(.stored), cluster_text(.asked)
    )]
    OtherCluster {
        data_dir: PathBuf,
        cluster_id: String,
        stored: BTreeMap<ReplicaId, String>,
        asked: BTreeMap<ReplicaId, String>,
    },
    #[error(
        "the data folder {} is damaged: {reason}. The replica does not start, since it could contradict what it acknowledged. Restore the folder from a copy, or rejoin as a new replica: a new --id and an empty --data-dir (with one replica that is a new, empty cluster)",
        .data_dir.display()
    )]
    Damaged { data_dir: PathBuf, reason: String },
    #[error("the data folder {} can't be read: {reason} (start the version of Polybolos that wrote it, or a newer one)", .data_dir.display())]
    Newer { data_dir: PathBuf, reason: String },
    #[error("the replica did not come to lead its cluster of one within {waited_ms} ms (is the disk of {} slow?)", .data_dir.display())]
    NoLeader { data_dir: PathBuf, waited_ms: u64 },
    #[error("the replicated log of {} stopped while it started: {reason}", .data_dir.display())]
    Stopped { data_dir: PathBuf, reason: String },
}

pub(crate) fn cluster_text(cluster: &BTreeMap<ReplicaId, String>) -> String {
    let members: Vec<_> = cluster.iter().map(|(id, address)| format!("{id}={address}")).collect();
    members.join(",")
}
