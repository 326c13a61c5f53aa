//! A search within its budget, which looks at parts when the whole is too much.

use super::{
    Answer, Effort, Problem, Stuck, search,
    shrink::{Evidence, Window, shrink},
};
use crate::{Budget, HistoryError, Operation, models::Spec};

/// What came of the operations of one key.
pub(crate) enum Decision<S> {
    Explained,
    Contradiction(Window<S>),
    Unknown(String),
}

/// Operations of a stretch that is looked at alone, and how many are tried for each.
const STRETCH: usize = 64;
const STRETCH_STEPS: u64 = 200_000;
/// The whole is tried with this part of its steps first.
const FIRST: u64 = 20;

/// `problem` is made of all `ops`.
///
/// A contradiction in the middle of a long history makes the search try every order of everything before. So a search that
/// finds nothing soon makes way for one of short stretches, each from any state, where a contradiction is soon found if its
/// operations are not far apart. Only then it gets all its steps.
///
/// # Errors
/// None that the operations did not give before.
pub(crate) fn decide<S: Spec>(
    spec: &mut S,
    ops: &[&Operation],
    problem: &Problem<S::Call>,
    budget: &Budget,
) -> Result<Decision<S::State>, HistoryError> {
    let shrinking = || Effort { steps_left: budget.shrink_steps, ..Effort::new(budget) };
    let whole = |spec: &mut S, part: u64| {
        let full = Effort::new(budget);
        let cached = full.cached / usize::try_from(part).unwrap_or(1);
        let mut effort = Effort { steps_left: full.steps_left / part, cached, ..full };
        let initial = spec.initial();
        search(spec, problem, initial, &mut effort)
    };
    for part in [FIRST, 1] {
        match whole(spec, part) {
            Answer::Found => return Ok(Decision::Explained),
            Answer::Impossible(stuck) => {
                return Ok(Decision::Contradiction(shrink(
                    spec,
                    ops,
                    Evidence::all(ops),
                    stuck,
                    shrinking(),
                )));
            }
            Answer::Unknown(why) if part == 1 => return Ok(Decision::Unknown(why)),
            Answer::Unknown(_) => {}
        }
        if let Some(Stretch { evidence, stuck }) = stretches(spec, ops, budget)? {
            return Ok(Decision::Contradiction(shrink(spec, ops, evidence, stuck, shrinking())));
        }
    }
    Ok(Decision::Unknown("the search ended without an answer".to_owned()))
}

/// A part of the operations that nothing explains.
struct Stretch<S> {
    evidence: Evidence,
    stuck: Stuck<S>,
}

/// The first such part.
fn stretches<S: Spec>(
    spec: &mut S,
    ops: &[&Operation],
    budget: &Budget,
) -> Result<Option<Stretch<S::State>>, HistoryError> {
    let Some(anything) = spec.anything() else { return Ok(None) };
    let all = Evidence::all(ops);
    let starts: Vec<u64> = all.keep.iter().map(|op| ops[*op].start_ns).collect();
    let mut steps_left = budget.steps;
    for first in (0..starts.len()).step_by(STRETCH / 2) {
        let until_ns = starts[(first + STRETCH).min(starts.len() - 1)];
        let stretch = all.from(ops, starts[first]).until(ops, until_ns);
        let kept: Vec<&Operation> = stretch.keep.iter().map(|op| ops[*op]).collect();
        let problem = Problem::new(spec, &kept, |index| stretch.weak[stretch.keep[index]], None)?;
        let mut effort = Effort { steps_left: steps_left.min(STRETCH_STEPS), ..Effort::new(budget) };
        let before = effort.steps_left;
        if let Answer::Impossible(stuck) = search(spec, &problem, anything.clone(), &mut effort) {
            let stuck = stuck.renamed(&stretch.keep);
            return Ok(Some(Stretch { evidence: stretch, stuck }));
        }
        steps_left -= before - effort.steps_left;
        if steps_left == 0 {
            break;
        }
    }
    Ok(None)
}
