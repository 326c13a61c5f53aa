//! An executor never runs more attempts at once than it has slots, by its own count and by ours.
//! From: the design, "slots per executor, never exceeded".

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use polybolos_model::{AttemptId, simulation::Fact};

use super::{Check, Oracle, Reference, Rest};
use crate::moment::{Moment, What};

#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Attempts that were started and have not ended, in this life of each host.
    running: BTreeMap<Arc<str>, BTreeSet<AttemptId>>,
}

impl Oracle for Slots {
    fn name(&self) -> &'static str {
        "slots"
    }

    fn on_moment(&mut self, moment: &Moment, _reference: &Reference) -> Check {
        let host = &moment.host;
        match &moment.what {
            What::Up { .. } | What::Down { .. } | What::Exited { .. } => {
                self.running.remove(host);
                Ok(())
            }
            What::Fact(Fact::AttemptStarted { attempt, busy, slots, .. }) => {
                let running = self.running.entry(Arc::clone(host)).or_default();
                running.insert(*attempt);
                if *busy > *slots || running.len() > *slots {
                    let ours = running.len();
                    return Err(format!(
                        "{host} has {slots} slots and runs {ours} attempts ({busy} by its own count)"
                    ));
                }
                Ok(())
            }
            What::Fact(Fact::AttemptEnded { attempt, .. }) => {
                if let Some(running) = self.running.get_mut(host) {
                    running.remove(attempt);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn at_rest(&mut self, rest: &Rest, _reference: &Reference) -> Check {
        for host in &rest.healthy {
            if let Some(attempt) = self.running.get(host.as_str()).and_then(BTreeSet::first) {
                return Err(format!("{host} still runs attempt {attempt}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::simulation::AttemptEnd;

    use super::{super::testing::*, *};

    fn started(counter: u64, busy: usize) -> Fact {
        let (executor, task, attempt) = (executor(1), task(0, 0), attempt(counter));
        Fact::AttemptStarted { executor, task, attempt, busy, slots: 2 }
    }

    fn ended(counter: u64) -> Fact {
        let (executor, task, attempt) = (executor(1), task(0, 0), attempt(counter));
        Fact::AttemptEnded { executor, task, attempt, end: AttemptEnd::Completed }
    }

    #[test]
    fn more_attempts_than_slots_are_found() {
        let mut lab = Lab::new(Slots::default());
        lab.fact("executor-1", started(1, 1)).unwrap();
        lab.fact("executor-1", started(2, 2)).unwrap();
        lab.fact("executor-1", ended(1)).unwrap();
        lab.fact("executor-1", started(3, 2)).unwrap();
        assert!(lab.fact("executor-1", started(4, 2)).is_err());
        assert!(lab.fact("executor-2", started(5, 3)).is_err());
    }

    #[test]
    fn an_attempt_that_never_ends_is_found_at_rest() {
        let mut lab = Lab::new(Slots::default());
        let rest = Rest { healthy: vec!["executor-1".to_owned()], ..Rest::default() };
        lab.fact("executor-1", started(1, 1)).unwrap();
        assert!(lab.at_rest(&rest).is_err());
        lab.at_rest(&Rest::default()).unwrap();
        lab.happens("executor-1", What::Down { power_loss: true }).unwrap();
        lab.at_rest(&rest).unwrap();
    }
}
