//! How much memory a task is said to need: from the operators of its stage, the measured sizes of its inputs, and what
//! tasks of the stage that are done have used.
//!
//! ```text
//!   held  = 3/2 × (broadcast inputs, whole + of the other inputs all but the largest)
//!           nothing in a stage without a join that holds a side
//!   needs = (1 MiB + held) × Σ (1 MiB + used) ÷ Σ (1 MiB + held)     sums over tasks of the stage that are done
//! ```
//!
//! What a join holds is a hash table of its smaller side, which has to be there as a whole; the largest input streams past.
//! Sorts and aggregates make do with what is left and go to disk, so they count for nothing, nor does a stage that only
//! streams. Sources have no measured size: a join with one inside its own stage is known by its first task that is done.
//! An estimate is wrong at times. That costs time, never rows: a task that does not fit all the same goes to disk.

use std::collections::BTreeMap;

use polybolos_model::{Exchange, JobId, ReadMode, Share, Stage, StageId, TaskMetrics};

use crate::{
    ClusterState, Job, StageRun,
    limits::{MAX_ESTIMATE_STATS, MAX_LOCALITY_MAPS},
};

/// Of a task that only streams: some batches on their way.
const STREAMING_BYTES: u64 = 1 << 20;

/// Operators that hold one of their inputs, as [`Stage::display`] names them.
const HOLDERS: [&str; 4] = ["HashJoinExec", "NestedLoopJoinExec", "CrossJoinExec", "PiecewiseMergeJoinExec"];

/// What such an operator held at most, in the metrics of a task. It is not told of cross joins. A table that another task of the
/// stage on the same executor had built counts as if it were the task's own: on another executor it would be.
const USED: [&str; 2] = ["build_mem_used", "build_mem_shared"];

/// Tasks of a stage whose use is looked at.
const MAX_SAMPLES: usize = 64;

/// Stages more than twice those that were left after the last time before those of ended jobs are forgotten.
const MAX_ENDED: usize = 64;

/// What is known of one stage.
#[derive(Debug, Clone)]
struct Profile {
    epoch: u32,
    /// Of the stage: fewer or more once it is decided what they read.
    tasks: usize,
    /// Whether an operator of its plan holds an input.
    holds: bool,
    /// Of each task, empty if nothing is held.
    held: Vec<u64>,
    /// How many of its tasks were done at the last correction.
    corrected_at: usize,
    /// Of those tasks: what they used, and what they were said to need.
    used: u128,
    said: u128,
}

impl Profile {
    fn new(state: &ClusterState, job: &Job, stage: &Stage, run: &StageRun) -> Self {
        let holds = stage.display.lines().any(|line| HOLDERS.contains(&operator(line)));
        let held = if holds { held(state, job, stage) } else { Vec::new() };
        let mut profile =
            Self { epoch: run.epoch, tasks: run.tasks.len(), holds, held, corrected_at: 0, used: 0, said: 0 };
        profile.correct(run);
        profile
    }

    fn is_old(&self, run: &StageRun) -> bool {
        self.epoch != run.epoch || self.tasks != run.tasks.len()
    }

    /// Before what was measured.
    fn said(&self, partition: u32) -> u128 {
        let held = self.held.get(partition as usize).copied().unwrap_or(0);
        u128::from(STREAMING_BYTES) + u128::from(held)
    }

    fn needs(&self, partition: u32) -> u64 {
        let said = self.said(partition);
        let needs = said.saturating_mul(self.used).checked_div(self.said).unwrap_or(said);
        u64::try_from(needs).unwrap_or(u64::MAX).max(STREAMING_BYTES)
    }

