//! What a run did, for people and for campaigns.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    moment::{ClientEvent, Moment, What},
    schedule::Schedule,
};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// The oracle's name.
    pub oracle: String,
    pub what: String,
    /// Simulated time since the cluster started.
    pub at_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub seed: u64,
    pub scenario: String,
    pub violation: Option<Broken>,
    pub schedulers: u64,
    pub executors: u64,
    pub clients: u32,
    /// Simulated.
    pub elapsed_ms: u64,
    /// Ops that clients began.
    pub ops: u64,
    /// Queries that were answered, and their rows.
    pub answers: u64,
    pub rows: u64,
    pub failed: u64,
    /// Jobs that were submitted, and those of them that lost an executor before they ended.
    pub jobs: u64,
    pub jobs_hit: u64,
    /// Moments on the tape.
    pub moments: u64,
    /// Faults that began, by name.
    pub faults: BTreeMap<String, u64>,
    /// Faults that could not act, by name.
    pub skipped: BTreeMap<String, u64>,
    /// How often each failpoint was reached.
    pub failpoints: BTreeMap<String, u64>,
    /// What the run covered; see [`crate::coverage`].
    pub marks: BTreeMap<String, u64>,
    /// Hosts that were healed in the end.
    pub healthy: Vec<String>,
}

impl Summary {
    pub(super) fn new(schedule: &Schedule) -> Self {
        Self {
            seed: schedule.seed,
            scenario: schedule.scenario.clone(),
            schedulers: schedule.cluster.schedulers,
            executors: schedule.cluster.slots.len() as u64,
            clients: schedule.cluster.clients,
            ..Self::default()
        }
    }

    pub(super) fn count(&mut self, moment: &Moment) {
        self.moments += 1;
        match &moment.what {
            What::FaultBegins { name, .. } => *self.faults.entry((*name).to_owned()).or_default() += 1,
            What::FaultSkipped { name, .. } => *self.skipped.entry((*name).to_owned()).or_default() += 1,
            What::Client(ClientEvent::Invoked { .. }) => self.ops += 1,
            What::Client(ClientEvent::Answered { rows, .. }) => {
                self.answers += 1;
                self.rows += *rows as u64;
            }
            What::Client(ClientEvent::Failed { .. }) => self.failed += 1,
            _ => {}
        }
    }
}
