//! Executors that were asked to leave, and outputs that were handed over to others.
//!
//! ```text
//!   BeginDrain ─▶ draining ─▶ OutputMoved … ─▶ ExecutorLeft ─▶ left, until it registers anew
//!                    └──────▶ LoseExecutor ─▶ lost, as any other
//! ```
//!
//! The log knows that an executor drains, until when its tasks may run there, and where each output is. Which output
//! goes where next, and that nothing runs there any more, is the leader's to find out: see [`crate::Dispatcher::drain`].

use std::collections::{BTreeMap, BTreeSet};

use polybolos_model::{AttemptId, ExecutorId, Incarnation, JobId, StageId, TaskId};
use serde::{Deserialize, Serialize};

use crate::{
    ClusterState, Executor, ExecutorState, Job, JobStatus, StageRun, TaskDone, extension::ExtensionV3,
};

/// The leaving of one life of an executor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    pub incarnation: Incarnation,
    /// When it was first asked to leave.
    pub since_ms: u64,
    /// What runs there then is stopped, and runs elsewhere.
    pub until_ms: u64,
    /// Outputs that it has handed over.
    pub moved: u32,
    /// It is gone, and was let go.
    pub left: bool,
}

/// Outputs of a job that are not where they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moves {
    /// How often an output moved: whoever was told where outputs are knows by it whether that is still true.
    pub(crate) count: u64,
    /// Completed tasks whose output has moved.
    pub(crate) tasks: BTreeSet<(StageId, u32)>,
}

/// Where a moved output is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedOutput<'a> {
    pub task: TaskId,
    pub attempt: AttemptId,
    pub executor: &'a Executor,
}

impl ClusterState {
    /// The present or last drain of the executor, in the life that it lives or lived last.
    pub fn drain_of(&self, executor: &ExecutorId) -> Option<&Drain> {
        self.extension.v3.drains.get(executor)
    }

    /// Executors that are on their way out, ascending by id.
    pub fn drains(&self) -> impl Iterator<Item = (&Executor, &Drain)> {
        let drains = self.extension.v3.drains.iter();
        drains.filter_map(|(id, drain)| Some((self.present(id, drain.incarnation)?, drain)))
    }

    /// Whether the executor was let go, and has not come back.
    pub fn has_left(&self, executor: &Executor) -> bool {
        let drain = self.drain_of(&executor.id).filter(|drain| drain.incarnation == executor.incarnation);
        executor.state == ExecutorState::Lost && drain.is_some_and(|drain| drain.left)
    }

    /// Outputs that somebody may still read and that are nowhere but on this life of the executor: what must be handed
    /// over before it may go. Those of active jobs first. Reads all tasks of such jobs.
    pub fn only_there(&self, executor: &ExecutorId, incarnation: Incarnation) -> Vec<(TaskId, &TaskDone)> {
        if polybolos_model::mutant!("drain-drops-outputs") {
            return Vec::new();
        }
        let is_there = |job: &Job, done: &TaskDone| {
            done.executor == *executor
                && done.incarnation == incarnation
                && !self.is_durable(job.id, done.attempt)
        };
        let mut found = Vec::new();
        for job in self.active_jobs().chain(self.unfetched_jobs()) {
            for (stage, run) in
                job.graph.stages.iter().zip(&job.runs).filter(|(stage, _)| is_needed(job, stage.id))
            {
                let there = run.completed().filter(|(_, done)| is_there(job, done));
                let task = |partition| TaskId { job: job.id, stage: stage.id, partition };
                found.extend(there.map(|(partition, done)| (task(partition), done)));
            }
        }
        found
    }

    /// How often an output of the job has moved.
    pub fn moves(&self, job: JobId) -> u64 {
        self.extension.v3.moves.get(&job).map_or(0, |moves| moves.count)
    }

    /// The outputs that have moved and where they are, for who was told of another place.
    pub fn moved_outputs(&self) -> impl Iterator<Item = MovedOutput<'_>> {
        let moves = self.extension.v3.moves.iter();
        let moved = moves.flat_map(|(job, moves)| moves.tasks.iter().map(move |task| (*job, *task)));
        moved.filter_map(|(job, (stage, partition))| self.moved_output(TaskId { job, stage, partition }))
    }

    /// Where the output of the task is, if it has moved and is there.
    pub fn moved_output(&self, task: TaskId) -> Option<MovedOutput<'_>> {
        let moves = self.extension.v3.moves.get(&task.job)?;
        moves.tasks.get(&(task.stage, task.partition))?;
        let done = self.job(task.job)?.task(task.stage, task.partition)?.completed.as_ref()?;
        let executor = self.present(&done.executor, done.incarnation)?;
        Some(MovedOutput { task, attempt: done.attempt, executor })
    }
}

/// Whether outputs of the stage may still be read: by a stage that is not complete, or by the client.
pub(crate) fn is_needed(job: &Job, stage: StageId) -> bool {
    let is_open = |reader: StageId| job.run(reader).is_some_and(|run| !run.is_complete());
    match job.status {
        JobStatus::Queued | JobStatus::Running => {
            stage == job.result_stage() || job.graph.readers(stage).any(|reader| is_open(reader.id))
        }
        JobStatus::Succeeded => stage == job.result_stage() && !job.released,
        JobStatus::Failed | JobStatus::Cancelled => false,
    }
}

impl ExtensionV3 {
    /// Only completed tasks have an output that can have moved.
    pub(crate) fn forget_undone_moves(&mut self, job: &Job) {
        let Some(moves) = self.moves.get_mut(&job.id) else { return };
        let completed = |run: &StageRun, partition: u32| {
            run.tasks.get(partition as usize).is_some_and(|task| task.completed.is_some())
        };
        moves
            .tasks
            .retain(|(stage, partition)| job.run(*stage).is_some_and(|run| completed(run, *partition)));
    }
}

/// By executors in the state.
pub(crate) type Drains = BTreeMap<ExecutorId, Drain>;
