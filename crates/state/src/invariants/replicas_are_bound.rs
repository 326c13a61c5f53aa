//! No registered replica is retired, each can apply the version in use, and what is remembered of replicas and of
//! restarts keeps its limits.
//! From: "never reuse a node id with an empty disk"; "switched on by a logged entry once all replicas have it".

use super::{Check, ensure};
use crate::{
    ClusterState,
    limits::{MAX_HISTORY, MAX_NOTE_BYTES, MAX_REPLICAS, MAX_RETIRED_REPLICAS},
};

pub(super) fn check(state: &ClusterState) -> Check {
    let replicas = &state.replicas;
    for (id, record) in &replicas.known {
        ensure(!replicas.is_retired(*id), || format!("replica {id} is registered and retired"))?;
        ensure(record.version >= state.version, || {
            format!("replica {id} knows version {}, and {} is in use", record.version, state.version)
        })?;
    }
    let (known, retired) = (replicas.known.len(), replicas.retired.len());
    ensure(known <= MAX_REPLICAS, || format!("{known} replicas"))?;
    ensure(retired <= MAX_RETIRED_REPLICAS, || format!("{retired} retired replicas"))?;
    ensure(state.history.len() <= MAX_HISTORY, || format!("{} restarts", state.history.len()))?;
    let fits = state.history.iter().all(|(_, note)| note.len() <= MAX_NOTE_BYTES);
    ensure(fits, || "a note of a restart is too long".into())
}

#[cfg(test)]
mod tests {
    use polybolos_model::ReplicaId;

    use super::super::fixture::*;
    use crate::{ClusterState, ReplicaRecord};

    #[test]
    fn a_retired_or_outdated_replica_is_found() {
        let broken: [fn(&mut ClusterState); 4] = [
            |state| state.version = 9,
            |state| {
                state.replicas.known.insert(ReplicaId(3), ReplicaRecord { folder: 1, version: 1 });
            },
            |state| state.history = vec![(0, String::new()); 21],
            |state| state.history = vec![(0, "x".repeat(1_001))],
        ];
        for breaks in broken {
            let mut state = sound();
            assert_eq!(super::check(&state), Ok(()));
            breaks(&mut state);
            assert!(super::check(&state).is_err());
        }
    }
}
