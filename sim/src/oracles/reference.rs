//! Replicas that applied the same entries hold the same state, byte for byte.
//!
//! The simulator keeps one replica of its own, without network or disk: it applies each entry when any replica first
//! does. Whoever applies the entry later, or takes over a snapshot, must come to the same hash, and must have applied the
//! same bytes. (Raft's state machine safety: Ongaro, "Consensus: Bridging Theory and Practice", §3.6.3.)

use std::{collections::BTreeMap, sync::Arc};

use polybolos_model::{Term, simulation::Fact};
use polybolos_state::{Applied, ClusterState, Entry};

use crate::moment::{Moment, What};

/// An entry that was applied for the first time.
#[derive(Debug)]
pub struct Commit<'a> {
    pub at_us: u64,
    /// Who applied it first.
    pub host: Arc<str>,
    pub index: u64,
    pub term: Term,
    pub entry: &'a Entry,
    pub applied: &'a Applied,
    pub before: &'a ClusterState,
    pub after: &'a ClusterState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    term: Term,
    crc: u32,
    state_hash: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Reference {
    state: ClusterState,
    before: ClusterState,
    last_index: u64,
    entries: BTreeMap<u64, Known>,
    last: Option<(Entry, Applied)>,
    /// Index that each replica has applied, by host.
    applied: BTreeMap<Arc<str>, u64>,
}

impl Reference {
    /// The state after the last entry that any replica applied.
    pub fn state(&self) -> &ClusterState {
        &self.state
    }

    /// Index of that entry.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// The term of an entry that some replica has applied.
    pub fn term_of(&self, index: u64) -> Option<Term> {
        self.entries.get(&index).map(|known| known.term)
    }

    /// Index that a scheduler has applied since its last start.
    pub fn applied_by(&self, host: &str) -> Option<u64> {
        self.applied.get(host).copied()
    }

    pub(crate) fn on(&mut self, moment: &Moment) -> Result<Option<Commit<'_>>, String> {
        match &moment.what {
            What::Fact(Fact::Applied { index, term, entry, state_hash }) => {
                self.applied.insert(Arc::clone(&moment.host), *index);
                let new = Known { term: *term, crc: crc32fast::hash(entry), state_hash: *state_hash };
                if let Some(known) = self.entries.get(index) {
                    return if *known == new {
                        Ok(None)
                    } else {
                        Err(format!("{} applied {new:?} at index {index}, others {known:?}", moment.host))
                    };
                }
                self.first(moment, *index, *term, entry, *state_hash)?;
                self.entries.insert(*index, new);
                Ok(self.last.as_ref().filter(|_| !entry.is_empty()).map(|(entry, applied)| Commit {
                    at_us: moment.at_us,
                    host: Arc::clone(&moment.host),
                    index: *index,
                    term: *term,
                    entry,
                    applied,
                    before: &self.before,
                    after: &self.state,
                }))
            }
            What::Fact(Fact::Installed { index, term, state_hash }) => {
                self.applied.insert(Arc::clone(&moment.host), *index);
                match self.entries.get(index) {
                    Some(known) if known.term == *term && known.state_hash == *state_hash => Ok(None),
                    Some(known) => Err(format!(
                        "{} took over a snapshot of index {index}, term {term}, hash {state_hash:016x}; others {known:?}",
                        moment.host
                    )),
                    None => Err(format!(
                        "{} took over a snapshot of index {index}, which nobody has applied",
                        moment.host
                    )),
                }
            }
            What::Down { .. } | What::Exited { .. } | What::Up { .. } => {
                self.applied.remove(&moment.host);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn first(
        &mut self,
        moment: &Moment,
        index: u64,
        term: Term,
        entry: &[u8],
        hash: u64,
    ) -> Result<(), String> {
        if index != self.last_index + 1 && self.last_index != 0 {
            return Err(format!("{} applied index {index}, but nobody {}", moment.host, self.last_index + 1));
        }
        self.last_index = index;
        if entry.is_empty() {
            return self.equals(moment, index, hash);
        }
        let decoded = Entry::decode(entry).map_err(|error| {
            format!(
                "{} applied an entry at index {index}, term {term}, that can't be read: {error}",
                moment.host
            )
        })?;
        self.before.clone_from(&self.state);
        let applied = self.state.apply(&decoded);
        self.last = Some((decoded, applied));
        self.equals(moment, index, hash)
    }

    fn equals(&self, moment: &Moment, index: u64, hash: u64) -> Result<(), String> {
        let own = self.state.hash();
        if own == hash {
            return Ok(());
        }
        Err(format!("{} has hash {hash:016x} after index {index}, the reference {own:016x}", moment.host))
    }
}

#[cfg(test)]
mod tests {
    use polybolos_state::Entry;

    use super::{super::testing::*, *};

    fn on(reference: &mut Reference, host: &str, fact: Fact) -> Result<bool, String> {
        let moment = Moment { at_us: 0, host: host.into(), what: What::Fact(fact) };
        reference.on(&moment).map(|commit| commit.is_some())
    }

    /// One entry that was applied at index 1, and the hash of the state after it.
    fn first() -> (Reference, Vec<u8>, u64) {
        let entry = Entry::new(1, Term(1), 0, vec![register(1, 1)]);
        let mut state = ClusterState::default();
        state.apply(&entry);
        let mut reference = Reference::default();
        let bytes = entry.encode().unwrap();
        assert_eq!(
            on(&mut reference, "scheduler-1", applied(0, 0, &[], ClusterState::default().hash())),
            Ok(false)
        );
        assert_eq!(on(&mut reference, "scheduler-1", applied(1, 1, &bytes, state.hash())), Ok(true));
        (reference, bytes, state.hash())
    }

    #[test]
    fn equal_replicas_pass_in_any_order() {
        let (mut reference, bytes, hash) = first();
        assert_eq!(on(&mut reference, "scheduler-2", applied(1, 1, &bytes, hash)), Ok(false));
        let installed = Fact::Installed { index: 1, term: Term(1), state_hash: hash };
        assert_eq!(on(&mut reference, "scheduler-3", installed), Ok(false));
        assert_eq!(reference.applied_by("scheduler-3"), Some(1));
        assert_eq!(
            (reference.last_index(), reference.term_of(1), reference.term_of(2)),
            (1, Some(Term(1)), None)
        );
    }

    #[test]
    fn replicas_that_differ_are_found() {
        let (_, bytes, hash) = first();
        let other = Entry::new(1, Term(1), 0, vec![register(2, 2)]).encode().unwrap();
        let wrong = [
            applied(1, 1, &bytes, hash + 1),
            applied(1, 2, &bytes, hash),
            applied(1, 1, &other, hash),
            applied(3, 1, &bytes, hash),
            applied(2, 1, &other, hash),
            applied(2, 1, b"no entry", hash),
            Fact::Installed { index: 1, term: Term(1), state_hash: hash + 1 },
            Fact::Installed { index: 5, term: Term(1), state_hash: hash },
        ];
        for fact in wrong {
            let (mut reference, ..) = first();
            assert!(on(&mut reference, "scheduler-2", fact.clone()).is_err(), "{fact:?}");
        }
    }
}
