//! At most one replica leads in a term, and in one life only: a leader that restarts stands for election anew, or it
//! would name two attempts alike.
//! From: Raft's election safety (Ongaro, "Consensus: Bridging Theory and Practice", §3.4); the design's attempt
//! identities, `(leader term, counter)`.

use std::{collections::BTreeMap, sync::Arc};

use polybolos_model::{Term, simulation::Fact};

use super::{Check, Oracle, Reference};
use crate::moment::{Moment, What};

#[derive(Debug, Default)]
pub(super) struct ElectionSafety {
    leaders: BTreeMap<Term, Arc<str>>,
}

impl Oracle for ElectionSafety {
    fn name(&self) -> &'static str {
        "election-safety"
    }

    fn on_moment(&mut self, moment: &Moment, _reference: &Reference) -> Check {
        let What::Fact(Fact::Elected { term, .. }) = &moment.what else { return Ok(()) };
        match self.leaders.insert(*term, Arc::clone(&moment.host)) {
            None => Ok(()),
            Some(first) => Err(format!("{} leads in term {term}, which {first} did before", moment.host)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn elected(term: u64) -> Fact {
        Fact::Elected { term: Term(term), last_term: Term(0), last_index: 0 }
    }

    #[test]
    fn two_leaders_of_a_term_are_found() {
        let mut lab = Lab::new(ElectionSafety::default());
        lab.fact("scheduler-1", elected(1)).unwrap();
        lab.fact("scheduler-2", elected(2)).unwrap();
        lab.fact("scheduler-1", elected(3)).unwrap();
        assert!(lab.fact("scheduler-3", elected(2)).is_err());
        assert!(lab.fact("scheduler-1", elected(3)).is_err());
    }
}
