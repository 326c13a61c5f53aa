//! All submits with one key are one job: every client is told the same one, and no second one is ever in the state.
//! From: the design, "a retry never makes a second job".

use std::collections::BTreeMap;

use polybolos_model::{IdempotencyKey, JobId};
use polybolos_state::{Change, Command};

use super::{Check, Commit, Oracle, Reference};
use crate::moment::{ClientEvent, Moment, What};

#[derive(Debug, Default)]
pub(super) struct OneJobAKey {
    told: BTreeMap<String, JobId>,
    committed: BTreeMap<IdempotencyKey, JobId>,
}

impl Oracle for OneJobAKey {
    fn name(&self) -> &'static str {
        "one-job-a-key"
    }

    fn on_moment(&mut self, moment: &Moment, _reference: &Reference) -> Check {
        let What::Client(ClientEvent::Accepted { op, job, key: Some(key) }) = &moment.what else {
            return Ok(());
        };
        match self.told.insert(key.clone(), *job) {
            Some(first) if first != *job => {
                Err(format!("op {op} was told job {job} for key '{key}', others {first}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn on_commit(&mut self, commit: &Commit<'_>) -> Check {
        for (command, outcome) in commit.entry.commands.iter().zip(&commit.applied.outcomes) {
            if let Command::SubmitJob { job, key: Some(key), .. }
            | Command::SubmitWrite { job, key: Some(key), .. } = command
                && let Ok(Change::Submitted { .. }) = outcome
                && let Some(first) = self.committed.insert(key.clone(), *job)
            {
                return Err(format!("jobs {first} and {job} were both made for key '{key}'"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use polybolos_state::Applied;

    use super::{super::testing::*, *};

    #[test]
    fn a_second_job_of_a_key_is_found() {
        let mut lab = Lab::new(OneJobAKey::default());
        lab.commit(vec![submit(JOB, Some("a")), submit(JobId(2), Some("a")), submit(JobId(3), Some("b"))])
            .unwrap();
        lab.client(accepted(1, JOB, Some("a"))).unwrap();
        lab.client(accepted(2, JOB, Some("a"))).unwrap();
        lab.client(accepted(3, JobId(3), Some("b"))).unwrap();
        assert!(lab.client(accepted(4, JobId(2), Some("a"))).is_err());

        let entry = polybolos_state::Entry::new(1, lab.term, 0, vec![submit(JobId(9), Some("b"))]);
        let applied = Applied { outcomes: vec![Ok(Change::Submitted { job: JobId(9) })] };
        let (before, after) = (&lab.state, &lab.state);
        let (host, index, term) = (host(LEADER), 9, lab.term);
        let forged = Commit { at_us: 0, host, index, term, entry: &entry, applied: &applied, before, after };
        assert!(lab.oracle.on_commit(&forged).is_err());
    }
}
