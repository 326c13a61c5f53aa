//! Answers: each result is the one that the oracle gave.

use super::Case;
use crate::{
    HistoryError, Kind, Operation, Outcome, Violation,
    models::job::{JobOp, expected},
    show::words,
};

pub(super) fn check(case: &Case<'_>, outcome: &mut Outcome) -> Result<(), HistoryError> {
    for ops in case.keys.values() {
        // A submit says what every fetch of its job must give.
        let of_key: Option<(&Operation, String)> =
            ops.iter().find_map(|op| Some((*op, expected(op)?)).filter(|_| op.f != "fetch"));
        for op in ops.iter().filter(|op| op.kind == Kind::Ok) {
            let Some(said) = JobOp::parse(op, true)? else { continue };
            let Some(found) = said.answer().and_then(|answer| answer.digest.as_ref()) else { continue };
            let own = expected(op).map(|digest| (*op, digest));
            let Some((asked, expected)) = own.as_ref().or(of_key.as_ref()) else { continue };
            outcome.judged += 1;
            if found != expected {
                let what =
                    format!("{} has the result {found}, the oracle gave {expected}", words::key(&op.key));
                outcome.violated(Violation::of(what, &[asked, op]));
            }
        }
    }
    Ok(())
}
