//! Puts the checks of a model to a history.

use crate::{
    Check, History, HistoryError, Kind, Model, Operation, Report, Verdict,
    checks::{self, Case},
    history::by_key,
    models::{Spec, job::JobOp, mutex::Mutex, register::RegisterOp, rows::RowsOp, set::SetOp},
};

/// What a search may use. It is exhausted rather than endless: then the verdict is [`Verdict::Unknown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Operations that are tried, for each key.
    pub steps: u64,
    /// Configurations that are kept, for each key: about 300 bytes each.
    pub cached: usize,
    /// Operations that are tried to make a violation small, for each key.
    pub shrink_steps: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: 100_000_000, cached: 4_000_000, shrink_steps: 20_000_000 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub model: Model,
    pub checks: Vec<Check>,
    pub budget: Budget,
    /// Whether the engine may forget a job that somebody saw ended, without having been asked to.
    pub ended_may_be_forgotten: bool,
}

impl Options {
    /// All checks of the model.
    pub fn new(model: Model) -> Self {
        Self {
            model,
            checks: Check::of(model).to_vec(),
            budget: Budget::default(),
            ended_may_be_forgotten: false,
        }
    }
}

/// Judges the operations of `history` that are for the model.
///
/// # Errors
/// An operation that the model does not have, or a value that is not as the model wants it.
pub fn check(history: &History, options: &Options) -> Result<Report, HistoryError> {
    let ops = history.of(options.model);
    for op in &ops {
        understand(options.model, op)?;
    }
    let keys = by_key(&ops);
    let case = Case { keys: &keys, options };
    let mut outcomes = Vec::with_capacity(options.checks.len());
    for check in &options.checks {
        outcomes.push(checks::run(*check, &case)?);
    }
    let worst = outcomes.iter().map(|outcome| outcome.verdict).max();
    let mut processes: Vec<u64> = ops.iter().map(|op| op.process).collect();
    processes.sort_unstable();
    processes.dedup();
    Ok(Report {
        model: options.model,
        // Nothing was judged, so nothing was found to be right.
        verdict: worst.filter(|_| !ops.is_empty()).unwrap_or(Verdict::Unknown),
        operations: ops.len(),
        processes: processes.len(),
        keys: keys.len(),
        indeterminate: ops.iter().filter(|op| op.kind == Kind::Info).count(),
        failed: ops.iter().filter(|op| op.kind == Kind::Fail).count(),
        checks: outcomes,
    })
}

fn understand(model: Model, op: &Operation) -> Result<(), HistoryError> {
    let answered = op.kind == Kind::Ok;
    match model {
        Model::Register => RegisterOp::parse(op, answered).map(drop),
        Model::Set => SetOp::parse(op, answered).map(drop),
        Model::Mutex => Mutex.call(op, answered).map(drop),
        Model::Job => JobOp::parse(op, answered).map(drop),
        Model::Rows => RowsOp::parse(op).map(drop),
    }
}
