//! Whose turn it is: the jobs that may want a slot, in the order of the [`SchedulingPolicy`].
//!
//! ```text
//!   Queue: active jobs by their rank with nothing running, kept from plan to plan ─┐
//!                                                                                  ├─▶ Turns: the first of both
//!   heap: jobs of which attempts run, ranked anew in each plan ────────────────────┘
//! ```
//!
//! Ten thousand may be active; those that run are no more than there are slots. So a plan costs what it launches, and not
//! what waits behind; those that don't fit into any executor's memory count too, up to a bound.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, btree_set},
    iter::Peekable,
    ops::Bound,
};

use polybolos_model::JobId;

use super::{
    Dispatcher,
    plan::{Cursor, Round},
};
use crate::{
    ClusterState, Job,
    policy::{Rank, SchedulingPolicy},
};

/// A queue is built anew when it has this many jobs more than twice those that are active.
const MAX_ENDED: usize = 64;

/// Active jobs in the order in which they come to their turn while nothing of them runs, and some that have ended since.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    /// By rank, then by number.
    order: BTreeSet<(Rank, u64)>,
    /// Jobs up to this number were put in, if they were active.
    seen: u64,
}

impl Queue {
    /// Takes in what has become active.
    fn follow(&mut self, state: &ClusterState, policy: &dyn SchedulingPolicy) {
        // One that has ended goes when its turn comes, which may never be in a class that nothing is left for.
        if self.order.len() > 2 * state.active_job_count() + MAX_ENDED {
            *self = Self::default();
        }
        let new = state.jobs.active.range((Bound::Excluded(self.seen), Bound::Unbounded));
        let new = new.filter_map(|number| state.job(*state.jobs.order.get(number)?));
        self.order.extend(new.chain(state.reopened_jobs()).map(|job| (policy.rank(job, 0), job.number)));
        self.seen = state.jobs.last_number;
    }
}

/// A job in its turn, and where the search for its next task begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    rank: Rank,
    number: u64,
    running: u32,
    cursor: Cursor,
}

/// The turns that are still to come.
struct Turns<'q> {
    waiting: Peekable<btree_set::Iter<'q, (Rank, u64)>>,
    running: BinaryHeap<Reverse<Turn>>,
}

impl Turns<'_> {
    /// Takes the first one, if it is of a class before that.
    fn next(&mut self, before: Option<u32>) -> Option<Turn> {
        let first =
            |&&(rank, number): &&(Rank, u64)| Turn { rank, number, running: 0, cursor: Cursor::default() };
        let waiting = self.waiting.peek().map(first);
        let running = self.running.peek().map(|Reverse(turn)| *turn);
        let next = waiting.into_iter().chain(running).min()?;
        if before.is_some_and(|before| next.rank.class >= before) {
            return None;
        }
        if waiting == Some(next) {
            self.waiting.next();
        } else {
            self.running.pop();
        }
        Some(next)
    }
}

impl Dispatcher {
    /// Deals out the free slots, class by class. Tasks that need an executor to themselves, or have waited for memory for
    /// long, hold one, or take an empty one, before a later class gets anything.
    pub(super) fn take_turns(&mut self, round: &mut Round<'_>) {
        let mut queue = std::mem::take(&mut self.queue);
        if !round.slots.is_full() {
            queue.follow(round.state, &*self.policy);
        }
        let held = self.reserved.take();
        self.forget_short(round.state);
        let others_first = std::mem::take(&mut self.others_first);
        let alone = self.waiting_alone(round.state);
        for of_class in alone.chunk_by(|one, next| one.rank.class == next.rank.class) {
            let Some(class) = of_class.first().map(|waiting| waiting.rank.class) else { continue };
            self.deal(round, &mut queue, Some(class));
            if !others_first {
                self.reserve(round, of_class, held.as_ref());
            }
            self.deal(round, &mut queue, class.checked_add(1));
            self.use_idle(round, of_class);
        }
        self.deal(round, &mut queue, None);
        self.queue = queue;
    }

    /// One slot at a time to the job whose turn it is, until a turn of class `before` comes. A job of which nothing can be
    /// launched now has no further turn.
    fn deal(&mut self, round: &mut Round<'_>, queue: &mut Queue, before: Option<u32>) {
        if round.is_over() {
            return;
        }
        let state = round.state;
        let (waiting, running) = (queue.order.iter().peekable(), self.running_jobs(state));
        let mut turns = Turns { waiting, running };
        let mut over = Vec::new();
        while !round.is_over() {
            let Some(turn) = turns.next(before) else { break };
            let is_waiting = turn.running == 0;
            let id = state.jobs.order.get(&turn.number);
            let Some(job) = id.and_then(|id| state.running_job(*id)) else {
                over.push((turn.rank, turn.number));
                continue;
            };
            // It has its turn among those that run.
            if is_waiting && self.by_job.contains_key(&job.id) {
                continue;
            }
            if let Some(cursor) = self.launch_next(round, job, turn.cursor) {
                let running = turn.running + 1;
                let rank = self.policy.rank(job, running);
                turns.running.push(Reverse(Turn { rank, running, cursor, ..turn }));
            }
        }
        for ended in over {
            queue.order.remove(&ended);
        }
    }

    fn running_jobs(&self, state: &ClusterState) -> BinaryHeap<Reverse<Turn>> {
        let turn = |(id, &running): (&JobId, &u32)| {
            let job = state.running_job(*id)?;
            let (rank, cursor) = (self.policy.rank(job, running), Cursor::default());
            Some(Reverse(Turn { rank, number: job.number, running, cursor }))
        };
        self.by_job.iter().filter_map(turn).collect()
    }

    pub(super) fn rank(&self, job: &Job) -> Rank {
        self.policy.rank(job, self.by_job.get(&job.id).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policy::FairShare, transcript::Lab};

    #[test]
    fn ended_jobs_do_not_pile_up_behind_a_class_that_takes_all_slots() {
        let (mut lab, mut queue) = (Lab::new(), Queue::default());
        for job in 1..=300 {
            lab.run(&format!("submit {job} one priority=low"));
            queue.follow(&lab.state, &FairShare);
            assert!(queue.order.iter().any(|(_, number)| *number == job));
            assert!(queue.order.len() <= MAX_ENDED + 3, "{}", queue.order.len());
            lab.run(&format!("cancel {job} x"));
        }
        lab.run("submit 301 one priority=high");
        queue.follow(&lab.state, &FairShare);
        assert_eq!(queue.order.first(), Some(&(Rank { class: 0, turn: 0 }, 301)));
    }
}