    /// Whenever twice as many are done as the last time, until there are enough: so a stage costs a few looks.
    fn correct(&mut self, run: &StageRun) {
        let done = run.done();
        if !self.holds || self.corrected_at >= MAX_SAMPLES || done < (2 * self.corrected_at).max(1) {
            return;
        }
        self.corrected_at = done;
        (self.used, self.said) = (0, 0);
        for (partition, done) in run.completed().take(MAX_SAMPLES) {
            let used = used_bytes(&done.metrics);
            // One that ran again with joins that go to disk tells nothing of what it would have held.
            if used == 0 && done.metrics.spilled_bytes > 0 {
                continue;
            }
            self.used += u128::from(STREAMING_BYTES) + u128::from(used);
            self.said += self.said(partition);
        }
    }
}

/// The profiles of the stages that were looked at, so that planning them costs a look each.
#[derive(Debug, Clone, Default)]
pub(super) struct Estimates {
    by_stage: BTreeMap<(JobId, StageId), Profile>,
    /// After the last [`Estimates::forget_ended`].
    left: usize,
}

impl Estimates {
    /// What the task needs, in bytes.
    pub(super) fn needs(
        &mut self,
        state: &ClusterState,
        job: &Job,
        stage: &Stage,
        run: &StageRun,
        partition: u32,
    ) -> u64 {
        // What is on its way again is not measured yet, and the stage's epoch may not tell of its coming.
        if !job.is_ready(stage) {
            return Profile::new(state, job, stage, run).needs(partition);
        }
        let new = || {
            let mut profile = Profile::new(state, job, stage, run);
            if polybolos_model::buggify!("scheduler.estimate_high") {
                profile.held = vec![1 << 40; run.tasks.len()];
            }
            profile
        };
        let profile = self.by_stage.entry((job.id, stage.id)).or_insert_with(new);
        if profile.is_old(run) {
            *profile = new();
        }
        profile.correct(run);
        profile.needs(partition)
    }

    /// The same, for people.
    pub(super) fn look(
        &self,
        state: &ClusterState,
        job: &Job,
        stage: &Stage,
        run: &StageRun,
        partition: u32,
    ) -> u64 {
        match self.by_stage.get(&(job.id, stage.id)).filter(|profile| !profile.is_old(run)) {
            Some(profile) => profile.needs(partition),
            None => Profile::new(state, job, stage, run).needs(partition),
        }
    }

    pub(super) fn forget_ended(&mut self, state: &ClusterState) {
        if self.by_stage.len() > 2 * self.left + MAX_ENDED {
            self.by_stage.retain(|(job, _), _| state.running_job(*job).is_some());
            self.left = self.by_stage.len();
        }
    }
}

/// The name in a line of [`Stage::display`].
fn operator(line: &str) -> &str {
    let line = line.trim_start();
    line.split(|c: char| !c.is_alphanumeric()).next().unwrap_or(line)
}

fn used_bytes(metrics: &TaskMetrics) -> u64 {
    let values = metrics.operators.iter().flat_map(|operator| &operator.values);
    values
        .filter(|(name, _)| USED.contains(&name.as_str()))
        .fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
}

/// What each task of the stage holds of its inputs. Below a union partitions are numbered anew, so this may be a
/// neighbour's share.
fn held(state: &ClusterState, job: &Job, stage: &Stage) -> Vec<u64> {
    let tasks = stage.tasks as usize;
    let shares = state.shares(job.id, stage.id);
    let mut whole = 0u64;
    let mut others = vec![Streams::default(); tasks];
    for input in &stage.inputs {
        let Some((upstream, run)) = job.stage(input.stage) else { continue };
        match (input.read, upstream.exchange) {
            (ReadMode::All, Exchange::Broadcast) => {
                whole = whole.saturating_add(outputs(run, 1).first().copied().unwrap_or(0));
            }
            // Gathered by one reader: it streams past, as a partition does.
            (ReadMode::All, _) => {
                let all = outputs(run, 1).first().copied().unwrap_or(0);
                others.iter_mut().for_each(|streams| streams.add(all));
            }
            (ReadMode::Partition | ReadMode::Adaptive { .. } | ReadMode::Shares, _) => {
                let sums = outputs(run, shares.map_or(tasks, |_| upstream.output_partitions as usize));
                for (at, streams) in others.iter_mut().enumerate() {
                    streams.add(match shares.and_then(|shares| shares.get(at)) {
                        Some(share) => read_by(share, input.stage, run, &sums),
                        None => sums.get(at).copied().unwrap_or(0),
                    });
                }
            }
        }
    }
    let with_table = |bytes: u64| bytes.saturating_add(bytes / 2);
    others.iter().map(|of| with_table(whole.saturating_add(of.sum - of.largest))).collect()
}

