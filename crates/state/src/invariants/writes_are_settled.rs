//! A write is staging or publishing while its job is active, and swept after; it is publishing exactly when all its files
//! are staged and the job has not ended; and its job is known, as only that tells how its store is reached.
//! From: "retries, speculation, fail-over, cancel and crash leave no double, no half, no stray file behind".

use super::{Check, ensure};
use crate::{ClusterState, JobStatus, StageRun, WritePhase, limits::MAX_WRITES};

pub(super) fn check(state: &ClusterState) -> Check {
    let writes = &state.extension.v3.writes;
    for (id, write) in writes {
        let job = state.job(*id).ok_or_else(|| format!("there is a write of job {id}, and no job"))?;
        let is_whole = job.runs.last().is_some_and(StageRun::is_complete);
        let fits = match write.phase {
            WritePhase::Staging => !job.status.is_ended() && !is_whole,
            WritePhase::Publishing => !job.status.is_ended() && is_whole,
            WritePhase::Sweeping { since_ms, unpublish } => {
                let is_half = is_whole && job.status != JobStatus::Succeeded;
                job.ended_at_ms == Some(since_ms) && unpublish == is_half
            }
            WritePhase::Over => job.status.is_ended(),
        };
        ensure(fits, || format!("job {id} is {}, and its write is {:?}", job.status, write.phase))?;
        ensure(write.table.is_none() || !job.status.is_ended(), || {
            format!("job {id} is {} and keeps the definition of its table", job.status)
        })?;
    }
    let open = writes.values().filter(|write| write.phase != WritePhase::Over).count();
    ensure(open <= MAX_WRITES, || format!("{open} writes are under way or to be swept"))
}

#[cfg(test)]
mod tests {
    use polybolos_model::{JobId, WriteTarget};

    use super::super::fixture::*;
    use crate::{Write, WritePhase};

    fn write(phase: WritePhase) -> Write {
        let target = WriteTarget { url: "s3://b/".into(), extension: ".csv".into(), single_file: false };
        Write { target, table: None, phase }
    }

    #[test]
    fn a_write_that_does_not_fit_its_job_is_found() {
        let swept = WritePhase::Sweeping { since_ms: 1, unpublish: false };
        for (job, phase, is_sound) in [
            (JOB, WritePhase::Staging, true),
            (JOB, WritePhase::Publishing, false),
            (JOB, swept, false),
            (JOB, WritePhase::Over, false),
            (JobId(999), WritePhase::Over, false),
        ] {
            let mut state = sound();
            state.version = 3;
            state.extension.v3.writes.insert(job, write(phase));
            assert_eq!(super::check(&state).is_ok(), is_sound, "{phase:?}");
        }
    }
}
