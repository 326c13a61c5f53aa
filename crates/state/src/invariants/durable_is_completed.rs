//! What counts as durable is the output of a completed task of a job that is not released: nothing of an attempt that was
//! undone, and nothing that may be deleted.
//! From: "after a loss readers go there, nothing runs again", and the durable store being given back with the job.

use std::collections::BTreeSet;

use polybolos_model::AttemptId;

use super::{Check, ensure};
use crate::{ClusterState, StageRun};

pub(super) fn check(state: &ClusterState) -> Check {
    for (&id, durable) in &state.extension.v3.durable {
        let job = state.job(id).filter(|job| !job.released);
        let job = job.ok_or_else(|| format!("job {id} is over and has durable outputs"))?;
        ensure(!durable.is_empty(), || format!("job {id} has an empty set of durable outputs"))?;
        let completed: BTreeSet<AttemptId> =
            job.runs.iter().flat_map(StageRun::completed).map(|(_, done)| done.attempt).collect();
        ensure(durable.is_subset(&completed), || {
            format!("of job {id} {durable:?} count as durable, and {completed:?} as completed")
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use polybolos_model::{AttemptId, JobId, Term};

    use super::super::fixture::*;

    #[test]
    fn durable_outputs_of_nobody_are_found() {
        let attempt = AttemptId { term: Term(99), counter: 99 };
        for job in [JobId(1), JobId(999)] {
            let mut state = sound();
            state.version = 3;
            assert_eq!(super::check(&state), Ok(()));
            state.mark_durable(job, attempt);
            assert!(super::check(&state).is_err());
        }
    }
}
