//! What a fault does for as long as it lasts.

use crate::env::DiskKnobs;

/// A group of hosts, by name.
pub(super) type Group = Vec<String>;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    Link(LinkEffect),
    Disk { host: String, knobs: DiskKnobs },
    CutStreams { host: String, rate: f64 },
    ClockDrift { host: String, ppm: i64 },
    Pause { host: String },
    SlowCpu { host: String, factor: u32 },
    NoMemory { host: String },
    Store { error_rate: f64, extra_ms: u64 },
    Duplicates { rate: f64 },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum LinkEffect {
    /// What `from` send to `to` is lost; connecting is refused.
    Cut {
        from: Group,
        to: Group,
    },
    /// What is sent from and to the host waits.
    Hold {
        host: String,
    },
    Slow {
        host: String,
        latency_ms: u64,
    },
    Lossy {
        host: String,
        rate: f64,
    },
}

impl LinkEffect {
    /// Cuts both ways.
    pub(super) fn between(one: Group, other: Group) -> [Effect; 2] {
        let there = Self::Cut { from: one.clone(), to: other.clone() };
        [Effect::Link(there), Effect::Link(Self::Cut { from: other, to: one })]
    }
}
