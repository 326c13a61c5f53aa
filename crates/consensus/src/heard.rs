//! What a replica has heard of leaders and candidates, and whether it consents to a campaign.
//!
//! Consent is a vote before the vote (Raft's pre-vote, Ongaro's thesis §9.6): it changes no term, so a replica that
//! was cut off and comes back can't unseat a leader whom the others hear.

use std::{collections::BTreeSet, time::Duration};

use openraft::LogId;
use polybolos_model::ReplicaId;
use tokio::time::Instant;

use crate::Timing;

/// How good a claim to leadership is: the furthest log first, then the higher id.
pub(crate) type Claim = (Option<LogId<u64>>, ReplicaId);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    leader: Option<ReplicaId>,
    at: Option<Instant>,
    /// Whom this replica consented to, and since when it keeps to that.
    consent: Option<(Claim, Instant)>,
    /// Whom it has kept to since a leader was heard: once each. Otherwise candidates which reach different replicas
    /// could go on taking each other's consents, and five replicas with two away would have no leader.
    kept_to: BTreeSet<ReplicaId>,
    /// While this replica itself asks for consent.
    canvassing: Option<Claim>,
    /// The newest word of the leader: what was committed then.
    word: Option<(u64, Instant)>,
    /// The last word up to which everything was applied here before a newer one came.
    applied_since: Option<Instant>,
}

/// Why a replica does not consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("replica {0} leads, and was heard within the lease")]
    LeaderAlive(ReplicaId),
    #[error("the candidate's log is behind this replica's")]
    LogBehind,
    #[error("this replica has just consented to replica {0}, whose claim is better")]
    Consented(ReplicaId),
    #[error("this replica, {0}, asks for consent itself and has the better claim")]
    Rival(ReplicaId),
    #[error("the candidate does not vote in this cluster, as far as this replica knows")]
    NotAVoter,
}

/// What the replica that is asked knows of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) me: ReplicaId,
    pub(crate) last: Option<LogId<u64>>,
    /// It leads, and a majority answered it within the lease.
    pub(crate) leads: bool,
    /// The candidate votes by this replica's membership.
    pub(crate) knows_candidate: bool,
}

impl Heard {
    /// A leader let hear of itself.
    pub(crate) fn sign(&mut self, leader: ReplicaId, now: Instant) {
        (self.leader, self.at) = (Some(leader), Some(now));
        self.consent = None;
        self.kept_to.clear();
    }

    /// A leader let hear of itself, and says what is committed; `applied` is what this replica has applied.
    pub(crate) fn leader(&mut self, leader: ReplicaId, now: Instant, committed: u64, applied: u64) {
        self.sign(leader, now);
        if let Some((before, at)) = self.word
            && applied >= before
        {
            self.applied_since = Some(at);
        }
        self.word = Some((committed, now));
    }

    /// When a leader was heard last.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// The leader that was heard within `within`.
    pub(crate) fn leader_within(&self, within: Duration, now: Instant) -> Option<ReplicaId> {
        let recent = self.at.is_some_and(|at| now < at + within);
        self.leader.filter(|_| recent)
    }

    /// How old the state is: everything that was committed longer ago is applied.
    pub(crate) fn age(&self, now: Instant, applied: u64) -> Option<Duration> {
        let word = self.word.filter(|(committed, _)| applied >= *committed).map(|(_, at)| at);
        word.or(self.applied_since).map(|at| now.saturating_duration_since(at))
    }

    pub(crate) fn canvass(&mut self, claim: Option<Claim>) {
        self.canvassing = claim;
    }

    /// Whether this replica gave way to another candidate a moment ago.
    pub(crate) fn gave_way(&self, timing: &Timing, now: Instant) -> bool {
        self.consent.is_some_and(|(_, at)| now < at + hold(timing))
    }

    /// This replica voted for `candidate`: as after a consent, it does not campaign against it.
    pub(crate) fn voted(&mut self, candidate: Claim, now: Instant) {
        self.consent = Some((candidate, now));
    }

    /// # Errors
    /// Why not.
    pub(crate) fn consent(
        &mut self,
        candidate: Claim,
        asked: Asked,
        timing: &Timing,
        now: Instant,
    ) -> Result<(), Refusal> {
        // A candidate with more entries may have become a voter by those that this replica lacks.
        if !asked.knows_candidate && candidate.0 <= asked.last {
            return Err(Refusal::NotAVoter);
        }
        if asked.leads {
            return Err(Refusal::LeaderAlive(asked.me));
        }
        if let Some(leader) = self.leader_within(timing.lease, now).filter(|leader| *leader != candidate.1) {
            return Err(Refusal::LeaderAlive(leader));
        }
        if candidate.0 < asked.last && !polybolos_model::mutant!("vote-ignores-log") {
            return Err(Refusal::LogBehind);
        }
        if let Some((other, at)) = self.consent
            && other.1 != candidate.1
            && other > candidate
            && now < at + hold(timing)
        {
            return Err(Refusal::Consented(other.1));
        }
        if self.canvassing.is_some_and(|mine| mine > candidate) {
            return Err(Refusal::Rival(asked.me));
        }
        if self.kept_to.insert(candidate.1) {
            self.consent = Some((candidate, now));
        }
        Ok(())
    }
}

