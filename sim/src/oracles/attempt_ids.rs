//! An attempt's name stands for one run of one task: it is launched to one executor only, and starts there once.
//! From: the design, "an attempt's identity is `(leader term, counter)`, unique without a commit".

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{AttemptId, ExecutorId, TaskId, simulation::Fact};

use super::{Check, Oracle, Reference};
use crate::moment::{Moment, What};

#[derive(Debug, Default)]
pub(super) struct AttemptIds {
    launched: BTreeMap<AttemptId, (TaskId, ExecutorId)>,
    started: BTreeSet<AttemptId>,
}

impl Oracle for AttemptIds {
    fn name(&self) -> &'static str {
        "attempt-ids-unique"
    }

    fn on_moment(&mut self, moment: &Moment, _reference: &Reference) -> Check {
        match &moment.what {
            What::Fact(Fact::Launched { executor, task, attempt, .. }) => {
                let new = (*task, executor.clone());
                match self.launched.insert(*attempt, new) {
                    None => Ok(()),
                    Some((first, at)) => Err(format!(
                        "attempt {attempt} was launched for task {first} on {at}, and again for {task} on {executor}"
                    )),
                }
            }
            What::Fact(Fact::AttemptStarted { executor, task, attempt, .. }) => {
                if !self.started.insert(*attempt) {
                    return Err(format!("attempt {attempt} of task {task} started twice, now on {executor}"));
                }
                match self.launched.get(attempt) {
                    Some((of, at)) if of == task && at == executor => Ok(()),
                    Some((of, at)) => Err(format!(
                        "attempt {attempt} runs task {task} on {executor}, and was launched for {of} on {at}"
                    )),
                    None => Err(format!(
                        "attempt {attempt} of task {task} runs on {executor}; nobody launched it"
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    fn launched(number: u64, task: TaskId, counter: u64) -> Fact {
        let (executor, attempt) = (executor(number), attempt(counter));
        Fact::Launched { term: attempt.term, executor, task, attempt }
    }

    fn started(number: u64, task: TaskId, counter: u64) -> Fact {
        let (executor, attempt) = (executor(number), attempt(counter));
        Fact::AttemptStarted { executor, task, attempt, busy: 1, slots: 2 }
    }

    #[test]
    fn two_runs_of_one_name_are_found() {
        let mut lab = Lab::new(AttemptIds::default());
        lab.fact(LEADER, launched(1, task(0, 0), 1)).unwrap();
        lab.fact(LEADER, launched(1, task(0, 1), 2)).unwrap();
        lab.fact("executor-1", started(1, task(0, 0), 1)).unwrap();
        assert!(lab.fact("executor-1", started(1, task(0, 0), 1)).is_err());
        assert!(lab.fact("executor-1", started(1, task(0, 0), 2)).is_err());
        assert!(lab.fact("executor-1", started(1, task(0, 0), 3)).is_err());
        assert!(lab.fact(LEADER, launched(2, task(0, 0), 1)).is_err());
    }
}
