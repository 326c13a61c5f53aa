//! Every rule of `polybolos_state::invariants`, of each state and each step.
//! From: the design, "one place decides"; each rule's own file cites its source and tests its violation.

use polybolos_state::invariants;

use super::{Check, Commit, Oracle};

#[derive(Debug, Default)]
pub(super) struct StateInvariants;

impl Oracle for StateInvariants {
    fn name(&self) -> &'static str {
        "state-invariants"
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        let checked = invariants::check(commit.after);
        let checked = checked.and_then(|()| invariants::check_step(commit.before, commit.after));
        checked.map_err(|violation| format!("after index {}: {violation}", commit.index))
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::Term;
    use polybolos_state::{Applied, ClusterState, Entry};

    use super::{super::testing::*, *};

    #[test]
    fn a_step_back_is_found() {
        let mut lab = Lab::with_job(StateInvariants);
        lab.commit(complete_all()).unwrap();
        let (entry, applied) = (Entry::new(1, Term(1), 0, vec![]), Applied::default());
        let (before, after) = (&lab.state, &ClusterState::default());
        let (host, index, term) = (host(LEADER), 9, Term(1));
        let forged = Commit { at_us: 0, host, index, term, entry: &entry, applied: &applied, before, after };
        assert!(StateInvariants.on_commit(&forged).is_err());
    }
}
