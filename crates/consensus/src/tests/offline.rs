//! Backups restored into new clusters, and lost quorums given up.

use std::collections::BTreeMap;

use polybolos_model::ReplicaId;

use super::{ADDRESS, config, env, leads, open_in, set, term, value};
use crate::{OfflineError, RestoreTarget, open, read_with, recover, restore};

#[tokio::test]
async fn a_backup_makes_a_new_cluster_with_the_same_state() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open_in(folder.path()).await.unwrap();
    set(log.as_ref(), "kept").await;
    let old_id = read_with(log.as_ref(), |state| state.cluster_id().to_owned());
    let old_term = term(log.as_ref());
    let file = log.replicas().unwrap().backup().await.unwrap();
    set(log.as_ref(), "after it").await;
    log.shutdown().await;

    let target = RestoreTarget {
        data_dir: other.path().join("new"),
        id: ReplicaId(5),
        address: "127.0.0.1:7005".to_owned(),
    };
    let restored = restore(&file, target.clone(), &env()).await.unwrap();
    assert_ne!(restored.cluster_id, old_id);
    let again = restore(&file, target.clone(), &env()).await.unwrap_err();
    assert!(matches!(again, OfflineError::NotEmpty { .. }), "{again}");
    let mut damaged = file.clone();
    damaged[40] ^= 1;
    let elsewhere = RestoreTarget { data_dir: other.path().join("no"), ..target.clone() };
    assert!(matches!(restore(&damaged, elsewhere, &env()).await, Err(OfflineError::Backup(_))));

    let cluster = BTreeMap::from([(ReplicaId(5), target.address.clone())]);
    let config = crate::ReplicaConfig::new(ReplicaId(5), cluster, target.data_dir);
    for _ in 0..2 {
        let log = open(config.clone(), &env()).await.unwrap().log;
        leads(log.as_ref()).await;
        assert_eq!(value(log.as_ref()).as_deref(), Some("kept"));
        read_with(log.as_ref(), |state| {
            assert_eq!(state.cluster_id(), restored.cluster_id);
            let history: Vec<_> = state.history().collect();
            assert_eq!(history.len(), 1, "{history:?}");
        });
        assert!(term(log.as_ref()) > old_term);
        set(log.as_ref(), "kept").await;
        log.shutdown().await;
    }
}

#[tokio::test]
async fn a_recovered_replica_goes_on_alone_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = recover(&folder.path().join("none"), &env()).await.unwrap_err();
    assert!(matches!(nothing, OfflineError::Nothing { .. }), "{nothing}");
    let log = open_in(folder.path()).await.unwrap();
    let last = set(log.as_ref(), "kept").await;
    let id = read_with(log.as_ref(), |state| state.cluster_id().to_owned());
    let before = term(log.as_ref());
    log.shutdown().await;
    drop(log);
    let recovered = recover(folder.path(), &env()).await.unwrap();
    assert_eq!((recovered.id, recovered.cluster_id.as_str()), (ReplicaId(1), id.as_str()));
    assert!(recovered.index >= last);
    let log = open(config(folder.path()), &env()).await.unwrap().log;
    leads(log.as_ref()).await;
    assert_eq!(value(log.as_ref()).as_deref(), Some("kept"));
    assert!(term(log.as_ref()).0 > before.0 + 999);
    assert!(read_with(log.as_ref(), |state| state.history().count()) == 1);
    assert_eq!(log.describe().await[0].address, ADDRESS);
}
