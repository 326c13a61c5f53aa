//! The lanes: schedulers, executors, clients, and whoever else the trace knows, in this order.

use std::collections::{BTreeMap, BTreeSet};

use super::chart::{Host, HostIndex};
use crate::{tape::WORLD, trace::Trace};

const ROLES: [&str; 3] = ["scheduler", "executor", "client"];

/// Names to indices.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    lanes: Vec<Host>,
    indices: BTreeMap<String, HostIndex>,
}

fn role(name: &str) -> (usize, &'static str, u64) {
    let (role, number) = name.rsplit_once('-').unwrap_or((name, ""));
    let number = number.parse().unwrap_or(u64::MAX);
    match ROLES.iter().position(|known| *known == role) {
        Some(place) => (place, ROLES[place], number),
        None => (ROLES.len(), "other", number),
    }
}

impl Hosts {
    pub(super) fn of(trace: &Trace) -> Self {
        let cluster = &trace.header.schedule.cluster;
        let counts = [cluster.schedulers, cluster.slots.len() as u64, u64::from(cluster.clients)];
        let planned = ROLES.iter().zip(counts);
        let planned =
            planned.flat_map(|(role, count)| (1..=count).map(move |number| format!("{role}-{number}")));
        let seen = trace.lines.iter().map(|line| line.host.clone());
        let names: BTreeSet<String> = planned.chain(seen).filter(|name| name != WORLD).collect();
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_by_key(|name| {
            let (place, _, number) = role(name);
            (place, number, name.clone())
        });
        let indices = (0..).zip(&names).map(|(index, name)| (name.clone(), index)).collect();
        let lanes = names.into_iter().map(|name| Host { role: role(&name).1, name }).collect();
        Self { lanes, indices }
    }

    pub(super) fn into_lanes(self) -> Vec<Host> {
        self.lanes
    }

    /// Of a name, or of an address, which is a name with a port.
    pub(super) fn index(&self, name: &str) -> HostIndex {
        let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
        self.indices.get(name).or_else(|| self.indices.get(host)).copied().unwrap_or(-1)
    }

    /// Of all hosts that a text names.
    pub(super) fn named_in(&self, text: &str) -> Vec<HostIndex> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let found: BTreeSet<HostIndex> =
            words.map(|word| self.index(word)).filter(|index| *index >= 0).collect();
        found.into_iter().collect()
    }
}
