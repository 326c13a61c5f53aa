//! A job and how far it got. Running attempts are not here: task starts stay off the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use polybolos_model::{
    AttemptId, ExecutorId, IdempotencyKey, Incarnation, JobId, PartitionStats, SessionId, Stage, StageGraph,
    StageId, TaskError, TaskMetrics,
};
use serde::{Deserialize, Serialize};

/// Only moves forward: queued, running, then one of the three ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum JobStatus {
    /// No report of a task has been committed. (The leader may know of running attempts, which the log does not.)
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl JobStatus {
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Why a job failed or was cancelled, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    pub error: TaskError,
    /// The rest is absent when no task is to blame.
    pub stage: Option<StageId>,
    pub partition: Option<u32>,
    pub attempt: Option<AttemptId>,
    pub executor: Option<ExecutorId>,
}

impl JobError {
    /// An error that no task is to blame for.
    pub fn of_job(error: TaskError) -> Self {
        Self { error, stage: None, partition: None, attempt: None, executor: None }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let mut separator = " [";
        let mut part = |f: &mut fmt::Formatter<'_>, name: &str, value: Option<&dyn fmt::Display>| match value
        {
            Some(value) => {
                write!(f, "{separator}{name} {value}")?;
                separator = ", ";
                Ok(())
            }
            None => Ok(()),
        };
        part(f, "stage", self.stage.as_ref().map(|v| v as _))?;
        part(f, "partition", self.partition.as_ref().map(|v| v as _))?;
        part(f, "attempt", self.attempt.as_ref().map(|v| v as _))?;
        part(f, "executor", self.executor.as_ref().map(|v| v as _))?;
        if separator == ", " { f.write_str("]") } else { Ok(()) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    /// Ascending in the order of submission.
    pub number: u64,
    /// Raised by each change of the job, so that a watcher knows whether there is news.
    pub revision: u64,
    pub key: Option<IdempotencyKey>,
    pub session: Option<SessionId>,
    pub sql: String,
    pub options: BTreeMap<String, String>,
    pub explain_analyze: Option<String>,
    pub ordered: bool,
    /// The result's schema, as an Arrow IPC stream without batches.
    pub schema: Vec<u8>,
    pub cancel_when_unwatched_ms: u64,
    pub submitted_at_ms: u64,
    pub ended_at_ms: Option<u64>,
    pub status: JobStatus,
    /// Set exactly when the job failed or was cancelled.
    pub error: Option<JobError>,
    /// The stages; their `plan` bytes are dropped when nothing of the job can run again.
    pub graph: StageGraph,
    /// `runs[i]` belongs to `graph.stages[i]`.
    pub runs: Vec<StageRun>,
    /// The job has ended and its outputs may be deleted.
    pub released: bool,
    /// Outputs of the result stage that were lost after success and before release, with the reason. A client that
    /// has not read such a partition must be told so: nothing runs it again unless it asks for it
    /// ([`crate::Command::ReopenJob`]).
    pub results_lost: BTreeMap<u32, String>,
}

impl Job {
    /// The last stage, whose outputs the client reads.
    pub fn result_stage(&self) -> StageId {
        StageId(u32::try_from(self.runs.len().saturating_sub(1)).unwrap_or(u32::MAX))
    }

    pub fn stage(&self, id: StageId) -> Option<(&Stage, &StageRun)> {
        Some((self.graph.stage(id)?, self.runs.get(id.0 as usize)?))
    }

    pub fn run(&self, id: StageId) -> Option<&StageRun> {
        self.runs.get(id.0 as usize)
    }

    pub fn task(&self, stage: StageId, partition: u32) -> Option<&TaskRun> {
        self.run(stage)?.tasks.get(partition as usize)
    }

    /// Completed partitions of the result stage, ascending.
    pub fn results(&self) -> impl Iterator<Item = (u32, &TaskDone)> {
        self.runs.last().into_iter().flat_map(StageRun::completed)
    }

    /// Whether every input of the stage is complete, and it is decided who reads what of them: its tasks may run.
    pub fn is_ready(&self, stage: &Stage) -> bool {
        self.has_inputs(stage) && !stage.is_undecided()
    }

    /// Whether every input of the stage is complete.
    pub fn has_inputs(&self, stage: &Stage) -> bool {
        stage.inputs.iter().all(|input| self.run(input.stage).is_some_and(StageRun::is_complete))
    }

    pub fn tasks_total(&self) -> usize {
        self.runs.iter().map(|run| run.tasks.len()).sum()
    }

    pub fn tasks_done(&self) -> usize {
        self.runs.iter().map(StageRun::done).sum()
    }
}

/// How far a stage got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRun {
    /// Raised when inputs of the stage moved: what its tasks were told about them is no longer true.
    pub epoch: u32,
    /// How often lost outputs sent tasks back to not done. Until version 3 it is bounded by
    /// [`crate::limits::MAX_STAGE_RERUNS`], from then on [`TaskRun::reruns`] is.
    pub reruns: u32,
    /// It was complete at some time, so readers may have used its outputs.
    pub was_complete: bool,
    /// Partitions that are not completed.
    pub open: BTreeSet<u32>,
    /// `tasks[p]` computes partition `p`.
    pub tasks: Vec<TaskRun>,
}

impl StageRun {
    pub fn is_complete(&self) -> bool {
        self.open.is_empty()
    }

    pub fn done(&self) -> usize {
        self.tasks.len() - self.open.len()
    }

    /// Completed partitions, ascending.
    pub fn completed(&self) -> impl Iterator<Item = (u32, &TaskDone)> {
        (0u32..).zip(&self.tasks).filter_map(|(partition, task)| Some((partition, task.completed.as_ref()?)))
    }
}

/// One task: what is known of its attempts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRun {
    /// The first completion that was committed and whose output is not lost.
    pub completed: Option<TaskDone>,
    /// Failed attempts that count towards [`polybolos_model::limits::MAX_TASK_ATTEMPTS`].
    pub failures: u32,
    /// Attempts that are over without a usable output, the newest last,
    /// at most [`crate::limits::max_past_attempts`].
    pub past: Vec<PastAttempt>,
}

impl TaskRun {
    pub fn is_past(&self, attempt: AttemptId) -> bool {
        self.past.iter().any(|past| past.attempt == attempt)
    }

    /// How often it must run again because its output was lost or given up.
    pub fn reruns(&self) -> u32 {
        self.past.iter().map(|past| u32::from(past.fate == Fate::OutputLost)).sum()
    }

    /// Whether an attempt failed there, for a reason of its own.
    pub fn failed_on(&self, executor: &ExecutorId) -> bool {
        self.met(Fate::Failed, executor)
    }

    /// Whether an attempt could not read its input there.
    pub fn lost_input_on(&self, executor: &ExecutorId) -> bool {
        self.met(Fate::InputLost, executor)
    }

    fn met(&self, fate: Fate, executor: &ExecutorId) -> bool {
        self.past.iter().any(|past| past.fate == fate && past.executor == *executor)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDone {
    pub executor: ExecutorId,
    pub incarnation: Incarnation,
    pub attempt: AttemptId,
    /// One for each output partition of the stage; dropped, but for the result stage, when the job is released.
    pub outputs: Vec<PartitionStats>,
    pub metrics: TaskMetrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastAttempt {
    pub attempt: AttemptId,
    pub executor: ExecutorId,
    pub fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    Failed,
    /// It failed because an input could not be read.
    InputLost,
    /// It completed, and its output was lost, or given up because of what it had read.
    OutputLost,
}
