//! What may go wrong, by name. Plain data: `nemesis/` does it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whom a fault hits. In text: `scheduler-1`, `executor-2`, or a role, which is looked up when the fault begins: `leader`,
/// `follower` (one that does not lead, drawn from the fault's seed), `scheduler`, `executor` (any one, likewise).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Target(pub String);

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

/// One kind of fault with its parameters. Those up to `DrainExecutor` are the simulator's, with its names and keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL, and a new start when the fault ends. With `power_loss` what was not synced is lost, or torn; with `wipe` the
    /// whole folder is gone (executors only).
    Crash {
        target: Target,
        power_loss: bool,
        #[serde(default)]
        wipe: bool,
    },
    /// All schedulers and executors lose their power together, and start again when the fault ends.
    PowerCycle,
    /// Each process of a role (`scheduler` or `executor`) restarts in turn by SIGTERM, each away for `down_ms`.
    RollingRestart { target: Target, down_ms: u64, gap_ms: u64 },
    /// Nothing passes between the target and anybody else. (Packets are dropped, connections are not refused.)
    Isolate { target: Target, way: Way },
    /// The present leader and one executor on one side, all others on the other. Clients reach both.
    LeaderInMinority,
    /// The schedulers fall in two halves which only the target can reach both.
    Bridge { target: Target },
    /// The target's links go down and come back every `period_ms`.
    Flap { target: Target, period_ms: u64 },
    /// As `isolate`, both ways.
    BlackHole { target: Target },
    /// Every message from and to the target takes `latency_ms` more.
    SlowLink { target: Target, latency_ms: u64 },
    /// Each packet from and to the target is lost with this probability.
    LossyLink { target: Target, rate: f64 },
    /// The connections of the target break, each read of a proxy with this probability.
    CutStreams { target: Target, rate: f64 },
    /// Calls of the target that write or sync files take `latency_ms` more.
    SlowDisk { target: Target, latency_ms: u64 },
    /// Nothing more can be written.
    DiskFull { target: Target },
    /// The target is killed, and so many bits of its store are flipped. A scheduler replica must refuse to start; it is
    /// removed then, and a new one with an empty folder is added.
    CorruptDisk { target: Target, bits: u32 },
    /// Bits of an executor's shuffle files are flipped while it runs.
    CorruptShuffle { target: Target, bits: u32 },
    /// The wall clock of the target jumps by `by_ms`, for good.
    ClockJump { target: Target, by_ms: i64 },
    /// SIGSTOP, and SIGCONT when the fault ends.
    Pause { target: Target },
    /// A new scheduler replica with the next free id starts with an empty folder and joins; the fault's end changes nothing.
    AddReplica,
    /// The target, a scheduler replica, is removed for good, if at least three voters are left without it.
    RemoveReplica { target: Target },
    /// The leader hands over.
    TransferLeadership,
    /// The target, an executor, is asked to leave: by the operator or by SIGTERM. It starts again after it has left.
    DrainExecutor { target: Target, deadline_ms: u64, by_signal: bool },

    /// All shuffle files of an executor are deleted while it runs.
    DeleteShuffle { target: Target },
    /// The links of the target carry no more than `kbit` kilobits a second, each way.
    Bandwidth { target: Target, kbit: u64 },
    /// The kernel kills an executor for want of memory, by a limit on its control group; it starts again when the fault ends.
    MemoryKill { target: Target },
}

/// Kinds of the simulator that real processes don't have.
pub const SIMULATED_ONLY: &[&str] = &[
    "client-gone",
    "clock-drift",
    "disk-errors",
    "duplicate-delivery",
    "memory-exhausted",
    "slow-cpu",
    "slow-store",
    "store-errors",
];

impl Fault {
    /// Whom it hits, if it is one process or role.
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
            | Self::SlowDisk { target, .. }
            | Self::DiskFull { target }
            | Self::CorruptDisk { target, .. }
            | Self::CorruptShuffle { target, .. }
            | Self::ClockJump { target, .. }
            | Self::Pause { target }
            | Self::RemoveReplica { target }
            | Self::DrainExecutor { target, .. }
            | Self::DeleteShuffle { target }
            | Self::Bandwidth { target, .. }
            | Self::MemoryKill { target } => Some(target),
            Self::PowerCycle | Self::LeaderInMinority | Self::AddReplica | Self::TransferLeadership => None,
        }
    }

    /// The name by which schedules, verdicts and tables call it.
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
            Self::SlowDisk { .. } => "slow-disk",
            Self::DiskFull { .. } => "disk-full",
            Self::CorruptDisk { .. } => "corrupt-disk",
            Self::CorruptShuffle { .. } => "corrupt-shuffle",
            Self::ClockJump { .. } => "clock-jump",
            Self::Pause { .. } => "pause",
            Self::AddReplica => "add-replica",
            Self::RemoveReplica { .. } => "remove-replica",
            Self::TransferLeadership => "transfer-leadership",
            Self::DrainExecutor { .. } => "drain-executor",
            Self::DeleteShuffle { .. } => "delete-shuffle",
            Self::Bandwidth { .. } => "bandwidth",
            Self::MemoryKill { .. } => "memory-kill",
        }
    }

    /// The simulator has none like it.
    pub fn is_only_here(&self) -> bool {
        matches!(self, Self::DeleteShuffle { .. } | Self::Bandwidth { .. } | Self::MemoryKill { .. })
    }

    /// It needs the library that nodes are started with.
    pub fn is_of_the_shim(&self) -> bool {
        matches!(
            self,
            Self::Crash { power_loss: true, .. }
                | Self::PowerCycle
                | Self::SlowDisk { .. }
                | Self::ClockJump { .. }
        )
    }

    /// It needs the messages between processes.
    pub fn is_of_the_network(&self) -> bool {
        matches!(
            self,
            Self::Isolate { .. }
                | Self::LeaderInMinority
                | Self::Bridge { .. }
                | Self::Flap { .. }
                | Self::BlackHole { .. }
                | Self::SlowLink { .. }
                | Self::LossyLink { .. }
                | Self::CutStreams { .. }
                | Self::Bandwidth { .. }
        )
    }
}
