//! Which tasks run next: free slots are dealt out one at a time, always to the job that has the fewest running.

use std::{cmp::Reverse, collections::BinaryHeap};

use polybolos_model::{AttemptId, TaskId};

use super::{Dispatcher, Launch, Running, choose::Slots};
use crate::{ClusterState, Job};

/// A job's next task is searched from here on; all before it runs, is done or has to wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Cursor {
    stage: u32,
    partition: u32,
}

/// A job in the queue for a slot: fewest running attempts first, then in the order of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    running: u32,
    number: u64,
    cursor: Cursor,
}

impl Dispatcher {
    /// Fills the free slots. Each launch counts as running at once; one that can't be sent must be `ended`.
    ///
    /// Looks at jobs in the order of their turns and stops when the slots are full: ended jobs cost nothing, and of
    /// a waiting job only its first tasks are looked at.
    pub fn plan(&mut self, state: &ClusterState) -> Vec<Launch> {
        self.forget_lost(state);
        if !self.awaited.is_empty() {
            return Vec::new();
        }
        let mut slots = Slots::free(self, state);
        let mut launches = Vec::new();
        let mut turns = BinaryHeap::new();
        for (id, &running) in &self.by_job {
            if let Some(job) = state.job(*id).filter(|job| !job.status.is_ended()) {
                turns.push(Reverse(Turn { running, number: job.number, cursor: Cursor::default() }));
            }
        }
        // Jobs of which nothing runs come before all others, and are too many to queue each time.
        for job in state.active_jobs() {
            if slots.is_full() {
                return launches;
            }
            if self.by_job.contains_key(&job.id) {
                continue;
            }
            if let Some((launch, cursor)) = self.launch_next(job, Cursor::default(), &mut slots) {
                launches.push(launch);
                turns.push(Reverse(Turn { running: 1, number: job.number, cursor }));
            }
        }
        while let Some(Reverse(turn)) = turns.pop() {
            if slots.is_full() {
                break;
            }
            let Some(job) = state.jobs.order.get(&turn.number).and_then(|id| state.job(*id)) else {
                continue;
            };
            if let Some((launch, cursor)) = self.launch_next(job, turn.cursor, &mut slots) {
                launches.push(launch);
                turns.push(Reverse(Turn { running: turn.running + 1, cursor, ..turn }));
            }
        }
        launches
    }

    /// The job's first task from `cursor` on that may run now, and where the search goes on.
    fn launch_next(&mut self, job: &Job, cursor: Cursor, slots: &mut Slots) -> Option<(Launch, Cursor)> {
        let mut from = cursor.partition;
        let stages = job.graph.stages.iter().zip(&job.runs).skip(cursor.stage as usize);
        for (stage, run) in stages {
            let open = if job.is_ready(stage) { Some(run.open.range(from..)) } else { None };
            from = 0;
            for &partition in open.into_iter().flatten() {
                let task = TaskId { job: job.id, stage: stage.id, partition };
                if self.by_task.contains_key(&task) {
                    continue;
                }
                let Some((executor, incarnation)) = slots.take(self, job, stage, partition) else { continue };
                self.counter += 1;
                let attempt = AttemptId { term: self.term, counter: self.counter };
                self.launched(attempt, Running { task, executor: executor.clone(), incarnation });
                let launch = Launch { executor, incarnation, task, attempt, epoch: run.epoch };
                return Some((launch, Cursor { stage: stage.id.0, partition: partition + 1 }));
            }
        }
        None
    }

    /// Drops attempts of executors that are lost or live a new life, and waits for such no more.
    fn forget_lost(&mut self, state: &ClusterState) {
        let is_gone = |running: &Running| state.present(&running.executor, running.incarnation).is_none();
        let gone: Vec<AttemptId> = self.running.iter().filter(|(_, r)| is_gone(r)).map(|(a, _)| *a).collect();
        for attempt in gone {
            self.ended(attempt);
        }
        self.attached.retain(|executor, incarnation| state.present(executor, *incarnation).is_some());
        self.awaited.retain(|executor| state.executor(executor).is_some_and(|e| e.is_present()));
    }
}
