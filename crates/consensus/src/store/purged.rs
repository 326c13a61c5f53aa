//! The last entry that was removed from the log because a snapshot holds it.

use serde::{Deserialize, Serialize};

use crate::store::{Family, Single, StoredLogId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Purged(pub(crate) StoredLogId);

impl Single for Purged {
    const FAMILY: Family = Family::Purged;
    const VERSION: u8 = 1;
    const NAME: &'static str = "the purge record";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::tests::check_single;

    proptest! {
        #[test]
        fn round_trips(term: u64, index: u64) {
            check_single(&Purged(StoredLogId { term, index }));
        }
    }
}
