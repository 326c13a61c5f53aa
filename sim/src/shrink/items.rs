//! Lists: halves of them are taken away, then quarters, then single items.

use super::Shrink;
use crate::schedule::{Op, Schedule};

pub(super) fn ops(shrink: &mut Shrink<'_, '_>) {
    list(shrink, |schedule| &mut schedule.ops);
}

pub(super) fn faults(shrink: &mut Shrink<'_, '_>) {
    list(shrink, |schedule| &mut schedule.faults);
}

pub(super) fn failpoints(shrink: &mut Shrink<'_, '_>) {
    list(shrink, |schedule| &mut schedule.failpoints);
}

/// Delta debugging of one list. From its end, since what comes late depends on what comes early.
pub(super) fn list<T>(shrink: &mut Shrink<'_, '_>, of: impl Fn(&mut Schedule) -> &mut Vec<T>) {
    let mut piece = of(&mut shrink.best).len();
    while piece > 0 {
        let mut end = of(&mut shrink.best).len();
        while end > 0 {
            let start = end.saturating_sub(piece);
            shrink.attempt(|schedule| {
                of(schedule).drain(start..end);
            });
            end = start;
        }
        piece /= 2;
    }
}

/// Whether a statement of any op has this word in it.
pub(super) fn is_used(ops: &[Op], word: &str) -> bool {
    use crate::schedule::Action;
    ops.iter().any(|op| match &op.action {
        Action::Query { sql, .. } | Action::Ddl { sql } => {
            sql.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
        }
        Action::Status => false,
    })
}
