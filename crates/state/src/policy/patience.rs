//! For how long a leader bears with executors.

use thiserror::Error;

use crate::limits::{EXECUTOR_TIMEOUT_MS, MAX_CLOCK_STEP_MS, NO_EXECUTOR_WAIT_MS, STREAM_GRACE_MS};

/// Heartbeats that fit into the time after which a silent executor is lost, at least: one may be late, one may get lost.
const LEAST_HEARTBEATS: u64 = 3;

/// Times by which the leader gives up. Settings of the cluster: the same on all its replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// An executor that was not heard of for this long is lost.
    pub executor_timeout_ms: u64,
    /// So is one whose stream broke and that did not come back within this time.
    pub stream_grace_ms: u64,
    /// A job fails when it has waited this long because no executor took tasks. 0: it waits for ever.
    pub no_executor_wait_ms: u64,
}

/// Times under which healthy executors would be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PatienceError {
    #[error(
        "an executor time-out of {timeout_ms} ms is below {LEAST_HEARTBEATS} heartbeats of {heartbeat_ms} ms: one late \
         heartbeat would lose a healthy executor (raise --executor-timeout or lower --executor-heartbeat)"
    )]
    BelowHeartbeats { timeout_ms: u64, heartbeat_ms: u64 },
    #[error(
        "an executor time-out of {timeout_ms} ms is not above {MAX_CLOCK_STEP_MS} ms, for which a leader may stand still \
         unnoticed: it would blame its executors for that (raise --executor-timeout)"
    )]
    BelowClockStep { timeout_ms: u64 },
    #[error(
        "a stream grace of {grace_ms} ms is above the executor time-out of {timeout_ms} ms, which would always end first \
         (lower --stream-grace or raise --executor-timeout)"
    )]
    GraceAboveTimeout { grace_ms: u64, timeout_ms: u64 },
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            executor_timeout_ms: EXECUTOR_TIMEOUT_MS,
            stream_grace_ms: STREAM_GRACE_MS,
            no_executor_wait_ms: NO_EXECUTOR_WAIT_MS,
        }
    }
}

impl Patience {
    /// `heartbeat_ms` is how often executors are asked to beat.
    ///
    /// # Errors
    /// Times that don't go together.
    pub fn check(&self, heartbeat_ms: u64) -> Result<(), PatienceError> {
        let (timeout_ms, grace_ms) = (self.executor_timeout_ms, self.stream_grace_ms);
        if timeout_ms < heartbeat_ms.saturating_mul(LEAST_HEARTBEATS) {
            return Err(PatienceError::BelowHeartbeats { timeout_ms, heartbeat_ms });
        }
        if timeout_ms <= MAX_CLOCK_STEP_MS {
            return Err(PatienceError::BelowClockStep { timeout_ms });
        }
        if grace_ms > timeout_ms {
            return Err(PatienceError::GraceAboveTimeout { grace_ms, timeout_ms });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_would_lose_healthy_executors_are_refused() {
        let check = |executor_timeout_ms, stream_grace_ms, heartbeat_ms| {
            let patience = Patience { executor_timeout_ms, stream_grace_ms, ..Patience::default() };
            patience.check(heartbeat_ms).map_err(|error| error.to_string())
        };
        assert_eq!(Patience::default().check(500), Ok(()));
        assert_eq!(check(1_500, 1_500, 500), Ok(()));
        let part = |found: Result<(), String>, part: &str| {
            let error = found.unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        };
        part(check(1_499, 1_000, 500), "3 heartbeats of 500 ms");
        part(check(1_000, 500, 100), "not above 1000 ms");
        part(check(3_000, 3_001, 500), "a stream grace of 3001 ms");
    }
}
