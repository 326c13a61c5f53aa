//! Linearizability (Herlihy and Wing, 1990): one search a key.

use super::Case;
use crate::{
    HistoryError, Model, Operation, Outcome, Violation,
    models::{Spec, job::Job, mutex::Mutex, register::Register, set::Set},
    search::{Decision, Problem, decide},
    show::words,
};

pub(super) fn check(case: &Case<'_>, outcome: &mut Outcome) -> Result<(), HistoryError> {
    for (key, ops) in case.keys {
        let ops = ops.as_slice();
        match case.options.model {
            Model::Register => judge(&mut Register::default(), key, ops, case, outcome)?,
            Model::Set => judge(&mut Set::default(), key, ops, case, outcome)?,
            Model::Mutex => judge(&mut Mutex, key, ops, case, outcome)?,
            Model::Job => {
                judge(&mut Job::new(case.options.ended_may_be_forgotten), key, ops, case, outcome)?;
            }
            // Scans of a table that is written meanwhile may see a part: see `rows`.
            Model::Rows => {}
        }
    }
    Ok(())
}

fn judge<S: Spec>(
    spec: &mut S,
    key: &str,
    ops: &[&Operation],
    case: &Case<'_>,
    outcome: &mut Outcome,
) -> Result<(), HistoryError> {
    let problem = Problem::new(spec, ops, |_| false, None)?;
    outcome.judged += problem.required.len() + problem.optional.len();
    let mut budget = case.options.budget;
    if outcome.violations.len() == Outcome::KEPT {
        // It is only counted: to make it small takes time.
        budget.shrink_steps = 0;
    }
    match decide(spec, ops, &problem, &budget)? {
        Decision::Explained => {}
        Decision::Unknown(why) => outcome.unknown(format!("{}: {why}", words::key(key))),
        Decision::Contradiction(window) => {
            let place = |op: &usize| window.ops.iter().position(|kept| kept == op);
            let stuck = ops[window.stuck.op];
            let what = match window.stuck.order.is_empty() {
                true => {
                    format!("{} can't be: no order of these operations explains it", words::operation(stuck))
                }
                false => {
                    format!("{} can't be explained by any order of these operations", words::operation(stuck))
                }
            };
            outcome.violated(Violation {
                key: key.to_owned(),
                what,
                window: window.ops.iter().map(|op| ops[*op].clone()).collect(),
                linearized: window.stuck.order.iter().filter_map(place).collect(),
                stuck: place(&window.stuck.op).into_iter().collect(),
                state: Some(spec.show(&window.stuck.state)),
                anything_before: window.anything_before,
            });
        }
    }
    Ok(())
}
