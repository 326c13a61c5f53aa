//! What a version added is empty until that version is in use, and refused commands are counted for known executors
//! only, and not when there are none.
//! From: "a feature that changes the format is switched on by a logged entry once all replicas have it".

use super::{Check, ensure};
use crate::{
    ClusterState,
    extension::{Extension, ExtensionV3, ExtensionV4},
};

pub(super) fn check(state: &ClusterState) -> Check {
    let Extension { refused_commands, v3, v4 } = &state.extension;
    ensure(state.version >= 4 || *v4 == ExtensionV4::default(), || {
        format!("version {} is in use, and there is something of version 4", state.version)
    })?;
    ensure(state.version >= 3 || *v3 == ExtensionV3::default(), || {
        format!("version {} is in use, and there is something of version 3", state.version)
    })?;
    ensure(state.version >= 2 || refused_commands.is_empty(), || {
        format!("refused commands are counted at version {}", state.version)
    })?;
    refused_commands.iter().try_for_each(|(executor, count)| {
        let is_known = state.executors.contains_key(executor);
        ensure(is_known && *count > 0, || format!("executor {executor} has {count} refused commands"))
    })
}

#[cfg(test)]
mod tests {
    use polybolos_model::ExecutorId;

    use super::super::fixture::*;
    use crate::ClusterState;

    fn count(state: &mut ClusterState, name: &str, count: u64) {
        state.extension.refused_commands.insert(ExecutorId::new(name).unwrap(), count);
    }

    #[test]
    fn counts_before_their_version_and_of_strangers_are_found() {
        for (version, name, n) in [(1, "a", 1), (2, "a", 0), (2, "z", 1)] {
            let mut state = sound();
            state.version = version;
            assert_eq!(super::check(&state), Ok(()));
            count(&mut state, name, n);
            assert!(super::check(&state).is_err());
        }
        let mut state = sound();
        state.version = 2;
        count(&mut state, "a", 1);
        assert_eq!(super::check(&state), Ok(()));
    }
}