/// Bytes of the partitions that a share is of, and of a divided one as large a part as it has tasks of the input.
fn read_by(share: &Share, input: StageId, run: &StageRun, sums: &[u64]) -> u64 {
    let read = sums.get(share.first as usize..share.end as usize).into_iter().flatten();
    let bytes = read.fold(0u64, |sum, bytes| sum.saturating_add(*bytes));
    match share.maps_of(input) {
        Some(maps) => bytes / run.tasks.len().max(1) as u64 * u64::from(maps.end.saturating_sub(maps.start)),
        None => bytes,
    }
}

/// Inputs of one task of which the largest streams past.
#[derive(Debug, Clone, Copy, Default)]
struct Streams {
    sum: u64,
    largest: u64,
}

impl Streams {
    fn add(&mut self, bytes: u64) {
        self.sum = self.sum.saturating_add(bytes);
        self.largest = self.largest.max(bytes);
    }
}

/// Bytes of the first output partitions of a stage, over all its tasks. Of a stage with many, every n-th counts for n.
fn outputs(run: &StageRun, partitions: usize) -> Vec<u64> {
    let most = (MAX_ESTIMATE_STATS / partitions.max(1)).clamp(1, MAX_LOCALITY_MAPS);
    let step = run.tasks.len().div_ceil(most).max(1);
    let mut sums = vec![0u64; partitions];
    for done in run.tasks.iter().step_by(step).filter_map(|task| task.completed.as_ref()) {
        for (sum, stats) in sums.iter_mut().zip(&done.outputs) {
            *sum = sum.saturating_add(stats.bytes.saturating_mul(step as u64));
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use polybolos_model::PartitionStats;

    use super::*;
    use crate::{TaskDone, TaskRun};

    #[test]
    fn operators_are_found_by_their_names() {
        assert_eq!(operator("    HashJoinExec: mode=Partitioned"), "HashJoinExec");
        assert_eq!(operator("CrossJoinExec"), "CrossJoinExec");
        assert_eq!(operator(""), "");
    }

    #[test]
    fn a_table_counts_for_the_task_that_built_it_and_for_those_that_shared_it() {
        let task = |name: &str| {
            let values = vec![("output_rows".to_owned(), 9), (name.to_owned(), 40)];
            let operators = vec![polybolos_model::OperatorMetrics { node: 1, values }];
            used_bytes(&TaskMetrics { operators, ..TaskMetrics::default() })
        };
        assert_eq!(["build_mem_used", "build_mem_shared", "build_time"].map(task), [40, 40, 0]);
    }

    #[test]
    fn of_a_stage_with_very_many_tasks_some_stand_for_all() {
        let done = TaskDone {
            executor: polybolos_model::ExecutorId::new("a").unwrap(),
            incarnation: polybolos_model::Incarnation(1),
            attempt: polybolos_model::AttemptId { term: polybolos_model::Term(1), counter: 1 },
            outputs: vec![PartitionStats { rows: 1, bytes: 3 }; 2],
            metrics: TaskMetrics::default(),
        };
        let tasks = vec![TaskRun { completed: Some(done), ..TaskRun::default() }; 4 * MAX_LOCALITY_MAPS];
        let run = StageRun { tasks, ..StageRun::default() };
        let bytes = 4 * 3 * MAX_LOCALITY_MAPS as u64;
        assert_eq!(outputs(&run, 3), [bytes, bytes, 0]);
    }
}
