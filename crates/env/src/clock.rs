//! Reading the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The two clocks of a host.
pub trait Clock: Send + Sync {
    /// Never goes back; only differences have a meaning.
    fn now(&self) -> Instant;

    /// Wall time since the Unix epoch. May jump.
    fn wall(&self) -> Duration;

    /// [`Clock::wall`] in whole milliseconds.
    fn wall_ms(&self) -> u64 {
        u64::try_from(self.wall().as_millis()).unwrap_or(u64::MAX)
    }
}

pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the production side of the seam")]
    fn now(&self) -> Instant {
        Instant::now()
    }

    #[allow(clippy::disallowed_methods, reason = "the production side of the seam")]
    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
