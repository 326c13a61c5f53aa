//! A job whose submit was acknowledged is in the state from that moment on, whatever fails.
//! From: the design, "an acknowledged submit survives"; docs/failure-contract.md, "every acknowledged query is there".

use std::collections::BTreeMap;

use polybolos_model::{JobId, limits::MAX_ENDED_JOBS};
use polybolos_state::ClusterState;

use super::{Check, Commit, Oracle, Reference, Rest};
use crate::moment::{ClientEvent, Moment, What};

#[derive(Debug, Default)]
pub(super) struct AcknowledgedSurvives {
    /// Jobs by the first op that was told of them.
    accepted: BTreeMap<JobId, u32>,
}

impl AcknowledgedSurvives {
    fn check(&self, state: &ClusterState) -> Check {
        let missing = self.accepted.iter().find(|(job, _)| state.job(**job).is_none());
        match missing {
            // Then the oldest ended jobs are forgotten.
            Some(_) if state.unfetched_jobs().count() + state.released_jobs().count() >= MAX_ENDED_JOBS => {
                Ok(())
            }
            Some((job, op)) => {
                Err(format!("job {job} was acknowledged to op {op}, and the state does not know it"))
            }
            None => Ok(()),
        }
    }
}

impl Oracle for AcknowledgedSurvives {
    fn name(&self) -> &'static str {
        "acknowledged-survives"
    }

    fn on_moment(&mut self, moment: &Moment, reference: &Reference) -> Check {
        let What::Client(ClientEvent::Accepted { op, job, .. }) = &moment.what else { return Ok(()) };
        self.accepted.entry(*job).or_insert(*op);
        self.check(reference.state())
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        self.check(commit.after)
    }

    fn at_rest(&mut self, _rest: &Rest, reference: &Reference) -> Check {
        self.check(reference.state())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn a_job_that_nobody_committed_is_found() {
        let mut lab = Lab::with_job(AcknowledgedSurvives::default());
        lab.client(accepted(1, JOB, None)).unwrap();
        lab.commit(complete_all()).unwrap();
        lab.at_rest(&Rest::default()).unwrap();
        assert!(lab.client(accepted(2, JobId(7), None)).is_err());
        assert!(lab.commit(vec![]).is_err());
        assert!(lab.at_rest(&Rest::default()).is_err());
    }
}
