//! Terms, versions, times, numbers, incarnations, epochs, counts and statuses never go back, and an end is for good.
//! From: "identity includes the attempt; status only moves forward".

use super::{Check, ensure};
use crate::{ClusterState, Job, StageRun};

pub(super) fn check(before: &ClusterState, after: &ClusterState) -> Check {
    ensure(before.term <= after.term, || format!("term {} became {}", before.term, after.term))?;
    ensure(before.term_since_ms <= after.term_since_ms, || "the term began earlier than it did".into())?;
    ensure(before.version <= after.version, || {
        format!("version {} became {}", before.version, after.version)
    })?;
    ensure(before.now_ms <= after.now_ms, || format!("{} ms became {} ms", before.now_ms, after.now_ms))?;
    ensure(before.last_incarnation <= after.last_incarnation, || {
        "an incarnation will be given again".into()
    })?;
    ensure(before.jobs.last_number <= after.jobs.last_number, || "a job number will be given again".into())?;
    ensure(before.catalogue.version <= after.catalogue.version, || {
        "the catalogue's version went back".into()
    })?;
    for old in before.executors() {
        let new = after.executor(&old.id);
        ensure(new.is_none_or(|new| old.incarnation <= new.incarnation), || {
            format!("executor {} went back", old.id)
        })?;
        let is_back = new
            .is_some_and(|new| !old.is_present() && new.is_present() && new.incarnation == old.incarnation);
        ensure(!is_back, || format!("executor {} came back from the dead", old.id))?;
    }
    for old in before.jobs() {
        if let Some(new) = after.job(old.id).filter(|new| new.number == old.number) {
            check_job(old, new).map_err(|what| format!("job {}: {what}", old.id))?;
        }
    }
    Ok(())
}

fn check_job(old: &Job, new: &Job) -> Check {
    ensure(old.status <= new.status, || format!("{} became {}", old.status, new.status))?;
    let is_final = !old.status.is_ended() || (old.status == new.status && old.ended_at_ms == new.ended_at_ms);
    ensure(is_final, || format!("{} ended again as {}", old.status, new.status))?;
    ensure(new.released || !old.released, || "it was released and is not any more".into())?;
    ensure(old.revision <= new.revision, || "its revision went back".into())?;
    let is_silent = old.revision == new.revision && old != new;
    ensure(!is_silent, || "it changed and its revision did not".into())?;
    old.runs.iter().zip(&new.runs).try_for_each(|(old, new)| check_run(old, new))
}

fn check_run(old: &StageRun, new: &StageRun) -> Check {
    ensure(old.epoch <= new.epoch && old.reruns <= new.reruns, || {
        "an epoch or a count of re-runs went back".into()
    })?;
    ensure(new.was_complete || !old.was_complete, || "a stage forgot that it was complete".into())?;
    let counts = old.tasks.iter().zip(&new.tasks).all(|(old, new)| old.failures <= new.failures);
    ensure(counts, || "a count of failures went back".into())
}

#[cfg(test)]
mod tests {
    use polybolos_model::Term;

    use super::super::fixture::*;
    use crate::{ClusterState, JobStatus};

    #[test]
    fn steps_back_are_found() {
        let broken: [fn(&mut ClusterState); 8] = [
            |state| state.term = Term(0),
            |state| state.version = 0,
            |state| state.now_ms = 0,
            |state| state.jobs.last_number = 0,
            |state| job(state).status = JobStatus::Queued,
            |state| job(state).revision = 0,
            |state| job(state).sql = "other".into(),
            |state| run(state, 0).was_complete = false,
        ];
        for breaks in broken {
            let before = sound();
            let mut after = before.clone();
            assert_eq!(super::check(&before, &after), Ok(()));
            breaks(&mut after);
            assert!(super::check(&before, &after).is_err());
        }
    }
}
