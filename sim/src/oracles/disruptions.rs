//! What went wrong and when, for oracles that ask whether an error has a cause.

use std::sync::Arc;

use crate::moment::{Moment, What};

/// So long after its end a fault may still be the cause: a result's reader waits this long for a partition that must be
/// made anew, a call as long for its answer, and both more than that for a dead connection.
const LINGER_US: u64 = 90_000_000;

/// A process that was not there.
pub(super) const DOWN: &str = "down";
/// A failpoint held or cut somebody.
pub(super) const FAILPOINT: &str = "failpoint";

/// Under these a task may fail again and again, or what it made may be lost.
const BREAKS_TASKS: &[&str] = &[
    DOWN,
    FAILPOINT,
    "crash",
    "power-loss",
    "wipe",
    "power-cycle",
    "rolling-restart",
    "isolate",
    "isolate-in",
    "isolate-out",
    "leader-in-minority",
    "flap",
    "black-hole",
    "slow-link",
    "lossy-link",
    "cut-streams",
    "disk-errors",
    "slow-disk",
    "disk-full",
    "corrupt-shuffle",
    "pause",
    "slow-cpu",
    "memory-exhausted",
    "store-errors",
    "slow-store",
];

/// Under these the files of a table can't be read.
const BREAKS_STORE: &[&str] = &["store-errors", "slow-store"];

#[derive(Debug)]
struct Disruption {
    id: Option<u32>,
    name: &'static str,
    target: String,
    until_us: Option<u64>,
}

/// Every fault so far, by when it was over.
#[derive(Debug, Default)]
pub(super) struct Disruptions {
    all: Vec<Disruption>,
}

impl Disruptions {
    pub(super) fn on(&mut self, moment: &Moment) {
        let host = moment.host.as_ref();
        match &moment.what {
            What::FaultBegins { id, name, target } => self.begin(Some(*id), name, target, None),
            What::FaultEnds { id, .. } => self.end(moment.at_us, |one| one.id == Some(*id)),
            What::Down { .. } | What::Exited { .. } | What::Refused { .. } => {
                self.begin(None, DOWN, host, None)
            }
            What::Up { .. } => self.end(moment.at_us, |one| one.name == DOWN && one.target == host),
            What::Failpoint { .. } => self.begin(None, FAILPOINT, host, Some(moment.at_us)),
            _ => {}
        }
    }

    fn begin(&mut self, id: Option<u32>, name: &'static str, target: &str, until_us: Option<u64>) {
        self.all.push(Disruption { id, name, target: target.to_owned(), until_us });
    }

    fn end(&mut self, at_us: u64, which: impl Fn(&Disruption) -> bool) {
        for one in self.all.iter_mut().filter(|one| one.until_us.is_none() && which(one)) {
            // What is damaged stays so until somebody reads it.
            if one.name != "corrupt-shuffle" {
                one.until_us = Some(at_us);
            }
        }
    }

    fn any(&self, since_us: u64, which: impl Fn(&Disruption) -> bool) -> bool {
        let lasts = |one: &Disruption| one.until_us.is_none_or(|until_us| until_us + LINGER_US >= since_us);
        self.all.iter().any(|one| lasts(one) && which(one))
    }

    /// Anything but a client's own end, which concerns nobody else.
    pub(super) fn anything(&self, since_us: u64) -> bool {
        let is_clients_end = |one: &Disruption| {
            one.name == "client-gone" || (one.name == DOWN && one.target.starts_with("client-"))
        };
        self.any(since_us, |one| !is_clients_end(one))
    }

    pub(super) fn breaks_tasks(&self, since_us: u64) -> bool {
        self.any(since_us, |one| BREAKS_TASKS.contains(&one.name))
    }

    pub(super) fn breaks_store(&self, since_us: u64) -> bool {
        self.any(since_us, |one| BREAKS_STORE.contains(&one.name))
    }

    pub(super) fn ever_of(&self, names: &[&str]) -> bool {
        self.all.iter().any(|one| names.contains(&one.name))
    }

    /// Whether a host was ever hit by one of these, or may have been.
    pub(super) fn ever_hit(&self, host: &Arc<str>, names: &[&str]) -> bool {
        let hits =
            |one: &Disruption| one.target == "all" || one.target.split(' ').any(|hit| hit == host.as_ref());
        self.all.iter().any(|one| names.contains(&one.name) && hits(one))
    }
}
