//! Whoever is elected has every entry that anybody has applied: its log ends at or after the last of them.
//! From: Raft's leader completeness (Ongaro, "Consensus: Bridging Theory and Practice", §3.6.3). That the entries are
//! the same ones is `replicas-equal`.

use polybolos_model::{Term, simulation::Fact};

use super::{Check, Oracle, Reference};
use crate::moment::{Moment, What};

#[derive(Debug, Default)]
pub(super) struct LeaderCompleteness;

impl Oracle for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader-completeness"
    }

    /// An election is seen a moment late, so the leader may have applied entries of its own term already. One whose term
    /// is over already proves nothing.
    fn on_moment(&mut self, moment: &Moment, reference: &Reference) -> Check {
        let What::Fact(Fact::Elected { term, last_term, last_index }) = &moment.what else { return Ok(()) };
        if reference.term_of(reference.last_index()).is_some_and(|last| last > *term) {
            return Ok(());
        }
        let Some((needed, index)) = before(reference, *term) else { return Ok(()) };
        if (*last_term, *last_index) >= (needed, index) {
            return Ok(());
        }
        Err(format!(
            "{} leads in term {term} with a log that ends at {last_index} of term {last_term}; {index} of term {needed} \
             was applied",
            moment.host
        ))
    }
}

/// The last applied entry of an earlier term than `term`.
fn before(reference: &Reference, term: Term) -> Option<(Term, u64)> {
    let known =
        (0..=reference.last_index()).rev().map_while(|index| Some((reference.term_of(index)?, index)));
    known.into_iter().find(|(of, _)| *of < term)
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn elected(term: u64, last_term: u64, last_index: u64) -> Fact {
        Fact::Elected { term: Term(term), last_term: Term(last_term), last_index }
    }

    #[test]
    fn a_leader_without_an_applied_entry_is_found() {
        let mut lab = Lab::new(LeaderCompleteness);
        lab.fact("scheduler-1", elected(1, 0, 0)).unwrap();
        lab.commit(vec![register(1, 1)]).unwrap();
        lab.commit(vec![register(2, 2)]).unwrap();
        lab.fact("scheduler-2", elected(2, 1, 2)).unwrap();
        assert!(lab.fact("scheduler-3", elected(2, 1, 1)).is_err());
        // A longer log of an older term is no newer one.
        assert!(lab.fact("scheduler-3", elected(3, 0, 9)).is_err());
    }

    #[test]
    fn entries_of_its_own_term_are_no_reproach() {
        let mut lab = Lab::new(LeaderCompleteness);
        lab.commit(vec![register(1, 1)]).unwrap();
        lab.term = Term(2);
        lab.commit(vec![]).unwrap();
        lab.fact("scheduler-2", elected(2, 1, 1)).unwrap();
        // Seen after its successor has committed.
        lab.term = Term(4);
        lab.commit(vec![]).unwrap();
        lab.fact("scheduler-3", elected(3, 1, 1)).unwrap();
    }
}
