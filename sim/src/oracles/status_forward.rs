//! A job's status never goes back and its end is for good, in the log and as clients see it: a read shows at least what
//! was committed before it was asked for, and nothing that is not committed.
//! From: the design, "status only moves forward"; linearizable reads (Ongaro, §6.4).

use std::collections::BTreeMap;

use polybolos_model::JobId;
use polybolos_state::JobStatus;

use super::{Check, Commit, Oracle, Reference};
use crate::moment::{ClientEvent, Moment, What};

#[derive(Debug, Default)]
pub(super) struct StatusForward {
    /// What the log said of each job from which index on, ascending.
    logged: BTreeMap<JobId, Vec<(u64, JobStatus)>>,
    /// The last entry that was applied when an op began.
    begun: BTreeMap<u32, u64>,
    /// What an op has seen last.
    seen: BTreeMap<(u32, JobId), JobStatus>,
}

impl StatusForward {
    fn log(&mut self, index: u64, job: JobId, status: JobStatus) -> Check {
        let logged = self.logged.entry(job).or_default();
        match logged.last() {
            Some((_, last)) if *last == status => return Ok(()),
            Some((_, last)) if last.is_ended() || status < *last => {
                return Err(format!("job {job} became {status} at index {index}; it was {last}"));
            }
            Some(_) | None => logged.push((index, status)),
        }
        Ok(())
    }

    fn seen(&mut self, op: u32, job: JobId, seen: JobStatus, reference: &Reference) -> Check {
        let begun = self.begun.get(&op).copied().unwrap_or_default();
        let logged = self.logged.get(&job).map(Vec::as_slice).unwrap_or_default();
        let floor = logged.iter().rev().find(|(index, _)| *index <= begun).map(|(_, status)| *status);
        let last = logged.last().map(|(_, status)| *status);
        if let Some(floor) = floor.filter(|floor| seen < *floor) {
            return Err(format!(
                "op {op} saw job {job} {seen}, which was {floor} in the log before it asked"
            ));
        }
        let before = self.seen.insert((op, job), seen).filter(|before| seen < *before);
        if let Some(before) = before.filter(|before| !seen.is_ended() || !before.is_ended()) {
            return Err(format!("op {op} saw job {job} {seen} after it had seen it {before}"));
        }
        if !seen.is_ended() {
            return match last {
                Some(last) if last < seen => {
                    Err(format!("op {op} saw job {job} {seen}, and in the log it is {last}"))
                }
                Some(_) | None => Ok(()),
            };
        }
        // A success of which some rows are lost is shown as a failure to whoever comes to read them.
        let is_unreadable = || {
            let known = reference.state().job(job);
            seen == JobStatus::Failed && known.is_some_and(|job| !job.results_lost.is_empty())
        };
        if last.is_none_or(|last| last == seen) || is_unreadable() {
            return Ok(());
        }
        Err(format!(
            "op {op} saw job {job} {seen}, and in the log it is {}",
            last.unwrap_or(JobStatus::Queued)
        ))
    }
}

/// The words of the log, of `jobs list` or of the wire.
fn parse(text: &str) -> Option<JobStatus> {
    let text = text.to_ascii_lowercase();
    let all = [
        JobStatus::Queued,
        JobStatus::Running,
        JobStatus::Succeeded,
        JobStatus::Failed,
        JobStatus::Cancelled,
    ];
    all.into_iter().find(|status| text.ends_with(&status.to_string()))
}

impl Oracle for StatusForward {
    fn name(&self) -> &'static str {
        "status-forward"
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        commit.after.jobs().try_for_each(|job| self.log(commit.index, job.id, job.status))
    }

    fn on_moment(&mut self, moment: &Moment, reference: &Reference) -> Check {
        match &moment.what {
            What::Client(ClientEvent::Invoked { op, .. }) => {
                self.begun.insert(*op, reference.last_index());
                Ok(())
            }
            What::Client(ClientEvent::Status { op, job, status, .. }) => match parse(status) {
                Some(status) => self.seen(*op, *job, status, reference),
                None => Err(format!("op {op} saw job {job} in the unknown status '{status}'")),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn status(op: u32, status: &str) -> ClientEvent {
        ClientEvent::Status { op, job: JOB, status: status.to_owned(), is_terminal: false }
    }

    #[test]
    fn reads_that_fall_behind_the_log_are_found() {
        let mut lab = Lab::with_job(StatusForward::default());
        lab.client(invoked(1)).unwrap();
        lab.commit(vec![complete(1, task(0, 0), 1)]).unwrap();
        // Under way since before.
        lab.client(status(1, "queued")).unwrap();
        lab.client(status(1, "running")).unwrap();
        assert!(lab.client(status(1, "queued")).is_err());
        lab.client(invoked(2)).unwrap();
        lab.client(status(2, "running")).unwrap();
        assert!(lab.client(status(2, "queued")).is_err());
    }

    #[test]
    fn what_only_the_leaders_memory_knows_is_found() {
        let mut lab = Lab::with_job(StatusForward::default());
        lab.client(invoked(1)).unwrap();
        lab.client(status(1, "queued")).unwrap();
        assert!(lab.client(status(1, "running")).is_err());
    }

    #[test]
    fn ends_that_are_not_committed_or_do_not_stay_are_found() {
        let mut lab = Lab::with_job(StatusForward::default());
        lab.client(invoked(1)).unwrap();
        assert!(lab.client(status(1, "succeeded")).is_err());
        lab.commit(complete_all()).unwrap();
        lab.client(invoked(2)).unwrap();
        lab.client(status(2, "JOB_STATE_SUCCEEDED")).unwrap();
        assert!(lab.client(status(2, "running")).is_err());
        assert!(lab.client(status(2, "cancelled")).is_err());
        assert!(lab.client(status(2, "mislaid")).is_err());
        let mut lab = Lab::with_job(StatusForward::default());
        lab.commit(complete_all()).unwrap();
        assert!(lab.oracle.log(9, JOB, JobStatus::Failed).is_err());
        assert!(lab.oracle.log(9, JOB, JobStatus::Running).is_err());
    }

    #[test]
    fn a_result_that_is_lost_may_be_called_a_failure() {
        let mut lab = Lab::with_job(StatusForward::default());
        lab.commit(complete_all()).unwrap();
        lab.client(invoked(1)).unwrap();
        assert!(lab.client(status(1, "failed")).is_err());
        lab.commit(vec![lose(1, 1)]).unwrap();
        lab.client(status(1, "failed")).unwrap();
    }
}
