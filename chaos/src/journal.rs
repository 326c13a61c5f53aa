//! What happened in a run besides what clients saw: `events.jsonl` in its folder.

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    hostile::Toll,
    os::{Clock, OsError},
    workload::CrowdToll,
};

/// Something that happened, in milliseconds since the cluster was ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub at_ms: u64,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    FaultBegins {
        id: u32,
        name: String,
        target: String,
    },
    /// `evidence` is what shows that it acted, or why it could not.
    FaultEnds {
        id: u32,
        name: String,
        target: String,
        acted: bool,
        evidence: String,
    },
    Started {
        node: String,
        life: u32,
    },
    Killed {
        node: String,
    },
    /// Nobody killed it. `excused` names the fault that explains it.
    EndedByItself {
        node: String,
        how: String,
        excused: bool,
    },
    /// A replica says that it leads, and no other of a higher term does.
    Leads {
        node: String,
        term: u64,
    },
    NoLeader,
    /// As the leader's state says: `live`, `lost`, `draining`, `left`, `set aside`.
    Executor {
        node: String,
        state: String,
        reason: String,
    },
    /// All faults have ended.
    Healed,
    /// All is as it should be again, so long after the healing.
    Well {
        after_ms: u64,
    },
    /// All clients have ended.
    AtRest,
    /// What a process has in memory, and has had at most since it began.
    Memory {
        node: String,
        now_mib: u64,
        peak_mib: u64,
    },
    /// What came of one kind of load or hostile input, once all clients have ended.
    Pressed {
        kind: String,
        acted: bool,
        toll: Toll,
    },
    /// What came of a crowd.
    Crowd {
        toll: CrowdToll,
    },
    /// A promise was broken that clients can't see.
    Violation {
        what: String,
    },
    /// For people.
    Note {
        text: String,
    },
}

pub struct Journal {
    pub clock: Clock,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    entries: Vec<Entry>,
    quiet: bool,
}

impl Journal {
    /// # Errors
    /// The file can't be made.
    pub fn open(path: &Path, clock: Clock, quiet: bool) -> Result<Self, OsError> {
        let file = File::create(path).map_err(OsError::file("making", path))?;
        let inner = Inner { file, entries: Vec::new(), quiet };
        Ok(Self { clock, inner: Mutex::new(inner) })
    }

    pub fn note(&self, what: What) {
        let entry = Entry { at_ms: self.clock.ms(), what };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // Too many, and none of them is news by itself.
        let is_told = !inner.quiet && !matches!(entry.what, What::Memory { .. });
        if is_told {
            eprintln!("{:>9.1} s  {}", entry.at_ms as f64 / 1_000.0, entry.what.line());
        }
        // In memory it is kept in any case; the report is written from there.
        if let Ok(line) = serde_json::to_string(&entry) {
            let _written = writeln!(inner.file, "{line}");
        }
        inner.entries.push(entry);
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).entries.clone()
    }
}

impl What {
    /// For people.
    pub fn line(&self) -> String {
        match self {
            Self::FaultBegins { id, name, target } => format!("fault {id} {name} {target} begins"),
            Self::FaultEnds { id, name, target, acted: true, evidence } => {
                format!("fault {id} {name} {target} ends: {evidence}")
            }
            Self::FaultEnds { id, name, target, acted: false, evidence } => {
                format!("fault {id} {name} {target} COULD NOT ACT: {evidence}")
            }
            Self::Started { node, life } => format!("{node} starts (life {life})"),
            Self::Killed { node } => format!("{node} is killed"),
            Self::EndedByItself { node, how, excused } => {
                format!(
                    "{node} ended by itself ({how}){}",
                    if *excused { ", which a fault explains" } else { "" }
                )
            }
            Self::Leads { node, term } => format!("{node} leads in term {term}"),
            Self::NoLeader => "nobody leads".to_owned(),
            Self::Executor { node, state, reason } if reason.is_empty() => format!("{node} is {state}"),
            Self::Executor { node, state, reason } => format!("{node} is {state}: {reason}"),
            Self::Healed => "all faults have ended".to_owned(),
            Self::Well { after_ms } => format!("all is well, {after_ms} ms later"),
            Self::AtRest => "all clients have ended".to_owned(),
            Self::Memory { node, now_mib, peak_mib } => {
                format!("{node} has {now_mib} MiB in memory, and has had {peak_mib}")
            }
            Self::Pressed { kind, toll, .. } => {
                let ends: Vec<String> =
                    toll.ends.iter().map(|(end, count)| format!("{end} {count}")).collect();
                format!("{kind}: {} sent; {}", toll.sent, ends.join(", "))
            }
            Self::Crowd { toll } => format!(
                "a crowd of {}: {} of {} queries answered rightly in {:.1} s",
                toll.clients,
                toll.right,
                toll.queries,
                toll.took_ms as f64 / 1_000.0
            ),
            Self::Violation { what } => format!("VIOLATION: {what}"),
            Self::Note { text } => text.clone(),
        }
    }
}
