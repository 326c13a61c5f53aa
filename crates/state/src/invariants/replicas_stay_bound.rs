//! While a cluster keeps its name, a replica keeps its folder until it is retired, and a retired id stays so. A name
//! changes with a line of history only.
//! From: "never reuse a node id with an empty disk"; "`recover` is written down in the log".

use super::{Check, ensure};
use crate::ClusterState;

pub(super) fn check(before: &ClusterState, after: &ClusterState) -> Check {
    if before.cluster_id != after.cluster_id {
        let is_founding = before.cluster_id.is_empty();
        return ensure(is_founding || before.history != after.history, || {
            format!("cluster {} became {} without a word", before.cluster_id, after.cluster_id)
        });
    }
    for (id, old) in before.replicas() {
        let is_bound = match after.replica(*id) {
            Some(new) => new.folder == old.folder,
            None => after.is_retired(*id),
        };
        ensure(is_bound, || format!("replica {id} lost its folder"))?;
    }
    before.replicas.retired.iter().try_for_each(|id| {
        ensure(after.is_retired(*id), || format!("replica {id} was retired and is not any more"))
    })
}

#[cfg(test)]
mod tests {
    use polybolos_model::ReplicaId;

    use super::super::fixture::*;
    use crate::{ClusterState, ReplicaRecord};

    #[test]
    fn a_replica_that_changes_its_folder_or_comes_back_is_found() {
        let broken: [fn(&mut ClusterState); 4] = [
            |state| {
                state.replicas.known.insert(ReplicaId(1), ReplicaRecord { folder: 8, version: 2 });
            },
            |state| state.replicas.known.clear(),
            |state| state.replicas.retired.clear(),
            |state| state.cluster_id = "other".into(),
        ];
        for breaks in broken {
            let before = sound();
            let mut after = before.clone();
            assert_eq!(super::check(&before, &after), Ok(()));
            breaks(&mut after);
            assert!(super::check(&before, &after).is_err());
        }
    }
}
