//! Monotonic reads (Terry and others, Session guarantees, 1994): what a process reads never moves back.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Case,
    registers::{Writers, said},
};
use crate::{
    HistoryError, Kind, Model, Operation, Outcome, Violation,
    models::{canonical, set::SetOp},
    show::words,
};

pub(super) fn check(case: &Case<'_>, outcome: &mut Outcome) -> Result<(), HistoryError> {
    for ops in case.keys.values() {
        match case.options.model {
            Model::Register => register(ops, outcome)?,
            Model::Set => set(ops, outcome)?,
            Model::Mutex | Model::Job | Model::Rows => {}
        }
    }
    Ok(())
}

fn register(ops: &[&Operation], outcome: &mut Outcome) -> Result<(), HistoryError> {
    let writers = Writers::of(ops)?;
    if writers.appended {
        return Ok(());
    }
    let mut last: BTreeMap<u64, (&Operation, String)> = BTreeMap::new();
    for op in ops.iter().copied().filter(|op| op.kind == Kind::Ok) {
        let Some(value) = said(op)?.reads else { continue };
        outcome.judged += 1;
        if let Some((before, newer)) = last.get(&op.process) {
            let writers_before = writers.of_read(newer, before);
            if *newer != value && writers.is_older(&value, &writers_before) {
                let what = format!("process {} read {newer}, and then {value}, which is older", op.process);
                let mut shown = vec![*before, op];
                shown.extend(writers_before);
                shown.extend(writers.last(&value));
                outcome.violated(Violation::of(what, &shown));
            }
        }
        last.insert(op.process, (op, value));
    }
    Ok(())
}

fn set(ops: &[&Operation], outcome: &mut Outcome) -> Result<(), HistoryError> {
    // Process → element → where it was seen.
    let mut seen: BTreeMap<u64, BTreeMap<String, &Operation>> = BTreeMap::new();
    for op in ops.iter().copied().filter(|op| op.kind == Kind::Ok) {
        let seen = seen.entry(op.process).or_default();
        match SetOp::parse(op, true)? {
            Some(SetOp::Read(elements)) => {
                let now: BTreeSet<String> = elements.iter().map(canonical).collect();
                for (element, before) in seen.iter().filter(|(element, _)| !now.contains(*element)) {
                    outcome.violated(lost(element, before, op));
                }
                seen.extend(now.into_iter().map(|element| (element, op)));
            }
            Some(SetOp::Contains(element, there)) => {
                let element = canonical(&element);
                match seen.get(&element) {
                    Some(before) if !there => outcome.violated(lost(&element, before, op)),
                    Some(_) | None => {}
                }
                if there {
                    seen.insert(element, op);
                }
            }
            Some(SetOp::Add(_)) | None => continue,
        }
        outcome.judged += 1;
    }
    Ok(())
}

fn lost(element: &str, before: &Operation, op: &Operation) -> Violation {
    let what = format!("process {} saw {element} in {}, and later no more", op.process, words::key(&op.key));
    Violation::of(what, &[before, op])
}
