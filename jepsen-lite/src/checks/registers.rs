//! Which operation may have put a value into a register.

use std::collections::HashMap;

use crate::{
    HistoryError, Kind, Operation,
    models::{canonical, register::RegisterOp},
};

/// The operations of one register, by what they write.
#[derive(Debug, Default)]
pub(super) struct Writers<'a> {
    by_value: HashMap<String, Vec<&'a Operation>>,
    /// Where texts are appended a value has no single writer: such a register is for the search alone.
    pub(super) appended: bool,
}

/// What an operation says of a register.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) reads: Option<String>,
    pub(super) writes: Option<String>,
}

pub(super) fn said(op: &Operation) -> Result<Said, HistoryError> {
    let (reads, writes) = match RegisterOp::parse(op, op.kind == Kind::Ok)? {
        Some(RegisterOp::Read(value)) => (Some(canonical(&value)), None),
        Some(RegisterOp::Write(value)) => (None, Some(canonical(&value))),
        Some(RegisterOp::Swap(old, new)) => {
            ((op.kind == Kind::Ok).then(|| canonical(&old)), Some(canonical(&new)))
        }
        Some(RegisterOp::Differs(_) | RegisterOp::Append(_)) | None => (None, None),
    };
    Ok(Said { reads, writes })
}

impl<'a> Writers<'a> {
    pub(super) fn of(ops: &[&'a Operation]) -> Result<Self, HistoryError> {
        let mut writers = Self::default();
        for op in ops.iter().copied().filter(|op| op.kind != Kind::Fail) {
            writers.appended |= op.f == "append";
            if let Some(value) = said(op)?.writes {
                writers.by_value.entry(value).or_default().push(op);
            }
        }
        Ok(writers)
    }

    fn of_value(&self, value: &str) -> impl Iterator<Item = &'a Operation> {
        self.by_value.get(value).into_iter().flatten().copied()
    }

    /// Whoever may have written what `read` found; none began after the read had ended.
    pub(super) fn of_read(&self, value: &str, read: &Operation) -> Vec<&'a Operation> {
        self.of_value(value).filter(|writer| !read.is_before(writer) && writer.line != read.line).collect()
    }

    /// Whether the register had `value` only before any of `later` began: each writer of it ended before.
    pub(super) fn is_older(&self, value: &str, later: &[&Operation]) -> bool {
        let was_there = value == "null" || self.of_value(value).next().is_some();
        was_there
            && !later.is_empty()
            && later.iter().all(|later| {
                self.of_value(value).all(|writer| writer.kind == Kind::Ok && writer.is_before(later))
            })
    }

    /// The last writer of a value, to show.
    pub(super) fn last(&self, value: &str) -> Option<&'a Operation> {
        self.of_value(value).max_by_key(|writer| writer.end_ns)
    }
}
