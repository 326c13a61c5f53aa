//! Monotonic status: queued, running, ended, and never back, whoever asks, in real time.

use super::Case;
use crate::{
    HistoryError, Kind, Operation, Outcome, Violation,
    models::job::{JobOp, Status},
    show::words,
};

pub(super) fn check(case: &Case<'_>, outcome: &mut Outcome) -> Result<(), HistoryError> {
    for ops in case.keys.values() {
        let mut seen: Vec<(&Operation, u8)> = Vec::new();
        for op in ops.iter().filter(|op| op.kind == Kind::Ok) {
            seen.extend(JobOp::parse(op, true)?.and_then(|said| rank(&said)).map(|rank| (*op, rank)));
        }
        outcome.judged += seen.len();
        let mut by_end = seen.clone();
        by_end.sort_by_key(|(op, _)| op.end_ns);
        seen.sort_by_key(|(op, _)| op.start_ns);
        // The furthest of all that ended before.
        let mut furthest: Option<(&Operation, u8)> = None;
        let mut ended = by_end.into_iter().peekable();
        for (op, rank) in seen {
            while let Some(before) = ended.next_if(|(before, _)| before.is_before(op)) {
                if furthest.is_none_or(|(_, far)| before.1 > far) {
                    furthest = Some(before);
                }
            }
            if let Some((before, _)) = furthest.filter(|(_, far)| rank < *far) {
                let what = format!("{} moved back", words::key(&op.key));
                outcome.violated(Violation::of(what, &[before, op]));
            }
        }
    }
    Ok(())
}

/// How far the job is. A submit says nothing of a job that was there before; whether a job is known is another check's.
fn rank(said: &JobOp) -> Option<u8> {
    match said {
        JobOp::Submit { .. } | JobOp::Release => None,
        JobOp::Cancel { left } => Some(left.map_or(2, of_status)),
        JobOp::Status { status: Status::Unknown, .. } => None,
        JobOp::Status { status, .. } => Some(of_status(*status)),
        JobOp::Fetch { .. } | JobOp::Query { .. } => Some(2),
    }
}

fn of_status(status: Status) -> u8 {
    match status {
        Status::Unknown | Status::Queued => 0,
        Status::Running => 1,
        Status::Succeeded | Status::Failed | Status::Cancelled => 2,
    }
}
