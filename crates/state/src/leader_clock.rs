//! The cluster's time as one leader tells it.
//!
//! Entries are stamped with it, and an executor counts as silent by it. Three things would make executors look lost
//! that are not, or hide that one is: the next leader's wall clock is behind or ahead of the last one's, the wall clock
//! is set, or the leader itself stood still (SIGSTOP, a suspended machine) and hears only now what came meanwhile.
//!
//! ```text
//!   begin: the later of the state's time and the wall clock
//!   read:  + monotonic time since the last reading, at most MAX_CLOCK_STEP_MS   (a longer gap is the leader's own)
//!          + a share of what the wall clock is ahead                            (so that it finds back to it slowly)
//! ```
//!
//! Pure: the shell brings both clocks' readings, at each decision.

use crate::{ClusterState, limits::MAX_CLOCK_STEP_MS};

/// See the module. One for each term of leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderClock {
    now_ms: u64,
    /// The monotonic clock's last reading.
    read_at_ms: u64,
}

impl LeaderClock {
    /// When a term begins. `wall_ms` counts from the Unix epoch, `monotonic_ms` from anywhere.
    pub fn begin(state: &ClusterState, wall_ms: u64, monotonic_ms: u64) -> Self {
        Self { now_ms: state.now_ms().max(wall_ms), read_at_ms: monotonic_ms }
    }

    /// The time for [`crate::policy::decide`], in ms since the Unix epoch; never less than before.
    pub fn read(&mut self, wall_ms: u64, monotonic_ms: u64) -> u64 {
        let step_ms = monotonic_ms.saturating_sub(self.read_at_ms).min(MAX_CLOCK_STEP_MS);
        self.read_at_ms = self.read_at_ms.max(monotonic_ms);
        self.now_ms = self.now_ms.saturating_add(step_ms);
        let behind_ms = wall_ms.saturating_sub(self.now_ms);
        self.now_ms = self.now_ms.saturating_add(behind_ms.min(step_ms / 2));
        self.now_ms
    }
}
