//! A result is made again of jobs only that have succeeded and are not released: while it is, some of it is missing and
//! nothing of it counts as lost for good; afterwards it is whole.
//! From: "the final stage's outputs live until fetched or expired".

use super::{Check, ensure};
use crate::{ClusterState, Job, JobStatus, StageRun, apply::reopen::Reopened};

pub(super) fn check(state: &ClusterState) -> Check {
    for (&id, reopening) in &state.extension.v3.reopened {
        let kept = |job: &&Job| job.status == JobStatus::Succeeded && !job.released;
        let job = state.job(id).filter(kept);
        let job = job.ok_or_else(|| format!("job {id} is reopened, and has no result"))?;
        let is_whole = job.runs.last().is_some_and(StageRun::is_complete);
        let is_sound = match &reopening.state {
            Reopened::Active => !is_whole && job.results_lost.is_empty(),
            Reopened::Whole => is_whole,
            Reopened::GivenUp(_) => true,
        };
        ensure(is_sound, || {
            format!("job {id} is reopened as {:?}, and its result is whole: {is_whole}", reopening.state)
        })?;
        ensure(reopening.at_ms <= state.now_ms, || format!("job {id} was reopened in the future"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{apply::reopen::Reopening, transcript::Lab};

    #[test]
    fn half_a_reopening_is_found() {
        let mut lab = Lab::new();
        lab.run_all(&["replica 1 version=3", "raise 3", "register a", "submit 1 one", "complete a 1/0/0 1"]);
        assert_eq!(check(&lab.state), Ok(()));
        let id = lab.state.jobs().next().unwrap().id;
        for (state, at_ms) in [(Reopened::Active, 0), (Reopened::Whole, u64::MAX)] {
            let mut broken = lab.state.clone();
            broken.extension.v3.reopened.insert(id, Reopening { at_ms, state });
            assert!(check(&broken).is_err());
        }
        lab.state.extension.v3.reopened.insert(id, Reopening { at_ms: 0, state: Reopened::Whole });
        assert_eq!(check(&lab.state), Ok(()));
        lab.run("release 1");
        assert_eq!(check(&lab.state), Ok(()));
        lab.state.extension.v3.reopened.insert(id, Reopening { at_ms: 0, state: Reopened::Whole });
        assert!(check(&lab.state).is_err());
    }
}
