//! Read your writes (Terry and others, Session guarantees, 1994): a process sees what it has written itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Case,
    registers::{Writers, said},
};
use crate::{
    HistoryError, Kind, Model, Operation, Outcome, Violation,
    models::{
        canonical,
        job::{JobOp, Status},
        set::SetOp,
    },
    show::words,
};

pub(super) fn check(case: &Case<'_>, outcome: &mut Outcome) -> Result<(), HistoryError> {
    for ops in case.keys.values() {
        match case.options.model {
            Model::Register => register(ops, outcome)?,
            Model::Set => set(ops, outcome)?,
            Model::Job => job(ops, case, outcome)?,
            Model::Mutex | Model::Rows => {}
        }
    }
    Ok(())
}

fn register(ops: &[&Operation], outcome: &mut Outcome) -> Result<(), HistoryError> {
    let writers = Writers::of(ops)?;
    if writers.appended {
        return Ok(());
    }
    let mut own: BTreeMap<u64, (&Operation, String)> = BTreeMap::new();
    for op in ops.iter().copied().filter(|op| op.kind == Kind::Ok) {
        let said = said(op)?;
        if let Some(value) = said.reads {
            outcome.judged += 1;
            if let Some((write, written)) = own.get(&op.process)
                && *written != value
                && writers.is_older(&value, &[write])
            {
                let what =
                    format!("process {} wrote {written}, and then read {value}, which is older", op.process);
                let mut shown = vec![*write, op];
                shown.extend(writers.last(&value));
                outcome.violated(Violation::of(what, &shown));
            }
        }
        if let Some(value) = said.writes {
            own.insert(op.process, (op, value));
        }
    }
    Ok(())
}

fn set(ops: &[&Operation], outcome: &mut Outcome) -> Result<(), HistoryError> {
    let mut own: BTreeMap<u64, BTreeMap<String, &Operation>> = BTreeMap::new();
    for op in ops.iter().copied().filter(|op| op.kind == Kind::Ok) {
        let own = own.entry(op.process).or_default();
        let missing: Vec<&String> = match SetOp::parse(op, true)? {
            Some(SetOp::Add(element)) => {
                own.entry(canonical(&element)).or_insert(op);
                continue;
            }
            Some(SetOp::Read(elements)) => {
                let now: BTreeSet<String> = elements.iter().map(canonical).collect();
                own.keys().filter(|element| !now.contains(*element)).collect()
            }
            Some(SetOp::Contains(element, there)) => {
                let element = canonical(&element);
                own.keys().filter(|own| !there && **own == element).collect()
            }
            None => continue,
        };
        outcome.judged += 1;
        for element in missing {
            let what = format!("process {} added {element}, and later it is not there", op.process);
            outcome.violated(Violation::of(what, &[own[element], op]));
        }
    }
    Ok(())
}

fn job(ops: &[&Operation], case: &Case<'_>, outcome: &mut Outcome) -> Result<(), HistoryError> {
    let mut submitted: BTreeMap<u64, &Operation> = BTreeMap::new();
    let mut cancelled: BTreeMap<u64, &Operation> = BTreeMap::new();
    let released =
        ops.iter().filter(|op| op.f == "release" && op.kind != Kind::Fail).map(|op| op.start_ns).min();
    for op in ops.iter().copied().filter(|op| op.kind == Kind::Ok) {
        match JobOp::parse(op, true)? {
            Some(JobOp::Submit { .. } | JobOp::Query { .. }) => {
                submitted.entry(op.process).or_insert(op);
            }
            Some(JobOp::Cancel { left }) if left.is_none_or(Status::is_end) => {
                cancelled.entry(op.process).or_insert(op);
            }
            Some(JobOp::Status { status, .. }) => {
                outcome.judged += 1;
                let may_be_gone = case.options.ended_may_be_forgotten
                    || released.is_some_and(|start| Some(start) <= op.end_ns);
                let (own, what) = match status {
                    Status::Unknown if may_be_gone => continue,
                    Status::Unknown => (submitted.get(&op.process), "submitted"),
                    Status::Queued | Status::Running => (cancelled.get(&op.process), "cancelled"),
                    Status::Succeeded | Status::Failed | Status::Cancelled => continue,
                };
                if let Some(own) = own {
                    let (process, key, status) = (op.process, words::key(&op.key), status.show());
                    let what = format!("process {process} {what} {key}, and then it is {status}");
                    outcome.violated(Violation::of(what, &[own, op]));
                }
            }
            Some(JobOp::Cancel { .. } | JobOp::Fetch { .. } | JobOp::Release) | None => {}
        }
    }
    Ok(())
}
