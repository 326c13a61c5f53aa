//! Whose data folder this is. Written before anything else, and once more when the cluster is known.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::store::{Family, Single};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Drawn at random when the cluster began; empty while this replica has not joined one.
    pub(crate) cluster_id: String,
    pub(crate) replica: u64,
    /// What the other replicas reach this one by.
    pub(crate) address: String,
    /// Drawn at random when the folder was made: a replica that comes back without it has lost its disk.
    pub(crate) folder: u64,
    /// The `--cluster` that the folder was made with: addresses by replica.
    pub(crate) bootstrap: BTreeMap<u64, String>,
}

impl Single for Identity {
    const FAMILY: Family = Family::Identity;
    const VERSION: u8 = 2;
    const NAME: &'static str = "the identity record";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        kv::{Batch, Durability, Kv, memory::MemoryKv},
        store::{self, StoreError, tests::check_single},
    };

    proptest! {
        #[test]
        fn round_trips(
            (cluster_id, address) in any::<(String, String)>(),
            (replica, folder) in any::<(u64, u64)>(),
            bootstrap in prop::collection::btree_map(any::<u64>(), ".{0,20}", 0..9),
        ) {
            check_single(&Identity { cluster_id, replica, address, folder, bootstrap });
        }
    }

    #[tokio::test]
    async fn the_layout_of_a_version_that_was_never_released_is_refused() {
        let kv = MemoryKv::default();
        let mut batch = Batch::default();
        batch.put(vec![Family::Identity as u8], store::sealed(Family::Identity, 1, b""));
        kv.write(batch, Durability::Flushed).await.unwrap();
        let error = store::get::<Identity>(&kv).unwrap_err();
        assert!(matches!(error, StoreError::Version { found: 1, known: 2, .. }), "{error}");
        let said = "the identity record has format 1, and this version of Polybolos reads only 2: what is that old \
                    can't be carried over, so begin with an empty data folder";
        assert_eq!(error.to_string(), said);
    }
}
