//! Idempotent submit: one key makes one job, and a job has one key.

use std::collections::BTreeMap;

use super::Case;
use crate::{HistoryError, Kind, Operation, Outcome, Violation, models::job::JobOp, show::words};

pub(super) fn check(case: &Case<'_>, outcome: &mut Outcome) -> Result<(), HistoryError> {
    let mut owners: BTreeMap<String, &Operation> = BTreeMap::new();
    for ops in case.keys.values() {
        let mut first: Option<(&Operation, String)> = None;
        let mut ends: Vec<&Operation> = ops.iter().copied().filter(|op| op.kind == Kind::Ok).collect();
        ends.sort_by_key(|op| op.end_ns);
        for op in ends {
            let Some(job) = JobOp::parse(op, true)?.and_then(|said| said.job().map(str::to_owned)) else {
                continue;
            };
            outcome.judged += 1;
            match &first {
                Some((before, other)) if *other != job => {
                    let what = format!("{} has two jobs, {other} and {job}", words::key(&op.key));
                    outcome.violated(Violation::of(what, &[before, op]));
                    continue;
                }
                Some(_) => continue,
                None => first = Some((op, job.clone())),
            }
            if let Some(owner) = owners.insert(job.clone(), op) {
                let what = format!(
                    "{} and {} were given the same job, {job}",
                    words::key(&owner.key),
                    words::key(&op.key)
                );
                outcome.violated(Violation::of(what, &[owner, op]));
            }
        }
    }
    Ok(())
}
