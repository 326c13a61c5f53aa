//! Each job is in just one of active, unfetched and history, the one that its status calls for; numbers and keys
//! lead to their jobs and to no others; and the sets keep their limits, but for jobs whose files are still to be swept.
//! From: "an acknowledged submit survives, a retry never makes a second job".

use std::collections::BTreeSet;

use polybolos_model::limits::{MAX_ACTIVE_JOBS, MAX_ENDED_JOBS};

use super::{Check, ensure};
use crate::{ClusterState, Job, apply::reopen::Reopened, limits::MAX_SPENT_KEYS};

pub(super) fn check(state: &ClusterState) -> Check {
    let jobs = &state.jobs;
    for (id, job) in &jobs.by_id {
        ensure(*id == job.id, || format!("job {} is kept as {id}", job.id))?;
        check_job(state, job)?;
    }
    ensure(jobs.order.len() == jobs.by_id.len(), || "the order names jobs that are not there".into())?;
    let sets = jobs.active.len() + jobs.unfetched.len() + jobs.history.len();
    ensure(sets == jobs.by_id.len(), || "a set names jobs that are not there".into())?;
    let keyed = jobs.by_id.values().filter(|job| job.key.is_some()).count();
    ensure(keyed == jobs.keys.len(), || "a key leads nowhere".into())?;
    let spent: BTreeSet<_> = jobs.spent_order.iter().collect();
    ensure(spent.into_iter().eq(jobs.spent.keys()), || "spent keys and their order differ".into())?;
    check_limits(state)
}

fn check_job(state: &ClusterState, job: &Job) -> Check {
    let jobs = &state.jobs;
    let (id, number) = (job.id, job.number);
    ensure(number <= jobs.last_number, || format!("job {id} has number {number}, which was not given"))?;
    ensure(jobs.order.get(&number) == Some(&id), || format!("number {number} does not lead to job {id}"))?;
    let reopened = state.extension.v3.reopened.get(&id).map(|reopening| &reopening.state);
    let is_active = !job.status.is_ended() || reopened == Some(&Reopened::Active);
    let homes = [
        (is_active, jobs.active.contains(&number)),
        (!is_active && !job.released, jobs.unfetched.contains(&number)),
        (job.released, jobs.history.contains(&number)),
    ];
    ensure(homes.iter().all(|(wants, is)| wants == is), || {
        format!("job {id} ({}) is in the wrong set", job.status)
    })?;
    let is_found = job.key.as_ref().is_none_or(|key| jobs.keys.get(key) == Some(&id));
    ensure(is_found, || format!("the key of job {id} does not lead to it"))
}

fn check_limits(state: &ClusterState) -> Check {
    let jobs = &state.jobs;
    let (active, unfetched, history) = (jobs.active.len(), jobs.unfetched.len(), jobs.history.len());
    ensure(active + unfetched <= MAX_ACTIVE_JOBS, || {
        format!("{active} active and {unfetched} unfetched jobs")
    })?;
    let may_go = jobs.numbered(&jobs.history).any(|job| state.extension.v3.is_swept(job.id));
    let fits = unfetched + history <= MAX_ENDED_JOBS || !may_go;
    ensure(fits, || format!("{history} jobs of history beside {unfetched} unfetched ones"))?;
    ensure(jobs.spent_order.len() <= MAX_SPENT_KEYS, || format!("{} spent keys", jobs.spent_order.len()))
}

#[cfg(test)]
mod tests {
    use polybolos_model::{IdempotencyKey, JobId};

    use super::super::fixture::*;
    use crate::{ClusterState, JobStatus};

    #[test]
    fn a_job_that_is_lost_from_an_index_is_found() {
        let broken: [fn(&mut ClusterState); 6] = [
            |state| state.jobs.active.clear(),
            |state| state.jobs.order.clear(),
            |state| job(state).status = JobStatus::Succeeded,
            |state| job(state).number = 2,
            |state| state.jobs.keys.extend([(IdempotencyKey::new("k").unwrap(), JOB)]),
            |state| state.jobs.spent.extend([(IdempotencyKey::new("k").unwrap(), JobId(9))]),
        ];
        for breaks in broken {
            let mut state = sound();
            assert_eq!(super::check(&state), Ok(()));
            breaks(&mut state);
            assert!(super::check(&state).is_err());
        }
    }
}
