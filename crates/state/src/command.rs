//! Everything that can change the state. Variants are stored by position: append, never reorder.

use std::collections::BTreeMap;

use polybolos_model::{
    AttemptId, ExecutorId, IdempotencyKey, Incarnation, JobId, PartitionStats, SessionId, StageGraph,
    TaskError, TaskId, TaskMetrics,
};
use serde::{Deserialize, Serialize};

use crate::{JobError, RelationKind, RelationName, TableDef};

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
        beats: Vec<Beat>,
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
}

/// What an executor says of itself every heartbeat interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    pub executor: ExecutorId,
    pub incarnation: Incarnation,
    pub memory_used_bytes: u64,
    /// Shuffle outputs held, in memory and on disk.
    pub shuffle_bytes: u64,
    pub running_tasks: u32,
}
