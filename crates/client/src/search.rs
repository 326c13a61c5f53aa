//! Looking for the leader: whom to ask next, when, and when to give up.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    ClientError,
    call::{Call, Shared, Verdict},
    limits::{BACKOFF_MAX, BUSY_PATIENCE, FAILOVER_BACKOFF_MAX, FAILOVER_WINDOW},
};

/// The tries of one call.
pub(crate) struct Search<'a> {
    shared: &'a Shared,
    call: Call,
    started: Instant,
    /// Position in the addresses of the next one to ask when no leader is known.
    next: usize,
    /// Since when no replica answered as the leader.
    leaderless_since: Instant,
    busy_since: Option<Instant>,
    /// What a replica said that knows of no majority, unless a leader has answered since.
    no_quorum: Option<String>,
    /// Tries since the last pause.
    tries: usize,
    pauses: u32,
    /// Whether a try may have been done although its answer was lost.
    may_be_done: bool,
    redirected: bool,
    /// The last answer was that the cluster takes no more.
    full: bool,
    last: String,
}

impl<'a> Search<'a> {
    pub(crate) fn new(shared: &'a Shared, call: Call) -> Self {
        let now = shared.env.clock.now();
        Self {
            shared,
            call,
            started: now,
            next: 0,
            leaderless_since: now,
            busy_since: None,
            no_quorum: None,
            tries: 0,
            pauses: 0,
            may_be_done: call.may_be_done,
            redirected: false,
            full: false,
            last: String::new(),
        }
    }

    pub(crate) fn address(&mut self) -> String {
        if let Some(leader) = self.shared.leader.address() {
            return leader;
        }
        let address = self.shared.addresses.get(self.next % self.shared.addresses.len().max(1));
        self.next += 1;
        address.cloned().unwrap_or_default()
    }

    pub(crate) fn attempt_timeout(&self) -> Duration {
        self.call.deadline.saturating_sub(self.waited()).min(self.call.attempt_timeout)
    }

    fn waited(&self) -> Duration {
        self.shared.env.clock.now() - self.started
    }

    /// An error if this was the last try.
    pub(crate) fn judge(&mut self, address: &str, verdict: Verdict) -> Result<(), ClientError> {
        let now = self.shared.env.clock.now();
        self.tries = self.tries.saturating_add(1);
        (self.redirected, self.full) = (false, false);
        match verdict {
            Verdict::Final(error) => return Err(error),
            Verdict::Busy(message) => return self.busy(message, now),
            Verdict::NotLeader(leader) => {
                self.last = match &leader {
                    Some(leader) => format!("{address} names {leader} as the leader"),
                    None => format!("{address} knows no leader"),
                };
                self.lost(address, now);
                if let Some(leader) = leader.filter(|leader| leader != address) {
                    self.shared.leader.name(leader);
                    self.redirected = true;
                }
            }
            Verdict::NoQuorum(states) => {
                self.last = states.clone();
                self.no_quorum = Some(states);
                // It may be the others that have a majority.
                self.lost(address, now);
            }
            Verdict::NotSent(last) => self.lose(address, last, now),
            Verdict::Unknown(last) => {
                self.may_be_done |= self.call.changes;
                self.lose(address, last, now);
            }
            Verdict::Superseded(leader) => {
                self.may_be_done |= self.call.changes;
                self.lose(address, format!("{address} was silent, and {leader} leads now"), now);
                self.shared.leader.name(leader);
                self.redirected = true;
            }
        }
        let unreached = !self.may_be_done
            && self.no_quorum.is_none()
            && now - self.leaderless_since >= self.shared.reach_deadline;
        if unreached || self.waited() >= self.call.deadline {
            return Err(self.give_up());
        }
        Ok(())
    }

    fn busy(&mut self, message: String, now: Instant) -> Result<(), ClientError> {
        let since = *self.busy_since.get_or_insert(now);
        if now - since >= BUSY_PATIENCE || self.waited() >= self.call.deadline {
            return Err(ClientError::Busy { message });
        }
        self.last = message;
        self.leaderless_since = now;
        self.no_quorum = None;
        // A full cluster is in no hurry: skip the shortest pauses, and let them grow.
        self.pauses = self.pauses.max(2);
        self.full = true;
        self.tries = usize::MAX;
        Ok(())
    }

    fn lose(&mut self, address: &str, last: String, now: Instant) {
        tracing::debug!(address, last, "a call to a scheduler was lost");
        self.last = last;
        self.shared.channels.forget(address);
        self.lost(address, now);
    }

    /// If `address` led until now the search begins only now, and quickly.
    fn lost(&mut self, address: &str, now: Instant) {
        if self.shared.leader.lose(address) {
            self.leaderless_since = now;
            self.pauses = 0;
        }
    }

    fn give_up(&self) -> ClientError {
        let (what, waited, last) = (self.call.what, self.waited(), self.last.clone());
        match &self.no_quorum {
            Some(states) => {
                let (states, may_be_done) = (states.clone(), self.may_be_done);
                ClientError::NoQuorum { what, waited, states, may_be_done }
            }
            None if self.may_be_done => ClientError::Deadline { what, waited, last },
            None => ClientError::Unreachable { addresses: self.shared.addresses.clone(), last },
        }
    }

    /// At once to a replica that was not asked since the last pause, or that was just named as the leader.
    pub(crate) async fn pause(&mut self) {
        let replicas = self.shared.addresses.len();
        if self.tries < replicas || (self.redirected && self.tries <= replicas) {
            return;
        }
        // An election lasts less than a second: then every moment counts.
        let leaderless = self.shared.env.clock.now() - self.leaderless_since;
        let is_election = leaderless < FAILOVER_WINDOW && !self.full;
        let longest = if is_election { FAILOVER_BACKOFF_MAX } else { BACKOFF_MAX };
        let pause = self.shared.backoff_within(self.pauses, longest);
        self.pauses = self.pauses.saturating_add(1);
        self.tries = 0;
        sleep(pause.min(self.call.deadline.saturating_sub(self.waited()))).await;
    }
}
