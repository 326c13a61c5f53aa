//! Which executor of the recorded fleet is which host.

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::recorded::{Recorded, RecordedEvent};

/// Executors that are simulated at most; those of which the story tells come first.
const MAX_EXECUTORS: usize = 8;
const MAX_SLOTS: u32 = 8;
/// Memory of an executor, within these bounds.
const MEMORY_MIB: std::ops::RangeInclusive<u64> = 64..=1_024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) host: String,
    slots: u32,
    memory_bytes: u64,
    /// It was not there when the story began.
    pub(super) came_later: bool,
}

/// By recorded id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fleet(BTreeMap<String, Member>);

impl Fleet {
    pub(super) fn of(recorded: &Recorded, notes: &mut Vec<String>) -> Self {
        let member =
            |slots, memory_bytes, came_later| Member { host: String::new(), slots, memory_bytes, came_later };
        let mut all: BTreeMap<String, Member> = BTreeMap::new();
        for executor in &recorded.cluster.executors {
            all.insert(executor.executor.clone(), member(executor.slots, executor.memory_bytes, false));
        }
        for line in &recorded.story {
            if let RecordedEvent::ExecutorCame { executor, slots, memory_bytes, .. } = &line.event {
                let came = member(*slots, *memory_bytes, true);
                all.entry(executor.clone()).or_insert(came);
            }
        }
        let told: BTreeSet<&str> =
            recorded.story.iter().filter_map(|line| executor_of(&line.event)).collect();
        let mut names: Vec<String> = all.keys().cloned().collect();
        names.sort_by_key(|name| !told.contains(name.as_str()));
        let beyond = names.len().saturating_sub(MAX_EXECUTORS) + recorded.cluster.executors_left_out as usize;
        if beyond > 0 {
            notes
                .push(format!("{beyond} more executors are left out; at most {MAX_EXECUTORS} are simulated"));
        }
        names.truncate(MAX_EXECUTORS);
        names.sort_unstable();
        if names.is_empty() {
            notes.push("the export names no executor; there is one here".to_owned());
            names.push("executor".to_owned());
            all.insert("executor".to_owned(), member(2, 0, false));
        }
        let mut fleet = BTreeMap::new();
        for (number, name) in (1..).zip(names) {
            if let Some(known) = all.remove(&name) {
                if known.slots > MAX_SLOTS {
                    notes.push(format!("{name} had {} slots; here it has {MAX_SLOTS}", known.slots));
                }
                let host = format!("executor-{number}");
                fleet.insert(name, Member { host, slots: known.slots.clamp(1, MAX_SLOTS), ..known });
            }
        }
        Self(fleet)
    }

    pub(super) fn get(&self, executor: &str) -> Option<&Member> {
        self.0.get(executor)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.0.iter()
    }

    /// In the order of the hosts.
    pub(super) fn slots(&self) -> Vec<u32> {
        self.0.values().map(|member| member.slots).collect()
    }

    /// The least of any: one figure holds for all hosts.
    pub(super) fn memory_mib(&self) -> u64 {
        let least = self.0.values().map(|member| member.memory_bytes >> 20).filter(|mib| *mib > 0).min();
        least.unwrap_or(256).clamp(*MEMORY_MIB.start(), *MEMORY_MIB.end())
    }
}

/// Of whom an event tells.
fn executor_of(event: &RecordedEvent) -> Option<&str> {
    match event {
        RecordedEvent::ExecutorCame { executor, .. }
        | RecordedEvent::ExecutorLost { executor, .. }
        | RecordedEvent::ExecutorDied { executor, .. }
        | RecordedEvent::TaskFailed { executor, .. }
        | RecordedEvent::DrainBegan { executor, .. }
        | RecordedEvent::ExecutorLeft { executor, .. } => Some(executor),
        RecordedEvent::LeaderBegan { .. }
        | RecordedEvent::WorkLost { .. }
        | RecordedEvent::ReportRefused { .. }
        | RecordedEvent::ResultsLost
        | RecordedEvent::Other => None,
    }
}
