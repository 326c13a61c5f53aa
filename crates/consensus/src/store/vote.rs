//! The highest term seen, and whom this replica gave its vote in it.

use openraft::{LeaderId, Vote};
use serde::{Deserialize, Serialize};

use crate::store::{Family, Single};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredVote {
    pub(crate) term: u64,
    pub(crate) voted_for: Option<u64>,
    /// A quorum granted it: that replica leads the term.
    pub(crate) committed: bool,
}

impl Single for StoredVote {
    const FAMILY: Family = Family::Vote;
    const VERSION: u8 = 1;
    const NAME: &'static str = "the vote record";
}

impl From<&Vote<u64>> for StoredVote {
    fn from(vote: &Vote<u64>) -> Self {
        Self { term: vote.leader_id.term, voted_for: vote.leader_id.voted_for, committed: vote.committed }
    }
}

impl From<StoredVote> for Vote<u64> {
    fn from(vote: StoredVote) -> Self {
        let leader_id = LeaderId { term: vote.term, voted_for: vote.voted_for };
        Self { leader_id, committed: vote.committed }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::tests::check_single;

    proptest! {
        #[test]
        fn round_trips(term: u64, voted_for: Option<u64>, committed: bool) {
            let vote = StoredVote { term, voted_for, committed };
            check_single(&vote);
            prop_assert_eq!(StoredVote::from(&Vote::from(vote)), vote);
        }
    }
}
