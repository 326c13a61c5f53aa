//! How far the log is known to be committed. May lag: what lies beyond it is found committed by the next election.

use serde::{Deserialize, Serialize};

use crate::store::{Family, Single, StoredLogId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed(pub(crate) StoredLogId);

impl Single for Committed {
    const FAMILY: Family = Family::Committed;
    const VERSION: u8 = 1;
    const NAME: &'static str = "the commit record";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::tests::check_single;

    proptest! {
        #[test]
        fn round_trips(term: u64, index: u64) {
            check_single(&Committed(StoredLogId { term, index }));
        }
    }
}
