//! What still has to happen: for the promise that everything pending finishes once faults stop.
//! From: issue 4, "after faults stop … everything pending finishes within a stated simulated time".
//!
//! The run loop knows the time; here it is only known what is pending.

use std::collections::{BTreeMap, BTreeSet};

use super::Reference;
use crate::{
    moment::{ClientEvent, Moment, What},
    schedule::{Action, Schedule},
};

#[derive(Debug)]
struct Waiting {
    client: String,
    what: String,
    began_at_us: Option<u64>,
    ended: bool,
}

/// Ops that have not ended, of clients that live.
#[derive(Debug)]
pub(super) struct Pending {
    waiting: BTreeMap<u32, Waiting>,
    /// Clients that are not there.
    gone: BTreeSet<String>,
}

impl Pending {
    pub(super) fn new(schedule: &Schedule) -> Self {
        let what = |action: &Action| match action {
            Action::Query { sql, .. } | Action::Ddl { sql } => sql.clone(),
            Action::Status => "a status read".to_owned(),
        };
        let waiting = schedule.ops.iter().map(|op| {
            let client = format!("client-{}", op.client);
            (op.id, Waiting { client, what: what(&op.action), began_at_us: None, ended: false })
        });
        Self { waiting: waiting.collect(), gone: BTreeSet::new() }
    }

    pub(super) fn on(&mut self, moment: &Moment) {
        match &moment.what {
            What::Client(ClientEvent::Invoked { op, .. }) => {
                if let Some(waiting) = self.waiting.get_mut(op) {
                    waiting.began_at_us = Some(moment.at_us);
                }
            }
            // Also after a failure: a result that was lost is asked for again.
            What::Client(ClientEvent::Accepted { op, .. }) => self.end(*op, false),
            What::Client(
                ClientEvent::Answered { op, .. }
                | ClientEvent::Done { op }
                | ClientEvent::Failed { op, .. }
                | ClientEvent::Abandoned { op, .. },
            ) => self.end(*op, true),
            // What it had begun it does not know any more.
            What::Down { .. } => {
                self.waiting
                    .retain(|_, waiting| *waiting.client != *moment.host || waiting.began_at_us.is_none());
                self.gone.insert(moment.host.to_string());
            }
            What::Up { .. } => {
                self.gone.remove(moment.host.as_ref());
            }
            _ => {}
        }
    }

    fn end(&mut self, op: u32, ended: bool) {
        if let Some(waiting) = self.waiting.get_mut(&op) {
            waiting.ended = ended;
        }
    }

    /// In words; empty when nothing is pending.
    pub(super) fn describe(&self, reference: &Reference) -> String {
        let waiting = self.waiting.iter().filter(|(_, one)| !one.ended && !self.gone.contains(&one.client));
        let ops = waiting.map(|(op, Waiting { client, what, began_at_us, .. })| match began_at_us {
            Some(at_us) => format!("op {op} of {client} since {} ms: {what}", at_us / 1_000),
            None => format!("op {op} of {client}, which has not begun: {what}"),
        });
        let jobs = reference.state().active_jobs().map(|job| {
            let (done, total) = (job.tasks_done(), job.tasks_total());
            format!("job {} is {}, {done} of {total} tasks are done", job.id, job.status)
        });
        let distinct: BTreeSet<String> = ops.chain(jobs).collect();
        distinct.into_iter().collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::testing::*, *};

    fn moment(host: &str, what: What) -> Moment {
        Moment { at_us: 5_000, host: Arc::from(host), what }
    }

    #[test]
    fn ops_without_an_end_are_named_unless_their_client_died() {
        let op = |client: &str| Waiting {
            client: client.to_owned(),
            what: "SELECT 1".to_owned(),
            began_at_us: None,
            ended: false,
        };
        let waiting = [(1, op("client-1")), (2, op("client-2")), (3, op("client-1"))].into_iter().collect();
        let mut pending = Pending { waiting, gone: BTreeSet::new() };
        pending.on(&moment("client-1", What::Client(invoked(1))));
        pending.on(&moment("client-1", What::Client(ClientEvent::Done { op: 3 })));
        pending.on(&moment("client-2", What::Down { power_loss: false }));
        let reference = Reference::default();
        assert_eq!(pending.describe(&reference), "op 1 of client-1 since 5 ms: SELECT 1");
        pending.on(&moment("client-1", What::Client(accepted(3, JOB, None))));
        assert!(pending.describe(&reference).contains("op 3 "), "it was asked for again");
        pending.on(&moment("client-1", What::Client(ClientEvent::Done { op: 3 })));
        pending.on(&moment("client-1", What::Client(ClientEvent::Done { op: 1 })));
        assert_eq!(pending.describe(&reference), "");
    }
}
