//! What a command did. The leader tells its clients and executors from this; nobody else needs it.

use polybolos_model::{AttemptId, ExecutorId, Incarnation, JobId, ReplicaId, StageId, TaskId};
use serde::{Deserialize, Serialize};

use crate::{JobStatus, Rejection, TaskDone};

/// The outcomes of an entry: one for each of its commands, in the same order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub outcomes: Vec<Result<Change, Rejection>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The command was right and there was nothing to do (a repeated report, `IF EXISTS`, …).
    Unchanged,
    Submitted {
        job: JobId,
    },
    /// The key is known: this is the first submit's job, which may have ended or been forgotten.
    Duplicate {
        job: JobId,
    },
    /// Cancelled, failed or published by command.
    JobEnded {
        job: JobId,
        status: JobStatus,
    },
    Released {
        job: JobId,
    },
    /// Ascending by submission.
    Expired {
        jobs: Vec<JobId>,
    },
    TaskCompleted {
        task: TaskId,
        stage_complete: bool,
        /// Set when the job has succeeded by it. (One that writes is published first.)
        job_ended: bool,
    },
    TaskFailed {
        task: TaskId,
        /// Failures of the task that count so far.
        failures: u32,
        effects: Effects,
    },
    Registered {
        executor: ExecutorId,
        incarnation: Incarnation,
        /// The incarnation of another process that this one took the place of.
        replaced: Option<(ExecutorId, Incarnation)>,
        effects: Effects,
    },
    Draining {
        executor: ExecutorId,
    },
    Suspected {
        executor: ExecutorId,
    },
    Lost {
        executor: ExecutorId,
        incarnation: Incarnation,
        effects: Effects,
    },
    Beats {
        accepted: u32,
        /// Executors whose incarnation is not the present one: they must register anew.
        stale: Vec<ExecutorId>,
    },
    Created,
    Replaced,
    Dropped,
    SessionSet,
    SessionClosed,
    ClusterFounded,
    /// It is new, or can apply another version than before.
    ReplicaRegistered {
        replica: ReplicaId,
    },
    ReplicaRetired {
        replica: ReplicaId,
    },
    VersionRaised {
        to: u16,
    },
    ClusterRestarted {
        effects: Effects,
    },
    /// Of so many executors the count is another one now.
    RefusedCommandsCounted {
        executors: u32,
    },
    /// The task's output outlives its executor from now on.
    MadeDurable {
        task: TaskId,
    },
    /// Of so many tasks one more run ended with its executor's death.
    DeathsCounted {
        tasks: u32,
        effects: Effects,
    },
    /// Partitions of the result are made again, or were and can't be.
    Reopened {
        job: JobId,
        effects: Effects,
    },
    /// The task's output is on another executor from now on.
    OutputMoved {
        task: TaskId,
    },
    /// It was let go.
    Left {
        executor: ExecutorId,
        incarnation: Incarnation,
        effects: Effects,
    },
    /// What the job had staged is gone.
    Swept {
        job: JobId,
    },
    /// In the order of the command.
    JobsStarted {
        jobs: Vec<JobId>,
    },
    StageAdapted {
        job: JobId,
        stage: StageId,
        /// As many as there are shares, or as were planned.
        tasks: u32,
        /// See [`crate::Command::AdaptStage`].
        after: AttemptId,
    },
}

/// What else followed from a failure or a loss. Each list is ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effects {
    /// Tasks that were complete and are not any more.
    pub rerun: Vec<TaskId>,
    /// What their lost attempts had cost.
    pub lost_work: Vec<LostWork>,
    /// Attempts whose output is of no use any more, on executors that are still present: delete it there.
    pub orphaned: Vec<(ExecutorId, AttemptId)>,
    /// Jobs that failed of it.
    pub failed: Vec<JobId>,
    /// Ended jobs of whose unfetched results some are gone; see [`crate::Job::results_lost`].
    pub results_lost: Vec<JobId>,
}

/// The cost of a completed attempt whose output is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LostWork {
    pub task: TaskId,
    pub elapsed_us: u64,
    /// Of its output, in memory, before compression.
    pub bytes: u64,
}

impl LostWork {
    pub(crate) fn of(task: TaskId, done: &TaskDone) -> Self {
        Self { task, elapsed_us: done.metrics.elapsed_us, bytes: done.metrics.bytes_out }
    }
}
