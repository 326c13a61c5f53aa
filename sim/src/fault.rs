//! What may go wrong, by name. Plain data: `faults/` does it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whom a fault hits. In text: `scheduler-1`, `executor-2`, `client-1`, or a role, which is looked up when the fault
/// begins: `leader`, `follower` (one that does not lead, drawn from the fault's seed), `scheduler`, `executor`,
/// `client` (any one, drawn from the fault's seed).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Target(pub String);

impl Target {
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which way a link is cut, as seen from the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    Both,
    /// What others send to it is lost.
    In,
    /// What it sends is lost.
    Out,
}

/// One kind of fault with its parameters. Rates are probabilities in `0.0..=1.0`; times are simulated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// The process dies at once and starts again when the fault ends. With `power_loss` peers see no clean close and
    /// what was not synced is lost, torn at a byte drawn from the fault's seed; with `wipe` the whole disk is gone
    /// (executors only: a scheduler replica must not come back under its id).
    Crash {
        target: Target,
        power_loss: bool,
        #[serde(default)]
        wipe: bool,
    },
    /// All hosts but the clients lose their power together.
    PowerCycle,
    /// Each host of a role (`scheduler` or `executor`) restarts in turn, one at a time, each away for `down_ms`.
    RollingRestart { target: Target, down_ms: u64, gap_ms: u64 },
    /// The target can't reach anybody else, and connections to it are refused.
    Isolate { target: Target, way: Way },
    /// The present leader, with one executor and one client, on one side, and everybody else on the other.
    LeaderInMinority,
    /// The schedulers fall in two halves which only the target can reach both.
    Bridge { target: Target },
    /// The target's links go down and come back every `period_ms`.
    Flap { target: Target, period_ms: u64 },
    /// Nothing is refused and nothing arrives; all of it arrives at once when the fault ends.
    BlackHole { target: Target },
    /// Every message from and to the target takes `latency_ms`.
    SlowLink { target: Target, latency_ms: u64 },
    /// Each message from and to the target is lost with this probability. turmoil does not retransmit, so a connection
    /// that lost one is stuck for good.
    LossyLink { target: Target, rate: f64 },
    /// Connections of the target break in the middle of a byte stream, each write with this probability.
    CutStreams { target: Target, rate: f64 },
    /// Disk operations of the target fail with this probability.
    DiskErrors { target: Target, rate: f64 },
    /// Disk operations of the target take `latency_ms` more.
    SlowDisk { target: Target, latency_ms: u64 },
    /// Nothing more can be written.
    DiskFull { target: Target },
    /// The target crashes, and so many bits of files that were synced long ago are flipped. A scheduler replica must
    /// refuse to start; it is down from then on, and a majority has to be left.
    CorruptDisk { target: Target, bits: u32 },
    /// Bits of an executor's shuffle files are flipped while it runs.
    CorruptShuffle { target: Target, bits: u32 },
    /// The wall clock of the target jumps by `by_ms`, for good.
    ClockJump { target: Target, by_ms: i64 },
    /// The wall clock of the target runs fast (or slow, if negative) by `ppm` millionths.
    ClockDrift { target: Target, ppm: i64 },
    /// As by SIGSTOP, seen from outside: what it sends and is sent waits, its disk and CPU work stands still. Its timers
    /// go on, since turmoil can't stop a host.
    Pause { target: Target },
    /// CPU work of the target costs `factor` times as much.
    SlowCpu { target: Target, factor: u32 },
    /// Operators of an executor get no more memory.
    MemoryExhausted { target: Target },
    /// Reads of table files fail with this probability, everywhere.
    StoreErrors { rate: f64 },
    /// Reads of table files take `latency_ms` more, everywhere.
    SlowStore { latency_ms: u64 },
    /// Executors send each report, and leaders each command, a second time with this probability.
    DuplicateDelivery { rate: f64 },
    /// The target, a client, dies for good, in the middle of whatever it does.
    ClientGone { target: Target },
    /// A new scheduler replica with the next free id starts with an empty disk and joins; the fault's end changes
    /// nothing.
    AddReplica,
    /// The target, a scheduler replica, is removed for good, if at least three voters are left without it.
    RemoveReplica { target: Target },
    /// The leader hands over.
    TransferLeadership,
    /// The target, an executor, is asked to leave: by the operator or, as by SIGTERM, on its own host. Its process starts
    /// again a little after it has left.
    DrainExecutor { target: Target, deadline_ms: u64, by_signal: bool },
}

impl Fault {
    /// Whom it hits, if it is one host or role.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Crash { target, .. }
            | Self::RollingRestart { target, .. }
            | Self::Isolate { target, .. }
            | Self::Bridge { target }
            | Self::Flap { target, .. }
            | Self::BlackHole { target }
            | Self::SlowLink { target, .. }
            | Self::LossyLink { target, .. }
            | Self::CutStreams { target, .. }
            | Self::DiskErrors { target, .. }
            | Self::SlowDisk { target, .. }
            | Self::DiskFull { target }
            | Self::CorruptDisk { target, .. }
            | Self::CorruptShuffle { target, .. }
            | Self::ClockJump { target, .. }
            | Self::ClockDrift { target, .. }
            | Self::Pause { target }
            | Self::SlowCpu { target, .. }
            | Self::MemoryExhausted { target }
            | Self::ClientGone { target }
            | Self::RemoveReplica { target }
            | Self::DrainExecutor { target, .. } => Some(target),
            Self::PowerCycle
            | Self::LeaderInMinority
            | Self::StoreErrors { .. }
            | Self::SlowStore { .. }
            | Self::DuplicateDelivery { .. }
            | Self::AddReplica
            | Self::TransferLeadership => None,
        }
    }

    /// The name by which scenarios, traces and tables call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crash { power_loss: false, wipe: false, .. } => "crash",
            Self::Crash { power_loss: true, wipe: false, .. } => "power-loss",
            Self::Crash { wipe: true, .. } => "wipe",
            Self::PowerCycle => "power-cycle",
            Self::RollingRestart { .. } => "rolling-restart",
            Self::Isolate { way: Way::Both, .. } => "isolate",
            Self::Isolate { way: Way::In, .. } => "isolate-in",
            Self::Isolate { way: Way::Out, .. } => "isolate-out",
            Self::LeaderInMinority => "leader-in-minority",
            Self::Bridge { .. } => "bridge",
            Self::Flap { .. } => "flap",
            Self::BlackHole { .. } => "black-hole",
            Self::SlowLink { .. } => "slow-link",
            Self::LossyLink { .. } => "lossy-link",
            Self::CutStreams { .. } => "cut-streams",
            Self::DiskErrors { .. } => "disk-errors",
            Self::SlowDisk { .. } => "slow-disk",
            Self::DiskFull { .. } => "disk-full",
            Self::CorruptDisk { .. } => "corrupt-disk",
            Self::CorruptShuffle { .. } => "corrupt-shuffle",
            Self::ClockJump { .. } => "clock-jump",
            Self::ClockDrift { .. } => "clock-drift",
            Self::Pause { .. } => "pause",
            Self::SlowCpu { .. } => "slow-cpu",
            Self::MemoryExhausted { .. } => "memory-exhausted",
            Self::StoreErrors { .. } => "store-errors",
            Self::SlowStore { .. } => "slow-store",
            Self::DuplicateDelivery { .. } => "duplicate-delivery",
            Self::ClientGone { .. } => "client-gone",
            Self::AddReplica => "add-replica",
            Self::RemoveReplica { .. } => "remove-replica",
            Self::TransferLeadership => "transfer-leadership",
            Self::DrainExecutor { .. } => "drain-executor",
        }
    }
}
