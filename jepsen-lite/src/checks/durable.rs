//! Durable acknowledgement: a job that was acknowledged is never unknown later.

use super::Case;
use crate::{
    HistoryError, Kind, Operation, Outcome, Violation,
    models::job::{JobOp, Status},
    show::words,
};

pub(super) fn check(case: &Case<'_>, outcome: &mut Outcome) -> Result<(), HistoryError> {
    for ops in case.keys.values() {
        let mut known: Option<&Operation> = None;
        let (mut releases, mut ends, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for op in ops {
            if op.f == "release" && op.kind != Kind::Fail {
                releases.push(*op);
            }
            let Some(said) = JobOp::parse(op, op.kind == Kind::Ok)?.filter(|_| op.kind == Kind::Ok) else {
                continue;
            };
            match said.status() {
                Some(Status::Unknown) => unknown.push(*op),
                Some(status) => {
                    outcome.judged += 1;
                    if known.is_none_or(|first| op.end_ns < first.end_ns) {
                        known = Some(op);
                    }
                    if status.is_end() {
                        ends.push(*op);
                    }
                }
                None => {}
            }
        }
        let Some(known) = known else { continue };
        for op in unknown {
            outcome.judged += 1;
            let begun = |other: &&Operation| Some(other.start_ns) <= op.end_ns;
            let forgotten =
                releases.iter().any(begun) || (case.options.ended_may_be_forgotten && ends.iter().any(begun));
            if known.is_before(op) && !forgotten {
                let what = format!("{} was acknowledged and is unknown later", words::key(&op.key));
                outcome.violated(Violation::of(what, &[known, op]));
            }
        }
    }
    Ok(())
}
