//! What runs on each executor, summed up, so that a plan costs a look an executor and not one an attempt.

use std::collections::BTreeMap;

use polybolos_model::{ExecutorId, JobId, StageId};

use super::Running;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Attempts that take a slot: they have not told that they completed.
    pub(super) busy: usize,
    /// What these were said to need. Of estimates that may be as large as a number gets, so it has room for all of them.
    pub(super) needed_bytes: u128,
    /// Attempts that must have the executor to themselves, whether they have told or not.
    pub(super) alone: usize,
}

/// No empty ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Loads {
    by_executor: BTreeMap<ExecutorId, Load>,
    /// Numbers of attempts that have not ended; no zeros.
    by_stage: BTreeMap<ExecutorId, BTreeMap<(JobId, StageId), usize>>,
}

impl Loads {
    pub(super) fn of(&self, executor: &ExecutorId) -> Load {
        self.by_executor.get(executor).copied().unwrap_or_default()
    }

    /// Attempts of the stage there that have not ended, as far as the log knows.
    pub(super) fn of_stage(&self, executor: &ExecutorId, job: JobId, stage: StageId) -> usize {
        let stages = self.by_stage.get(executor);
        stages.and_then(|stages| stages.get(&(job, stage))).copied().unwrap_or(0)
    }

    pub(super) fn any_alone(&self) -> bool {
        self.by_executor.values().any(|load| load.alone > 0)
    }

    pub(super) fn begin(&mut self, running: &Running) {
        let load = self.by_executor.entry(running.executor.clone()).or_default();
        load.busy += 1;
        load.needed_bytes += u128::from(running.needs_bytes);
        load.alone += usize::from(running.alone);
        let stages = self.by_stage.entry(running.executor.clone()).or_default();
        *stages.entry((running.task.job, running.task.stage)).or_default() += 1;
    }

    /// The attempt has told that it completed: its slot is free.
    pub(super) fn free_slot(&mut self, running: &Running) {
        if let Some(load) = self.by_executor.get_mut(&running.executor) {
            load.busy -= 1;
            load.needed_bytes -= u128::from(running.needs_bytes);
        }
        self.drop_empty(&running.executor);
    }

    /// After [`Loads::free_slot`].
    pub(super) fn end(&mut self, running: &Running) {
        if let Some(load) = self.by_executor.get_mut(&running.executor) {
            load.alone -= usize::from(running.alone);
        }
        if let Some(stages) = self.by_stage.get_mut(&running.executor) {
            let stage = (running.task.job, running.task.stage);
            if let Some(count) = stages.get_mut(&stage) {
                *count -= 1;
                if *count == 0 {
                    stages.remove(&stage);
                }
            }
            if stages.is_empty() {
                self.by_stage.remove(&running.executor);
            }
        }
        self.drop_empty(&running.executor);
    }

    fn drop_empty(&mut self, executor: &ExecutorId) {
        if self.of(executor) == Load::default() {
            self.by_executor.remove(executor);
        }
    }
}

#[cfg(test)]
mod tests {
    use polybolos_model::{Incarnation, TaskId};

    use super::*;

    #[test]
    fn what_has_begun_is_counted_until_it_ends() {
        let running = |job: u64, stage: u32| Running {
            task: TaskId { job: JobId(job), stage: StageId(stage), partition: 0 },
            executor: ExecutorId::new("e").unwrap(),
            incarnation: Incarnation(1),
            epoch: Some(0),
            since_ms: 0,
            alone: false,
            copied: false,
            needs_bytes: 7,
        };
        let (e, mut loads) = (ExecutorId::new("e").unwrap(), Loads::default());
        let attempts = [running(1, 0), running(1, 0), running(1, 1), running(2, 0)];
        attempts.iter().for_each(|attempt| loads.begin(attempt));
        let of_stage = |loads: &Loads, job, stage| loads.of_stage(&e, JobId(job), StageId(stage));
        assert_eq!([of_stage(&loads, 1, 0), of_stage(&loads, 1, 1), of_stage(&loads, 2, 1)], [2, 1, 0]);
        loads.free_slot(&attempts[0]);
        assert_eq!((loads.of(&e).busy, loads.of(&e).needed_bytes, of_stage(&loads, 1, 0)), (3, 21, 2));
        loads.end(&attempts[0]);
        assert_eq!(of_stage(&loads, 1, 0), 1);
        for attempt in &attempts[1..] {
            loads.free_slot(attempt);
            loads.end(attempt);
        }
        assert!(loads.by_executor.is_empty() && loads.by_stage.is_empty());
    }
}
