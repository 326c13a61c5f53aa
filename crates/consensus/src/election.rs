//! When a replica asks for consent, and when it campaigns: a pure timer, drawn anew for each campaign.
//!
//! ```text
//!   quiet for the drawn time ──▶ Canvass ──(a majority consents)──▶ Campaign ──▶ another time is drawn
//!                 ▲                 │ refused: a short pause
//!                 └─────────────────┘
//! ```
//!
//! openraft 0.9 draws its election time-out once a process, so that two survivors may split every vote (openraft
//! #1838). Its own elections are off; this takes their place.

use std::time::Duration;

use tokio::time::Instant;

use crate::Timing;

/// After its lease a leader that gives way is not heard any more, but for what was on its way.
const TAKE_OVER_MARGIN: Duration = Duration::from_millis(10);

/// How long a leader's word that it gives way holds.
const TAKE_OVER_WINDOW: Duration = Duration::from_secs(3);

/// What matters of the replica itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// It votes, does not lead, and can write.
    pub(crate) may_lead: bool,
    /// It is the only voter: nobody is asked, and nothing is waited for.
    pub(crate) is_alone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Sleep(Duration),
    /// Ask the others for consent, then [`Election::refused`] or [`Election::campaigned`].
    Canvass,
    /// Campaign without asking, then [`Election::campaigned`].
    Campaign,
}

/// A number below its argument.
pub(crate) type Draw<'a> = &'a mut dyn FnMut(u64) -> u64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Election {
    timing: Timing,
    /// Since when it is quiet.
    since: Instant,
    /// How long it must be quiet.
    patience: Duration,
    /// When the leader gave way to this replica.
    take_over: Option<Instant>,
    /// A campaign of this replica may be under way.
    campaigned: bool,
}

impl Election {
    pub(crate) fn new(timing: Timing, now: Instant, draw: Draw<'_>) -> Self {
        let patience = draw_between(timing.election_min, timing.election_max, draw);
        Self { timing, since: now, patience, take_over: None, campaigned: false }
    }

    /// What to do now. `heard` is when a leader was heard last.
    pub(crate) fn step(&mut self, now: Instant, heard: Option<Instant>, standing: Standing) -> Step {
        if !standing.may_lead {
            self.since = now;
            (self.take_over, self.campaigned) = (None, false);
            return Step::Sleep(self.timing.heartbeat);
        }
        if standing.is_alone && !self.campaigned {
            return Step::Campaign;
        }
        if let Some(heard) = heard {
            self.since = self.since.max(heard);
        }
        // A leader that is heard again, or for so long, has not given way after all.
        let is_stale = |at: Instant| {
            now > at + TAKE_OVER_WINDOW || heard.is_some_and(|heard| heard > at + self.timing.lease)
        };
        self.take_over = self.take_over.filter(|at| !is_stale(*at));
        if self.take_over.is_some() {
            let over = heard.map_or(now, |heard| heard + self.timing.lease + TAKE_OVER_MARGIN);
            return if now < over { Step::Sleep(over - now) } else { Step::Campaign };
        }
        let due = self.since + self.patience;
        if now < due { Step::Sleep(due - now) } else { Step::Canvass }
    }

    /// The leader falls silent so that this replica follows it.
    pub(crate) fn take_over(&mut self, now: Instant) {
        self.take_over = Some(now);
    }

    /// No majority consented. Somebody else may have a lease that is about to end, so it asks again soon.
    pub(crate) fn refused(&mut self, now: Instant, draw: Draw<'_>) {
        let heartbeat = self.timing.heartbeat;
        (self.since, self.patience) = (now, draw_between(heartbeat / 2, heartbeat * 3 / 2, draw));
    }

    /// A campaign began: the next one is due only after a time of its own.
    pub(crate) fn campaigned(&mut self, now: Instant, draw: Draw<'_>) {
        let patience = draw_between(self.timing.election_min, self.timing.election_max, draw);
        (self.since, self.patience) = (now, patience);
        (self.take_over, self.campaigned) = (None, true);
    }
}

fn draw_between(least: Duration, most: Duration, draw: Draw<'_>) -> Duration {
    let range = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
    least + Duration::from_micros(draw(range))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "the moments are made up")]

    use super::*;

    const MAY: Standing = Standing { may_lead: true, is_alone: false };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_replica_asks_after_the_drawn_time_and_each_campaign_draws_anew() {
        let start = Instant::now();
        let mut draws = vec![0, 299_000, 50_000].into_iter();
        let mut draw = |_| draws.next().unwrap();
        let mut election = Election::new(Timing::default(), start, &mut draw);
        assert_eq!(election.step(start, None, MAY), Step::Sleep(ms(300)));
        // A heartbeat puts it off.
        let heard = Some(start + ms(250));
        assert_eq!(election.step(start + ms(300), heard, MAY), Step::Sleep(ms(250)));
        assert_eq!(election.step(start + ms(550), heard, MAY), Step::Canvass);
        election.campaigned(start + ms(550), &mut draw);
        assert_eq!(election.step(start + ms(550), heard, MAY), Step::Sleep(ms(599)));
        // A refusal is a short pause only.
        election.refused(start + ms(1_149), &mut draw);
        assert_eq!(election.step(start + ms(1_149), heard, MAY), Step::Sleep(ms(100)));
        assert_eq!(election.step(start + ms(1_249), heard, MAY), Step::Canvass);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_may_not_lead_waits() {
        let start = Instant::now();
        let mut election = Election::new(Timing::default(), start, &mut |_| 0);
        let learner = Standing { may_lead: false, is_alone: false };
        assert_eq!(election.step(start + ms(9_000), None, learner), Step::Sleep(ms(100)));
        // And begins to count only when it may.
        assert_eq!(election.step(start + ms(9_000), None, MAY), Step::Sleep(ms(300)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_successor_campaigns_as_soon_as_the_lease_is_over() {
        let start = Instant::now();
        let mut election = Election::new(Timing::default(), start, &mut |_| 0);
        election.take_over(start + ms(100));
        let heard = Some(start + ms(100));
        assert_eq!(election.step(start + ms(100), heard, MAY), Step::Sleep(ms(310)));
        assert_eq!(election.step(start + ms(410), heard, MAY), Step::Campaign);
        election.campaigned(start + ms(410), &mut |_| 0);
        assert_eq!(election.step(start + ms(410), heard, MAY), Step::Sleep(ms(300)));
        // One that is heard on has not given way.
        election.take_over(start + ms(1_000));
        let heard = Some(start + ms(1_400));
        assert_eq!(election.step(start + ms(1_400), heard, MAY), Step::Sleep(ms(300)));
        assert_eq!(election.step(start + ms(1_700), heard, MAY), Step::Canvass);
    }

    #[tokio::test(start_paused = true)]
    async fn the_only_voter_campaigns_at_once() {
        let start = Instant::now();
        let alone = Standing { may_lead: true, is_alone: true };
        let mut election = Election::new(Timing::default(), start, &mut |_| 0);
        assert_eq!(election.step(start, None, alone), Step::Campaign);
        election.campaigned(start, &mut |_| 0);
        assert_eq!(election.step(start, None, alone), Step::Sleep(ms(300)));
        assert_eq!(election.step(start + ms(300), None, alone), Step::Canvass);
    }
}
