//! Bounds that only the state machine knows. What crosses the wire is bounded in [`polybolos_model::limits`].

pub use polybolos_model::limits::MAX_STAGE_RERUNS;
use polybolos_model::settings::JobSettings;

/// A job's results are kept for this long after its end when its client does not fetch them.
pub const RESULT_TTL_MS: u64 = 10 * 60 * 1_000;

/// How many attempts of one task may fail because an input could not be read; then the job fails. Each re-run of an
/// upstream stage may cost a running reader one. More in a job that allows more re-runs.
pub const MAX_INPUT_FAILURES: u32 = 12;

pub fn max_input_failures(settings: &JobSettings) -> u32 {
    MAX_INPUT_FAILURES.max(3 * settings.max_stage_reruns)
}

/// Ended attempts that a task of such a job remembers, so that a report that arrives twice is told from a new one. No
/// more are possible before one of the three limits fails the job.
pub fn max_past_attempts(settings: &JobSettings) -> u32 {
    settings.max_task_attempts + settings.max_stage_reruns + max_input_failures(settings)
}

/// A task during whose runs so many executors died runs alone from then on: it takes down no neighbours, and if it
/// was a neighbour itself it is cleared.
pub const ALONE_AFTER_DEATHS: usize = 2;

/// Executors that are live or draining at once.
pub const MAX_EXECUTORS: usize = 1_000;

/// Lost executors that `status` still shows; the longest lost are forgotten first.
pub const MAX_LOST_EXECUTORS: usize = 100;

/// Idempotency keys of forgotten jobs that are still recognised; the oldest are forgotten first.
pub const MAX_SPENT_KEYS: usize = 10_000;

/// Options of one session, and the size of one option's name and value together.
pub const MAX_SESSION_OPTIONS: usize = 256;
pub const MAX_OPTION_BYTES: usize = 8 * 1024;

/// Longest address of an executor, and size of all its labels together.
pub const MAX_ADDRESS_BYTES: usize = 256;
pub const MAX_LABEL_BYTES: usize = 8 * 1024;

/// Longest name of a schema, table or view.
pub const MAX_RELATION_NAME_BYTES: usize = 256;

/// An executor that was not heard of for this long is lost. This and the two below are the defaults of
/// [`crate::policy::Patience`].
pub const EXECUTOR_TIMEOUT_MS: u64 = 3_000;

/// An executor whose stream broke and that did not come back within this time is lost.
pub const STREAM_GRACE_MS: u64 = 1_000;

/// A job that has waited this long because no executor took tasks fails.
pub const NO_EXECUTOR_WAIT_MS: u64 = 5 * 60 * 1_000;

/// A stage with more tasks than this is read from everywhere, so its readers are not placed by where its bytes are.
pub const MAX_LOCALITY_MAPS: usize = 1_024;

/// Sizes of outputs that one estimate of a stage's memory looks at: of more tasks upstream some stand for all.
pub const MAX_ESTIMATE_STATS: usize = 1 << 20;

/// Scheduler replicas that are registered at once.
pub const MAX_REPLICAS: usize = 64;

/// Ids of retired replicas that are remembered one by one. Beyond that the smallest is forgotten, and every unknown id
/// up to it counts as retired.
pub const MAX_RETIRED_REPLICAS: usize = 1_000;

/// Longest name of a cluster.
pub const MAX_CLUSTER_ID_BYTES: usize = 128;

/// Restarts of the cluster that are remembered, the oldest are forgotten first; and the longest note of one.
pub const MAX_HISTORY: usize = 20;
pub const MAX_NOTE_BYTES: usize = 1_000;

/// Statements that write, or whose left-over files are still to be deleted, at once.
pub const MAX_WRITES: usize = 1_000;

/// Longest URL of what a statement writes, with the extension of its files.
pub const MAX_TARGET_BYTES: usize = 8 * 1024;

/// Lines of one job's story, jobs that have one, and bytes of the text of a line.
pub const MAX_STORY_LINES: usize = 200;
pub const MAX_STORIES: usize = 500;
pub const MAX_STORY_TEXT_BYTES: usize = 400;

/// Lines of one job's story that tell of elections; later ones are counted in the last of them, so that a cluster that
/// elects again and again has room left for what that did to the job.
pub const MAX_STORY_ELECTIONS: usize = 20;

/// What one line names at most: tasks, and stages of whose progress it tells. And executors at the beginning of a story.
pub const MAX_STORY_TASKS: usize = 64;
pub const MAX_STORY_STAGES: usize = 100;
pub const MAX_STORY_FLEET: usize = 64;

/// A leader that decided nothing for longer than this stood still itself, and blames nobody for the rest. Its ticks
/// come several times within it, and it must stay well below [`EXECUTOR_TIMEOUT_MS`].
pub const MAX_CLOCK_STEP_MS: u64 = 1_000;

/// Longest time that tasks of a drained executor may run on.
pub const MAX_DRAIN_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

/// Outputs of a drained executor that are on their way when its deadline comes get this much longer, if another executor
/// takes them.
pub const HANDOVER_GRACE_MS: u64 = 10_000;
