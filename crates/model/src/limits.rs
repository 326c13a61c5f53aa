//! Every size that crosses a boundary, by name. Both ends of the wire enforce the same numbers.

/// Largest gRPC message either side sends or accepts. A larger plan is refused with an error that says so.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Most memory that a message may take once it is decoded: many small parts are larger there than on the wire.
pub const MAX_DECODED_BYTES: usize = 128 * 1024 * 1024;

/// What the other fields of a message may need beside a plan of [`MAX_PLAN_BYTES`].
pub const MESSAGE_OVERHEAD_BYTES: usize = 1024 * 1024;

/// Largest encoded plan of one stage, and of all the stages of a job together.
pub const MAX_PLAN_BYTES: usize = MAX_MESSAGE_BYTES - MESSAGE_OVERHEAD_BYTES;

/// Longest SQL text. Trino's `query.max-length` has the same default.
pub const MAX_SQL_BYTES: usize = 1_000_000;

/// Largest answer that a statement without a job (`SHOW`, `DESCRIBE`, `EXPLAIN`) returns inline.
pub const MAX_INLINE_RESULT_BYTES: usize = MAX_PLAN_BYTES;

/// Rows of a result partition that come with the report of its task, as an Arrow IPC stream, and from there to the client:
/// a fetch costs more than they do.
pub const MAX_INLINE_ROWS_BYTES: usize = 16 * 1024;
/// The same over all partitions of a job, so that what its client is told stays well below [`MAX_MESSAGE_BYTES`].
pub const MAX_INLINE_ROWS_OF_JOB_BYTES: usize = 1024 * 1024;

/// Longest executor, session and idempotency name.
pub const MAX_NAME_BYTES: usize = 128;

/// Longest error text that is kept and sent; the rest is cut with a mark.
pub const MAX_ERROR_BYTES: usize = 16 * 1024;

/// Most stages of a job, and most tasks of a stage.
pub const MAX_STAGES: usize = 1_000;
pub const MAX_TASKS_PER_STAGE: u32 = 10_000;

/// Most tables and views, and most sessions with options, that the catalogue holds.
pub const MAX_RELATIONS: usize = 100_000;
pub const MAX_SESSIONS: usize = 10_000;

/// Jobs waiting or running at once; a submit beyond it is refused and may be retried. A scheduler may let fewer wait
/// (`--max-queued-jobs`).
pub const MAX_ACTIVE_JOBS: usize = 10_000;
/// Ended jobs that `jobs list` still shows; the oldest are forgotten first.
pub const MAX_ENDED_JOBS: usize = 1_000;

/// Most attempts of one task that count: a retryable failure beyond it fails the job (Spark's `task.maxFailures`).
/// A job may set its own; see [`crate::settings`].
pub const MAX_TASK_ATTEMPTS: u32 = 4;

/// How often the tasks of one stage may go back to not done because outputs were lost; then the job fails.
/// Spark's `spark.stage.maxConsecutiveAttempts` has the same default. A job may set its own.
pub const MAX_STAGE_RERUNS: u32 = 4;

/// Executors that die while they run one task, after which its job fails, unless the job says otherwise.
pub const MAX_TASK_DEATHS: u32 = 3;

/// Longest limit that a job may set to its own time: 30 days. Longer ones are better left out.
pub const MAX_RUN_MS: u32 = 30 * 24 * 60 * 60 * 1_000;

/// Largest limit that a job may set to the bytes of its result: 1 PiB. Larger ones are better left out.
pub const MAX_RESULT_BYTES: u64 = 1 << 50;

/// The same for the bytes that a task reads of one partition, or of several.
pub const MAX_SHARE_BYTES: u64 = 1 << 50;

/// The same for its tasks that run at once: about as many as a thousand large executors have slots for.
pub const MAX_PARALLEL_TASKS: u32 = 1_000_000;
