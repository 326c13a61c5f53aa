//! Everything that can change the state. Variants are stored by position: append, never reorder.

use std::collections::BTreeMap;

use polybolos_model::{
    AttemptId, ExecutorId, IdempotencyKey, Incarnation, JobId, PartitionStats, ReplicaId, SessionId, Share,
    StageGraph, StageId, TaskError, TaskId, TaskMetrics, WriteTarget,
};
use serde::{Deserialize, Serialize};

use crate::{FIRST_VERSION, JobError, NewTable, RelationKind, RelationName, TableDef};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Accepts a query for execution; with a known `key` it is answered with the first one's job.
    SubmitJob {
        job: JobId,
        key: Option<IdempotencyKey>,
        session: Option<SessionId>,
        sql: String,
        graph: StageGraph,
        /// DataFusion's options by full name, sent to executors with the stages.
        options: BTreeMap<String, String>,
        /// Text of the plans of an `EXPLAIN ANALYZE`, shown with the metrics instead of the rows.
        explain_analyze: Option<String>,
        /// The result partitions must be read one after the other.
        ordered: bool,
        /// The result's schema, as an Arrow IPC stream without batches.
        schema: Vec<u8>,
        /// Cancel the job when nobody has watched it for this long; 0 for never.
        cancel_when_unwatched_ms: u64,
    },
    CancelJob {
        job: JobId,
        reason: String,
    },
    /// The leader can't go on with a job, and no attempt is to blame.
    FailJob {
        job: JobId,
        error: JobError,
    },
    /// The client holds the rows that it wants: the job's outputs may be deleted.
    ReleaseJob {
        job: JobId,
    },
    /// Releases jobs whose results were not fetched within [`crate::limits::RESULT_TTL_MS`], by the entry's time.
    ExpireJobs,
    CompleteTask {
        executor: ExecutorId,
        incarnation: Incarnation,
        task: TaskId,
        attempt: AttemptId,
        /// One for each output partition of the stage.
        outputs: Vec<PartitionStats>,
        metrics: TaskMetrics,
    },
    FailTask {
        executor: ExecutorId,
        incarnation: Incarnation,
        task: TaskId,
        attempt: AttemptId,
        error: TaskError,
    },
    /// The same process keeps its incarnation while it is not lost; any other gets a new one.
    RegisterExecutor {
        executor: ExecutorId,
        /// `HOST:PORT` of its Arrow Flight service.
        address: String,
        slots: u32,
        memory_bytes: u64,
        labels: BTreeMap<String, String>,
        /// Drawn anew by each process.
        process_id: u64,
    },
    /// The executor takes no new tasks and finishes its own.
    DrainExecutor {
        executor: ExecutorId,
    },
    /// The executor is gone, with all that it held.
    LoseExecutor {
        executor: ExecutorId,
        incarnation: Incarnation,
        reason: String,
    },
    /// One for the whole fleet, ascending by executor. Beats of older incarnations are skipped and named.
    Heartbeats {
        beats: Vec<LoggedBeat>,
    },
    CreateTable {
        name: RelationName,
        table: TableDef,
        or_replace: bool,
        if_not_exists: bool,
    },
    CreateView {
        name: RelationName,
        /// The view's query.
        sql: String,
        or_replace: bool,
        if_not_exists: bool,
    },
    DropRelation {
        name: RelationName,
        if_exists: bool,
        kind: RelationKind,
    },
    /// Sets an option of a session, which its first option makes.
    SetSession {
        session: SessionId,
        key: String,
        value: String,
    },
    ResetSession {
        session: SessionId,
        key: String,
    },
    CloseSession {
        session: SessionId,
    },
    /// The executor's stream broke: it gets no new tasks, and is lost unless it is heard of again soon.
    SuspectExecutor {
        executor: ExecutorId,
        incarnation: Incarnation,
    },
    /// Names a cluster that has no name yet.
    FoundCluster {
        cluster_id: String,
    },
    /// Binds a scheduler replica's id to its data folder, and says what the replica can apply.
    RegisterReplica {
        replica: ReplicaId,
        /// Drawn when the folder was made.
        folder: u64,
        /// Highest version of entries that the replica can apply.
        version: u16,
    },
    /// The replica has left for good: its id is never used again.
    RetireReplica {
        replica: ReplicaId,
    },
    /// Entries after this one may have this version.
    RaiseVersion {
        to: u16,
    },
    /// The state goes on with `replica` alone: from a backup as another cluster, with a new `cluster_id`, or as the
    /// same one whose majority was given up.
    RestartCluster {
        cluster_id: Option<String>,
        replica: ReplicaId,
        /// What happened, for people; cut to [`crate::limits::MAX_NOTE_BYTES`].
        note: String,
    },
    /// How many commands of deposed leaders executors have refused since they started. Ascending by executor; those
    /// that are not known are skipped.
    RefusedCommands {
        counts: Vec<(ExecutorId, u64)>,
    },
    /// [`Command::CompleteTask`] that also knows which inputs the attempt was given, and where else its output is.
    CompleteTaskIn {
        executor: ExecutorId,
        incarnation: Incarnation,
        task: TaskId,
        attempt: AttemptId,
        /// Of the task's stage, when the attempt was launched.
        epoch: u32,
        /// The output is in the durable store too.
        durable: bool,
        /// One for each output partition of the stage.
        outputs: Vec<PartitionStats>,
        metrics: TaskMetrics,
    },
    /// What ran on an executor when its process died, as far as the leader knows. The loss itself is a command of its
    /// own, in the same entry. A death counts once for each task, however often it is told.
    TasksDied {
        executor: ExecutorId,
        incarnation: Incarnation,
        tasks: Vec<(TaskId, AttemptId)>,
    },
    /// The output of a completed task is in the durable store too by now: it outlives its executor.
    OutputDurable {
        executor: ExecutorId,
        incarnation: Incarnation,
        task: TaskId,
        attempt: AttemptId,
    },
    /// Somebody wants to read the result of a job that has succeeded, and partitions of it are lost: their tasks run
    /// again, with all that they need. Of an active job only `unreadable` runs again.
    ReopenJob {
        job: JobId,
        /// Partitions of the result that the executor of that attempt can't give any more, by its own word.
        unreadable: Vec<(u32, AttemptId)>,
    },
    /// The executor is asked to leave: it takes no new tasks, hands its outputs over, and is then let go. Asked again, the
    /// last deadline counts.
    BeginDrain {
        executor: ExecutorId,
        incarnation: Incarnation,
        /// How long tasks may run on there, from the entry's time.
        deadline_ms: u64,
    },
    /// `executor` holds the whole output of a completed task, which it has from where the log knows it.
    OutputMoved {
        executor: ExecutorId,
        incarnation: Incarnation,
        task: TaskId,
        attempt: AttemptId,
        from: ExecutorId,
        from_incarnation: Incarnation,
    },
    /// A drained executor is let go, for the reason given. What is needed and was not handed over is lost with it.
    ExecutorLeft {
        executor: ExecutorId,
        incarnation: Incarnation,
        reason: String,
    },
    /// [`Command::SubmitJob`] of a statement whose last stage writes files, and gives no rows.
    SubmitWrite {
        job: JobId,
        key: Option<IdempotencyKey>,
        session: Option<SessionId>,
        sql: String,
        graph: StageGraph,
        /// DataFusion's options by full name, sent to executors with the stages.
        options: BTreeMap<String, String>,
        /// Of the answer, one row with the number of rows written: an Arrow IPC stream without batches.
        schema: Vec<u8>,
        cancel_when_unwatched_ms: u64,
        target: WriteTarget,
        /// What a `CREATE TABLE AS` makes of the files.
        table: Option<NewTable>,
    },
    /// The files of all tasks that won have their final names: the job has succeeded.
    Published {
        job: JobId,
    },
    /// The files of a job can't be published: it fails.
    AbandonWrite {
        job: JobId,
        error: JobError,
    },
    /// Nothing is left of what an ended job had staged.
    Swept {
        job: JobId,
    },
    /// Attempts of these queued jobs run. Starts of tasks are not logged, but what a client was told of a job's status must
    /// outlive the leader that told it. Those that are not queued any more are skipped.
    JobsStarted {
        jobs: Vec<JobId>,
    },
    /// How the tasks of a stage divide its inputs among them, which are complete: the i-th share is read by the i-th task. As
    /// planned if there are none. Made once for each stage that asks for it, and kept whatever runs again.
    AdaptStage {
        job: JobId,
        stage: StageId,
        shares: Vec<Share>,
        /// The last attempt that the leader had named by then. Those up to it were not launched by this decision, and count
        /// for nothing: one of another division of the inputs may have been made, and never been logged.
        after: AttemptId,
    },
}

