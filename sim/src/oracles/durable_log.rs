//! A replica that starts again has every entry that it had applied, and opens its store at all unless that was damaged.
//! From: Raft's persistent state (Ongaro, §3.8): an entry counts once it is durable, so what was applied was durable on
//! this very disk. The design: "a replica whose store fails a check refuses to start".

use std::{collections::BTreeMap, sync::Arc};

use polybolos_model::simulation::Fact;

use super::{Check, Oracle, Reference, disruptions::Disruptions};
use crate::moment::{Moment, What};

/// Faults after which a replica must refuse to start, or may.
const REFUSES: &[&str] = &["corrupt-disk", "remove-replica"];

#[derive(Debug, Default)]
pub(super) struct DurableLog {
    /// The last entry that each host has ever applied.
    applied: BTreeMap<Arc<str>, u64>,
    disruptions: Disruptions,
}

impl Oracle for DurableLog {
    fn name(&self) -> &'static str {
        "durable-log"
    }

    fn on_moment(&mut self, moment: &Moment, reference: &Reference) -> Check {
        self.disruptions.on(moment);
        let host = &moment.host;
        match &moment.what {
            What::Fact(Fact::Applied { index, .. } | Fact::Installed { index, .. }) => {
                let last = self.applied.entry(Arc::clone(host)).or_default();
                *last = (*last).max(*index);
                Ok(())
            }
            What::Fact(Fact::Opened { last_term, last_index }) => {
                let Some(applied) = self.applied.get(host).copied() else { return Ok(()) };
                if *last_index < applied {
                    return Err(format!(
                        "{host} had applied {applied}, and its log now ends at {last_index}"
                    ));
                }
                let term = reference.term_of(applied).filter(|_| *last_index == applied);
                match term.filter(|term| term != last_term) {
                    None => Ok(()),
                    Some(term) => Err(format!(
                        "{host} had applied {applied} of term {term}, and has it now as one of term {last_term}"
                    )),
                }
            }
            What::Refused { reason } if !self.disruptions.ever_hit(host, REFUSES) => {
                Err(format!("{host} refuses to run, though nothing damaged its disk: {reason}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::Term;

    use super::{super::testing::*, *};

    fn opened(last_term: u64, last_index: u64) -> Fact {
        Fact::Opened { last_term: Term(last_term), last_index }
    }

    fn refused() -> What {
        What::Refused { reason: "damaged".to_owned() }
    }

    #[test]
    fn a_log_that_lost_what_was_applied_is_found() {
        let mut lab = Lab::new(DurableLog::default());
        lab.fact(LEADER, opened(0, 0)).unwrap();
        lab.commit(vec![register(1, 1)]).unwrap();
        lab.commit(vec![register(2, 2)]).unwrap();
        lab.fact("scheduler-2", opened(0, 0)).unwrap();
        lab.fact(LEADER, opened(1, 2)).unwrap();
        lab.fact(LEADER, opened(1, 7)).unwrap();
        assert!(lab.fact(LEADER, opened(1, 1)).is_err());
        assert!(lab.fact(LEADER, opened(2, 2)).is_err());
    }

    #[test]
    fn only_a_damaged_replica_may_refuse() {
        let mut lab = Lab::new(DurableLog::default());
        lab.fault(1, "corrupt-disk", "scheduler-2").unwrap();
        lab.happens("scheduler-2", refused()).unwrap();
        assert!(lab.happens("scheduler-1", refused()).is_err());
    }
}
