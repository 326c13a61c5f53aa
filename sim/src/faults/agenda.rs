//! What is still to be done, in the order of time.

use std::collections::BTreeMap;

use crate::schedule::Planned;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Begin(Planned),
    End {
        id: u32,
    },
    /// A host starts again, if it is still down for `by`.
    Rise {
        host: String,
        by: u32,
    },
    /// A host that is still down for `by` refuses connections from now on.
    Refuse {
        host: String,
        by: u32,
    },
    /// Bits of a host's shuffle files are flipped, once there are any.
    Corrupt {
        id: u32,
        host: String,
        bits: u32,
    },
    /// A flapping link changes.
    Flip {
        id: u32,
        period_ms: u64,
    },
    /// The next of these hosts restarts.
    Roll {
        id: u32,
        hosts: Vec<String>,
        down_ms: u64,
        gap_ms: u64,
    },
}

/// Steps by time; at the same time what ends comes before what begins, and what begins goes by id.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    steps: BTreeMap<(u64, u64), Step>,
    next: u64,
}

/// Ranks of planned faults begin here.
const PLANNED: u64 = 1 << 48;

impl Agenda {
    pub(super) fn new(faults: &[Planned], until_ms: u64) -> Self {
        let planned = faults.iter().filter(|planned| planned.at_ms < until_ms && planned.when.is_none());
        let begin = |planned: &Planned| {
            ((planned.at_ms, PLANNED + u64::from(planned.id)), Step::Begin(planned.clone()))
        };
        Self { steps: planned.map(begin).collect(), next: 0 }
    }

    pub(super) fn add(&mut self, at_ms: u64, step: Step) {
        self.steps.insert((at_ms, self.next), step);
        self.next += 1;
    }

    pub(super) fn end(&mut self, at_ms: u64, id: u32) {
        self.add(at_ms, Step::End { id });
    }

    /// The next step, if it is time for it.
    pub(super) fn due(&mut self, now_ms: u64) -> Option<Step> {
        let first = self.steps.first_entry().filter(|first| first.key().0 <= now_ms)?;
        Some(first.remove())
    }

    /// Nothing begins any more; hosts that are down still rise.
    pub(super) fn calm(&mut self) {
        self.steps.retain(|_, step| matches!(step, Step::Rise { .. } | Step::Refuse { .. }));
    }
}