impl Command {
    /// From which version on [`Command::ReopenJob`] may be proposed.
    pub const REOPEN_VERSION: u16 = 3;
    /// From which version on [`Command::JobsStarted`] may be proposed.
    pub const STARTS_VERSION: u16 = 3;
    /// From which version on a stage may be left to [`Command::AdaptStage`].
    pub const ADAPT_VERSION: u16 = 4;

    /// The version of entries in which this command first appeared.
    pub fn needs_version(&self) -> u16 {
        match self {
            Self::SubmitJob { graph, .. } | Self::SubmitWrite { graph, .. } if graph.is_adaptive() => {
                Self::ADAPT_VERSION
            }
            Self::SubmitJob { .. }
            | Self::CancelJob { .. }
            | Self::FailJob { .. }
            | Self::ReleaseJob { .. }
            | Self::ExpireJobs
            | Self::CompleteTask { .. }
            | Self::FailTask { .. }
            | Self::RegisterExecutor { .. }
            | Self::DrainExecutor { .. }
            | Self::LoseExecutor { .. }
            | Self::Heartbeats { .. }
            | Self::CreateTable { .. }
            | Self::CreateView { .. }
            | Self::DropRelation { .. }
            | Self::SetSession { .. }
            | Self::ResetSession { .. }
            | Self::CloseSession { .. }
            | Self::SuspectExecutor { .. }
            | Self::FoundCluster { .. }
            | Self::RegisterReplica { .. }
            | Self::RetireReplica { .. }
            | Self::RaiseVersion { .. }
            | Self::RestartCluster { .. } => FIRST_VERSION,
            Self::RefusedCommands { .. } => 2,
            Self::CompleteTaskIn { .. }
            | Self::TasksDied { .. }
            | Self::OutputDurable { .. }
            | Self::ReopenJob { .. }
            | Self::BeginDrain { .. }
            | Self::OutputMoved { .. }
            | Self::ExecutorLeft { .. }
            | Self::SubmitWrite { .. }
            | Self::Published { .. }
            | Self::AbandonWrite { .. }
            | Self::Swept { .. }
            | Self::JobsStarted { .. } => 3,
            Self::AdaptStage { .. } => Self::ADAPT_VERSION,
        }
    }
}

/// What an executor says of itself every heartbeat interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    pub executor: ExecutorId,
    pub incarnation: Incarnation,
    pub memory_used_bytes: u64,
    /// Shuffle outputs held, in memory and on disk.
    pub shuffle_bytes: u64,
    pub running_tasks: u32,
    /// Commands of deposed leaders that it refused since it started. It goes into the log by a command of its own,
    /// [`Command::RefusedCommands`], and only when it has changed.
    pub refused_commands: u64,
}

/// What the log keeps of a [`Beat`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedBeat {
    pub executor: ExecutorId,
    pub incarnation: Incarnation,
    pub memory_used_bytes: u64,
    pub shuffle_bytes: u64,
    pub running_tasks: u32,
}

impl From<Beat> for LoggedBeat {
    fn from(beat: Beat) -> Self {
        let Beat {
            executor,
            incarnation,
            memory_used_bytes,
            shuffle_bytes,
            running_tasks,
            refused_commands: _,
        } = beat;
        Self { executor, incarnation, memory_used_bytes, shuffle_bytes, running_tasks }
    }
}
