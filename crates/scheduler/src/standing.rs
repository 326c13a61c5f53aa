//! Whether this replica may answer: who leads, whether it has a majority, how fresh what it knows is.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use polybolos_consensus::{ConfirmError, Leadership};
use polybolos_proto::v1::Freshness;
use tokio::time::{Instant, timeout};

use crate::{error::RequestError, shared::Shared};

/// A replica that knows no leader for this long says that there is no majority: an election takes less.
pub(crate) const LEADERLESS_PATIENCE: Duration = Duration::from_secs(1);

/// Since when no leader is known; `None` while one is.
pub(crate) struct Leaderless(Mutex<Option<Instant>>);

impl Leaderless {
    pub(crate) fn since(now: Instant) -> Self {
        Self(Mutex::new(Some(now)))
    }

    fn note(&self, leader_is_known: bool, now: Instant) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = if leader_is_known { None } else { since.or(Some(now)) };
    }

    fn lasts(&self, now: Instant) -> Duration {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| now - since)
    }
}

impl Shared {
    /// The run loop tells each change.
    pub(crate) fn note_leadership(&self, leadership: &Leadership) {
        self.leaderless.note(leadership.leader.is_some(), self.env.clock.now());
    }

    /// Whether requests are taken up here and now.
    pub(crate) fn serves(&self) -> bool {
        self.is_serving() && self.log.leadership().borrow().serves()
    }

    /// # Errors
    /// [`RequestError::NotLeader`] with a hint, [`RequestError::NoQuorum`], [`RequestError::Stopping`].
    pub(crate) fn require_leader(&self) -> Result<(), RequestError> {
        if self.serves() { Ok(()) } else { Err(self.not_serving()) }
    }

    /// Why this replica takes up no requests.
    pub(crate) fn not_serving(&self) -> RequestError {
        let Leadership { leader, is_self, has_quorum, .. } = self.log.leadership().borrow().clone();
        if let Some((_, leader)) = leader.filter(|_| !is_self) {
            return RequestError::NotLeader { leader };
        }
        if !self.is_serving() {
            return RequestError::Stopping;
        }
        let leaderless = !is_self && self.leaderless.lasts(self.env.clock.now()) >= LEADERLESS_PATIENCE;
        if (is_self && !has_quorum) || leaderless {
            return self.no_quorum();
        }
        // An election is under way; or this replica has come to lead since the caller looked, and may be asked again.
        RequestError::NotLeader { leader: String::new() }
    }

    fn no_quorum(&self) -> RequestError {
        RequestError::NoQuorum { replicas: self.log.outline() }
    }

    /// Says how fresh what [`Shared::read`] shows from now on is. Unless `stale` is set, a majority confirms first that
    /// this replica leads, so that everything that was committed before the request came is in it.
    ///
    /// # Errors
    /// As [`Shared::require_leader`]; none if `stale` is set.
    pub(crate) async fn fresh(&self, stale: bool) -> Result<Freshness, RequestError> {
        let replica = self.config.id.0;
        if stale {
            return Ok(Freshness { linearizable: false, age_ms: self.age_ms(), replica });
        }
        if polybolos_model::mutant!("stale-reads") {
            return Ok(Freshness { linearizable: true, age_ms: 0, replica });
        }
        self.require_leader()?;
        let deadline = self.config.request_deadline;
        let confirmed = timeout(deadline, self.log.confirm()).await;
        let ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        confirmed.map_err(|_| RequestError::Deadline { ms })?.map_err(|error| self.unconfirmed(error))?;
        Ok(Freshness { linearizable: true, age_ms: 0, replica })
    }

    /// The largest number if it is not known.
    fn age_ms(&self) -> u64 {
        self.log.age().map_or(u64::MAX, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }

    fn unconfirmed(&self, error: ConfirmError) -> RequestError {
        match error {
            ConfirmError::NotLeader { leader: Some((_, leader)) } => RequestError::NotLeader { leader },
            ConfirmError::NotLeader { leader: None } => self.not_serving(),
            ConfirmError::NoQuorum { .. } => self.no_quorum(),
            ConfirmError::Stopped { reason } => RequestError::LogStopped { reason },
        }
    }
}
