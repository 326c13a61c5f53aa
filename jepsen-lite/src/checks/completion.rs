//! Exactly-once visible completion: a job never ends twice differently.

use super::Case;
use crate::{
    HistoryError, Kind, Operation, Outcome, Violation,
    models::job::{JobOp, Status},
    show::words,
};

pub(super) fn check(case: &Case<'_>, outcome: &mut Outcome) -> Result<(), HistoryError> {
    for ops in case.keys.values() {
        let (mut end, mut digest, mut rows) = (None, None, None);
        let mut ends: Vec<&&Operation> = ops.iter().filter(|op| op.kind == Kind::Ok).collect();
        ends.sort_by_key(|op| op.end_ns);
        for op in ends {
            let Some(said) = JobOp::parse(op, true)? else { continue };
            let Some(status) = said.status().filter(|status| status.is_end()) else { continue };
            outcome.judged += 1;
            let answer = said.answer().cloned().unwrap_or_default();
            let other = differs(&mut end, Some(status), op)
                .map(|(first, before)| (first, end_of(before), end_of(status)))
                .or_else(|| {
                    let now = answer.digest.clone();
                    differs(&mut digest, answer.digest, op)
                        .map(|(first, before)| (first, result(&before), result(&now.unwrap_or_default())))
                })
                .or_else(|| {
                    differs(&mut rows, answer.rows, op).map(|(first, before)| {
                        (first, format!("{before} rows"), format!("{} rows", answer.rows.unwrap_or_default()))
                    })
                });
            if let Some((first, before, now)) = other {
                let what = format!("{} ended twice: {before}, then {now}", words::key(&op.key));
                outcome.violated(Violation::of(what, &[first, op]));
            }
        }
    }
    Ok(())
}

fn end_of(status: Status) -> String {
    status.show().to_owned()
}

fn result(digest: &str) -> String {
    format!("with the result {digest}")
}

/// The first that told something else, with what it told. The first to tell anything is kept.
fn differs<'a, T: PartialEq + Clone>(
    first: &mut Option<(&'a Operation, T)>,
    told: Option<T>,
    op: &'a Operation,
) -> Option<(&'a Operation, T)> {
    let told = told?;
    match first {
        Some((_, before)) if *before == told => None,
        Some(other) => Some(other.clone()),
        None => {
            *first = Some((op, told));
            None
        }
    }
}
