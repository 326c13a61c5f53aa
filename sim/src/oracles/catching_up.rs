//! Once the faults are over, every healthy replica gets what the others have, by the log or by a snapshot: a majority alone
//! would hide a follower that is stuck for good.
//! From: docs/failure-contract.md ("it catches up by itself, by a snapshot if it was away for long").

use super::{Check, Oracle, Reference, Rest};
use crate::schedule::Schedule;

#[derive(Debug)]
pub(super) struct CatchingUp {
    /// Replicas that the cluster began with have ids up to this.
    first: u64,
    /// Index of the last entry when it was first looked. The log goes on after it.
    goal: Option<u64>,
}

impl CatchingUp {
    pub(super) fn new(schedule: &Schedule) -> Self {
        Self { first: schedule.cluster.schedulers, goal: None }
    }
}

impl Oracle for CatchingUp {
    fn name(&self) -> &'static str {
        "catching-up"
    }

    fn at_rest(&mut self, rest: &Rest, reference: &Reference) -> Check {
        let goal = *self.goal.get_or_insert(reference.last_index());
        for host in &rest.healthy {
            let Some(id) = host.strip_prefix("scheduler-").and_then(|id| id.parse::<u64>().ok()) else {
                continue;
            };
            // One that was to join and has applied nothing may never have been taken in.
            let is_member = |_: &u64| id <= self.first;
            let applied = reference.applied_by(host).or(Some(0).filter(is_member));
            if let Some(applied) = applied.filter(|applied| *applied < goal) {
                return Err(format!("{host} has applied {applied} of {goal} entries"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::simulation::Fact;

    use super::{super::testing::*, *};

    #[test]
    fn a_follower_that_stays_behind_is_found() {
        let mut lab = Lab::with_job(CatchingUp { first: 2, goal: None });
        let snapshot = |lab: &Lab<CatchingUp>| Fact::Installed {
            index: lab.index,
            term: lab.term,
            state_hash: lab.state.hash(),
        };
        let early = snapshot(&lab);
        lab.commit(vec![beat(1, 1, 0, 0)]).unwrap();
        let healthy = [LEADER, "scheduler-2", "scheduler-3"].map(str::to_owned).to_vec();
        let rest = Rest { healthy, ..Rest::default() };
        assert_eq!(lab.at_rest(&rest), Err("scheduler-2 has applied 0 of 2 entries".to_owned()));
        lab.fact("scheduler-2", early).unwrap();
        assert_eq!(lab.at_rest(&rest), Err("scheduler-2 has applied 1 of 2 entries".to_owned()));
        let late = snapshot(&lab);
        lab.fact("scheduler-2", late).unwrap();
        assert_eq!(lab.at_rest(&rest), Ok(()));
    }
}