/// How long a consent binds: a campaign is over by then.
fn hold(timing: &Timing) -> Duration {
    timing.lease / 2
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "the moments are made up")]

    use openraft::CommittedLeaderId;

    use super::*;

    const TIMING: Timing = Timing {
        heartbeat: Duration::from_millis(100),
        lease: Duration::from_millis(300),
        election_min: Duration::from_millis(300),
        election_max: Duration::from_millis(600),
    };

    fn log(index: u64) -> Option<LogId<u64>> {
        Some(LogId::new(CommittedLeaderId::new(1, 0), index))
    }

    fn asked() -> Asked {
        Asked { me: ReplicaId(1), last: log(5), leads: false, knows_candidate: true }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_is_heard_is_not_unseated() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut heard = Heard::default();
        let two = (log(9), ReplicaId(2));
        assert_eq!(heard.consent(two, asked(), &TIMING, ms(0)), Ok(()));
        heard.leader(ReplicaId(3), ms(0), 1, 1);
        let alive = Err(Refusal::LeaderAlive(ReplicaId(3)));
        assert_eq!(heard.consent(two, asked(), &TIMING, ms(299)), alive);
        assert_eq!(heard.consent(two, asked(), &TIMING, ms(300)), Ok(()));
        let leads = Asked { leads: true, ..asked() };
        assert_eq!(heard.consent(two, leads, &TIMING, ms(900)), Err(Refusal::LeaderAlive(ReplicaId(1))));
        let stranger = Asked { knows_candidate: false, ..asked() };
        let behind = (log(5), ReplicaId(2));
        assert_eq!(heard.consent(behind, stranger, &TIMING, ms(900)), Err(Refusal::NotAVoter));
        // One that knows more may be a voter by what it knows.
        assert_eq!(heard.consent(two, stranger, &TIMING, ms(900)), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn one_candidate_at_a_time_and_the_better_claim_first() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut heard = Heard::default();
        assert_eq!(heard.consent((log(4), ReplicaId(2)), asked(), &TIMING, ms(0)), Err(Refusal::LogBehind));
        assert_eq!(heard.consent((log(5), ReplicaId(2)), asked(), &TIMING, ms(0)), Ok(()));
        assert!(heard.gave_way(&TIMING, ms(149)) && !heard.gave_way(&TIMING, ms(150)));
        let three = (log(5), ReplicaId(3));
        assert_eq!(heard.consent(three, asked(), &TIMING, ms(100)), Ok(()));
        let four = (log(6), ReplicaId(2));
        assert_eq!(heard.consent(four, asked(), &TIMING, ms(249)), Ok(()));
        let mut rival = Heard::default();
        rival.canvass(Some((log(5), ReplicaId(1))));
        assert_eq!(rival.consent(three, asked(), &TIMING, ms(0)), Ok(()));
        let mut rival = Heard::default();
        rival.canvass(Some((log(6), ReplicaId(1))));
        assert_eq!(rival.consent(three, asked(), &TIMING, ms(0)), Err(Refusal::Rival(ReplicaId(1))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_consent_keeps_worse_claims_off_once_until_a_leader_is_heard() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut heard = Heard::default();
        let (two, three) = ((log(5), ReplicaId(2)), (log(5), ReplicaId(3)));
        let refused = Err(Refusal::Consented(ReplicaId(3)));
        assert_eq!(heard.consent(three, asked(), &TIMING, ms(0)), Ok(()));
        assert_eq!(heard.consent(two, asked(), &TIMING, ms(100)), refused);
        // Replica 3 asks again and again, but never gets its majority.
        assert_eq!(heard.consent(three, asked(), &TIMING, ms(149)), Ok(()));
        assert_eq!(heard.consent(two, asked(), &TIMING, ms(150)), Ok(()));
        assert_eq!(heard.consent(three, asked(), &TIMING, ms(151)), Ok(()));
        assert_eq!(heard.consent(two, asked(), &TIMING, ms(152)), Ok(()));
        assert!(heard.gave_way(&TIMING, ms(299)) && !heard.gave_way(&TIMING, ms(300)));
        heard.sign(ReplicaId(4), ms(400));
        assert_eq!(heard.consent(three, asked(), &TIMING, ms(700)), Ok(()));
        assert_eq!(heard.consent(two, asked(), &TIMING, ms(701)), refused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_vote_is_a_consent_that_nobody_asked_for() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut heard = Heard::default();
        heard.canvass(Some((log(5), ReplicaId(1))));
        heard.voted((log(5), ReplicaId(3)), ms(0));
        assert!(heard.gave_way(&TIMING, ms(149)) && !heard.gave_way(&TIMING, ms(150)));
        let refused = Err(Refusal::Consented(ReplicaId(3)));
        assert_eq!(heard.consent((log(5), ReplicaId(2)), asked(), &TIMING, ms(100)), refused);
    }

    #[tokio::test(start_paused = true)]
    async fn the_age_counts_from_the_last_word_that_is_applied() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut heard = Heard::default();
        assert_eq!(heard.age(ms(0), 9), None);
        heard.leader(ReplicaId(3), ms(0), 5, 3);
        assert_eq!(heard.age(ms(10), 4), None);
        assert_eq!(heard.age(ms(10), 5), Some(Duration::from_millis(10)));
        heard.leader(ReplicaId(3), ms(100), 8, 5);
        // A sign of life without a word of what is committed makes nothing fresher.
        heard.sign(ReplicaId(3), ms(105));
        assert_eq!(heard.age(ms(110), 7), Some(Duration::from_millis(110)));
        assert_eq!(heard.age(ms(110), 8), Some(Duration::from_millis(10)));
    }
}
