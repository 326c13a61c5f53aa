//! The scenarios that come with the simulator: one file each in `sim/scenarios/`.

use std::sync::LazyLock;

/// The one that a campaign uses if nobody names another.
pub const SWARM: &str = "swarm";

/// A scenario by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    pub text: &'static str,
}

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*]
    };
}

/// Names and texts; a test compares them with the folder.
const FILES: &[(&str, &str)] = shipped![
    "all-executors-lost",
    "baseline",
    "black-hole",
    "bridge",
    "cancels",
    "catalogue-changes",
    "client-gone",
    "clock-drift",
    "clock-jump",
    "corrupt-replica",
    "cut-off",
    "disk-errors",
    "disk-full",
    "drains",
    "duplicate-delivery",
    "durable-shuffle",
    "empty-and-skewed",
    "executor-lost",
    "executor-restart-storm",
    "fetch-cut",
    "flapping",
    "indeterminate-outputs",
    "leader-in-minority",
    "leader-killed-after-commit",
    "leader-killed-between-stages",
    "leader-killed-during-submit",
    "limits",
    "long-results",
    "lossy-links",
    "lost-results",
    "membership-change",
    "memory-exhausted",
    "narrow-pipes",
    "one-executor",
    "one-way-in",
    "one-way-out",
    "paused-executor",
    "paused-leader",
    "power-cycle",
    "recovery",
    "replica-joins-as-leader-dies",
    "rolling-restart-executors",
    "rolling-restart-schedulers",
    "shared-key",
    "shuffle-corruption",
    "single-scheduler",
    "slow-disks",
    "slow-executor",
    "slow-links",
    "slow-store",
    "snapshot-catch-up",
    "snapshot-interrupted",
    "store-errors",
    "swarm",
    "torn-writes",
    "transfer-storm",
    "two-of-five-lost",
    "unflushed-entries",
    "votes-lost",
    "writes",
];

static ALL: LazyLock<Vec<Shipped>> = LazyLock::new(|| {
    let shipped = |(name, text): &(&'static str, &'static str)| Shipped { name, about: about(text), text };
    FILES.iter().map(shipped).collect()
});

/// All of them, by name.
pub fn all() -> &'static [Shipped] {
    &ALL
}

/// The sentence of a file: without reading the whole, since a list wants all of them.
fn about(text: &str) -> &str {
    text.lines().find_map(|line| line.strip_prefix("about = \"")?.strip_suffix('"')).unwrap_or_default()
}
