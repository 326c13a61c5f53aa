//! Whose data folder this is. Written once, before anything else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::store::{Family, Single};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Drawn at random when the cluster began.
    pub(crate) cluster_id: String,
    pub(crate) replica: u64,
    /// The `--cluster` that the folder was made with: addresses by replica.
    pub(crate) cluster: BTreeMap<u64, String>,
}

impl Single for Identity {
    const FAMILY: Family = Family::Identity;
    const VERSION: u8 = 1;
    const NAME: &'static str = "the identity record";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::tests::check_single;

    proptest! {
        #[test]
        fn round_trips(
            cluster_id: String,
            replica: u64,
            cluster in prop::collection::btree_map(any::<u64>(), ".{0,20}", 0..9),
        ) {
            check_single(&Identity { cluster_id, replica, cluster });
        }
    }
}
