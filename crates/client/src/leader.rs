//! Who leads, as far as the replicas have told.
//!
//! ```text
//!   call, watch ──▶ superseded(waited for) ──▶ one round of Leader, shared ──▶ every replica
//! ```
//!
//! A leader that is paused or cut off breaks no connection. So whoever waits for it asks the replicas from time to
//! time, and turns to the leader of a higher term. Those who wait at the same time share the rounds.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future::join_all;
use polybolos_proto::v1::LeaderRequest;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    call::{Shared, query},
    limits::{PROBE_INTERVAL, PROBE_SHARED, PROBE_TIMEOUT},
};

/// What is known of the leader.
#[derive(Debug, Default)]
pub(crate) struct Leader {
    known: Mutex<Known>,
    /// The last round and when it was over.
    heard: tokio::sync::Mutex<Option<(Instant, Vec<Heard>)>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Who answered as the leader last, or was named as it.
    address: Option<String>,
    /// It has answered.
    confirmed: bool,
    /// Highest term of a leader that a replica has told of.
    term: u64,
}

/// What one replica says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Heard {
    asked: String,
    /// Empty if it knows none.
    leader: String,
    term: u64,
    is_self: bool,
}

impl Heard {
    /// The leader that it knows. One that leads is named as the others name it, so that one with two addresses is not
    /// taken for two.
    fn names(&self) -> Option<&str> {
        match self.leader.as_str() {
            "" => self.is_self.then_some(self.asked.as_str()),
            leader => Some(leader),
        }
    }
}

impl Leader {
    pub(crate) fn address(&self) -> Option<String> {
        self.known().address.clone()
    }

    /// It has answered as the leader.
    pub(crate) fn confirm(&self, address: &str) {
        let mut known = self.known();
        known.confirmed = true;
        if known.address.as_deref() != Some(address) {
            known.address = Some(address.to_owned());
        }
    }

    /// Another replica names it.
    pub(crate) fn name(&self, address: String) {
        let mut known = self.known();
        known.confirmed &= known.address.as_ref() == Some(&address);
        known.address = Some(address);
    }

    /// Forgets the leader if it is `address`. True if it had answered as the leader before.
    pub(crate) fn lose(&self, address: &str) -> bool {
        let mut known = self.known();
        if known.address.as_deref() != Some(address) {
            return false;
        }
        known.address = None;
        std::mem::take(&mut known.confirmed)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change is a whole one.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest term heard of so far, these included.
    fn learn(&self, heard: &[Heard]) -> u64 {
        let mut known = self.known();
        let terms = heard.iter().filter(|one| one.names().is_some()).map(|one| one.term);
        known.term = terms.fold(known.term, u64::max);
        known.term
    }
}

impl Shared {
    /// Waits until another replica than `waited_for` leads, and tells which. For ever if there is no other to ask.
    pub(crate) async fn superseded(&self, waited_for: &str) -> String {
        if self.addresses.iter().all(|address| address == waited_for) {
            return std::future::pending().await;
        }
        loop {
            sleep(PROBE_INTERVAL).await;
            let heard = self.heard().await;
            let least = self.leader.learn(&heard);
            if let Some(leader) = superseding(&heard, waited_for, least) {
                tracing::debug!(waited_for, leader, "another replica leads");
                return leader.to_owned();
            }
        }
    }

    /// What the replicas say now, or said just before.
    async fn heard(&self) -> Vec<Heard> {
        let mut last = self.leader.heard.lock().await;
        if let Some((at, heard)) = &*last
            && self.env.clock.now() - *at < PROBE_SHARED
        {
            return heard.clone();
        }
        let others = self.leader.address().filter(|leader| !self.addresses.contains(leader));
        let asked = self.addresses.iter().cloned().chain(others).map(|address| self.ask(address));
        let heard: Vec<Heard> = join_all(asked).await.into_iter().flatten().collect();
        *last = Some((self.env.clock.now(), heard.clone()));
        heard
    }

    /// Waits until the replica does not answer any more.
    pub(crate) async fn falls_silent(&self, address: &str) {
        loop {
            sleep(PROBE_INTERVAL).await;
            if self.ask(address.to_owned()).await.is_none() {
                return;
            }
        }
    }

    async fn ask(&self, address: String) -> Option<Heard> {
        let answer = timeout(PROBE_TIMEOUT, async {
            let channel = self.channels.get(&address).await.ok()?;
            query(channel).leader(LeaderRequest {}).await.ok()
        });
        let answer = answer.await.ok().flatten()?.into_inner();
        Some(Heard { asked: address, leader: answer.leader, term: answer.term, is_self: answer.is_self })
    }
}

/// The leader of the highest term, unless that is the replica that is waited for. What is said of a term lower than
/// `least` is out of date, and so is what contradicts the word of the one that is waited for within its own term.
fn superseding<'a>(heard: &'a [Heard], waited_for: &str, least: u64) -> Option<&'a str> {
    let own = heard.iter().filter(|one| one.is_self && one.asked == waited_for).map(|one| one.term).max();
    let others = heard.iter().filter_map(|one| Some((one.term, one.is_self, one.names()?)));
    let newest = others
        .filter(|(term, _, _)| *term >= least && own.is_none_or(|own| *term > own))
        .max_by_key(|(term, is_self, _)| (*term, *is_self));
    newest.map(|(_, _, leader)| leader).filter(|leader| *leader != waited_for)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(asked: &str, leader: &str, term: u64) -> Heard {
        Heard { asked: asked.to_owned(), leader: leader.to_owned(), term, is_self: asked == leader }
    }

    /// Replicas a, b and c; `a` is waited for.
    fn check(answers: &[Heard], seen_before: u64, expected: Option<&str>) {
        let known = Leader::default();
        known.known().term = seen_before;
        let least = known.learn(answers);
        assert_eq!(superseding(answers, "a", least), expected, "{answers:?}");
    }

    #[test]
    fn only_a_leader_of_a_higher_term_supersedes() {
        check(&[], 0, None);
        check(&[heard("b", "a", 4), heard("c", "a", 4)], 0, None);
        check(&[heard("b", "", 5), heard("c", "", 5)], 0, None);
        check(&[heard("b", "b", 5), heard("c", "a", 4)], 0, Some("b"));
        check(&[heard("b", "c", 5)], 0, Some("c"));
        // One that lags behind names the leader of old.
        check(&[heard("b", "c", 3)], 4, None);
        check(&[heard("a", "a", 4), heard("b", "c", 4)], 0, None);
        // The one waited for has woken up and doesn't know yet that it was deposed.
        check(&[heard("a", "a", 4), heard("b", "b", 5)], 0, Some("b"));
        // It knows by itself.
        check(&[heard("a", "b", 5)], 0, Some("b"));
    }

    #[test]
    fn a_leader_with_two_addresses_is_one() {
        let also_a = |asked: &str| Heard { is_self: asked != "b", ..heard(asked, "a.example", 4) };
        check(&[also_a("a"), also_a("b")], 0, None);
        let waited_for_by_its_name = [also_a("a"), also_a("b")];
        assert_eq!(superseding(&waited_for_by_its_name, "a.example", 4), None);
    }

    #[test]
    fn a_leader_that_only_was_named_is_not_one_that_was_lost() {
        let leader = Leader::default();
        leader.name("a".to_owned());
        assert!(!leader.lose("b") && leader.address().is_some());
        assert!(!leader.lose("a") && leader.address().is_none());
        leader.confirm("a");
        leader.name("a".to_owned());
        assert!(leader.lose("a"));
        leader.confirm("a");
        leader.name("b".to_owned());
        assert!(!leader.lose("b"));
    }
}
