//! A host's clocks: the wall clock may be wrong, jump and drift.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use polybolos_env::Clock;
use tokio::time::Instant;

/// How far the wall clock is off. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct SimClock(Arc<Mutex<Wall>>);

#[derive(Debug, Clone, Copy)]
struct Wall {
    /// At `since`.
    offset_us: i128,
    /// How much it runs fast, in millionths.
    drift_ppm: i64,
    /// True time at which the drift began.
    since: Duration,
}

impl Wall {
    fn offset_us(&self, now: Duration) -> i128 {
        let elapsed = i128::try_from(now.saturating_sub(self.since).as_micros()).unwrap_or(i128::MAX);
        self.offset_us + elapsed * i128::from(self.drift_ppm) / 1_000_000
    }

    fn read(&self, now: Duration) -> Duration {
        let us = i128::try_from(now.as_micros()).unwrap_or(i128::MAX) + self.offset_us(now);
        Duration::from_micros(u64::try_from(us.max(0)).unwrap_or(u64::MAX))
    }
}

impl SimClock {
    pub(super) fn new(offset_ms: i64) -> Self {
        let offset_us = i128::from(offset_ms) * 1_000;
        Self(Arc::new(Mutex::new(Wall { offset_us, drift_ppm: 0, since: Duration::ZERO })))
    }

    fn lock(&self) -> MutexGuard<'_, Wall> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For good.
    pub fn jump(&self, by_ms: i64) {
        self.lock().offset_us += i128::from(by_ms) * 1_000;
    }

    /// From `now`, the true time since the epoch. What it has gone wrong until then stays.
    pub fn set_drift(&self, ppm: i64, now: Duration) {
        let mut wall = self.lock();
        if wall.drift_ppm != ppm {
            *wall = Wall { offset_us: wall.offset_us(now), drift_ppm: ppm, since: now };
        }
    }
}

impl Clock for SimClock {
    /// tokio's, with neither offset nor drift: timers follow it, and real monotonic clocks and the timers of the same
    /// machine never disagree either.
    #[allow(
        clippy::disallowed_methods,
        reason = "the simulator's side of the seam: tokio's clock is paused here"
    )]
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> Duration {
        self.lock().read(turmoil::since_epoch().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_drift_goes_on_from_where_the_clock_is_and_leaves_its_mark() {
        let clock = SimClock::new(-500);
        clock.set_drift(1_000, at(100));
        assert_eq!(clock.lock().read(at(100)), Duration::from_millis(99_500));
        assert_eq!(clock.lock().read(at(110)), Duration::from_millis(109_510));
        clock.set_drift(0, at(110));
        assert_eq!(clock.lock().read(at(120)), Duration::from_millis(119_510));
    }

    #[test]
    fn a_clock_may_jump_back_but_not_below_zero() {
        let clock = SimClock::new(0);
        clock.jump(-5_000);
        assert_eq!(clock.lock().read(at(8)), at(3));
        assert_eq!(clock.lock().read(at(2)), Duration::ZERO);
    }
}
