//! A job has ended exactly when it says when; it failed or was cancelled exactly when it says why; it succeeded
//! exactly when every result partition is complete (and, of a write, published), unless lost ones are made again or were given up, or it is released; only an ended job is
//! released or has lost results; and plans are kept while something may run again.
//! From: "a result stream never repeats or drops a row".

use super::{Check, ensure};
use crate::{ClusterState, Command, Job, JobStatus, StageRun};

pub(super) fn check(state: &ClusterState) -> Check {
    state.jobs().try_for_each(|job| check_job(state, job))
}

fn check_job(state: &ClusterState, job: &Job) -> Check {
    let is_ended = job.status.is_ended();
    let name = || format!("job {} ({})", job.id, job.status);
    let has_reason = matches!(job.status, JobStatus::Failed | JobStatus::Cancelled);
    let is_whole = job.runs.last().is_some_and(StageRun::is_complete);
    ensure(job.ended_at_ms.is_some() == is_ended, || {
        format!("{} has end time {:?}", name(), job.ended_at_ms)
    })?;
    ensure(job.error.is_some() == has_reason, || format!("{} has error {:?}", name(), job.error))?;
    let was_reopened = state.is_reopened(job.id) || state.given_up_for(job.id).is_some() || job.released;
    let has_succeeded = job.status == JobStatus::Succeeded;
    let may_lack = state.version >= Command::REOPEN_VERSION && has_succeeded && was_reopened;
    let may_be_whole = has_succeeded || state.write(job.id).is_some();
    ensure(may_lack || if is_whole { may_be_whole } else { !has_succeeded }, || {
        format!("{}: results whole is {is_whole}", name())
    })?;
    ensure(!job.released || is_ended, || format!("{} is released", name()))?;
    ensure(job.released || !has_reason, || format!("{} keeps outputs for nobody", name()))?;
    ensure(job.results_lost.is_empty() || is_ended, || format!("{} lost results and goes on", name()))?;
    let plans = job.graph.stages.iter().map(|stage| stage.plan.len()).sum::<usize>();
    let may_reopen =
        state.version >= Command::REOPEN_VERSION && job.status == JobStatus::Succeeded && !job.released;
    ensure(plans == 0 || !is_ended || may_reopen, || format!("{} keeps {plans} bytes of plans", name()))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use crate::{ClusterState, JobStatus};

    #[test]
    fn half_an_end_is_found() {
        let broken: [fn(&mut ClusterState); 6] = [
            |state| job(state).status = JobStatus::Succeeded,
            |state| job(state).ended_at_ms = Some(1),
            |state| job(state).released = true,
            |state| job(state).status = JobStatus::Failed,
            |state| job(state).results_lost = [(0, String::new())].into(),
            |state| run(state, 1).open.clear(),
        ];
        for breaks in broken {
            let mut state = sound();
            assert_eq!(super::check(&state), Ok(()));
            breaks(&mut state);
            assert!(super::check(&state).is_err());
        }
    }
}
