//! A job as its recorded decisions and faults: what `polybolos jobs export` writes, and the simulator replays.
//!
//! ```text
//!   replicated state, catalogue ─▶ Recorded ─▶ JSON file ─▶ polybolos-sim replay FILE
//! ```
//!
//! The SQL text and the schemas of tables are in it; rows, locations of files and options with secrets never are.
//! Times are milliseconds since the submit. What a reader does not know it leaves alone, so fields may be added; what
//! changes its meaning needs a new [`RECORDED_FORMAT`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The format that this program writes and reads.
pub const RECORDED_FORMAT: u32 = 1;

/// The first key of the file, by which it is told from others.
pub const RECORDED_KEY: &str = "polybolos_recorded";

/// A job, the cluster in which it ran, and what went wrong.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recorded {
    /// [`RECORDED_FORMAT`].
    pub polybolos_recorded: u32,
    /// The version of the program that wrote it.
    pub program: String,
    pub job: RecordedJob,
    pub cluster: RecordedCluster,
    /// What the SQL reads, as far as it was known at the time of the export. Ascending by name.
    pub tables: Vec<RecordedTable>,
    pub views: Vec<RecordedView>,
    /// `stages[i].id == i`; the last one is the result.
    pub stages: Vec<RecordedStage>,
    /// Oldest first.
    pub story: Vec<RecordedLine>,
    /// Lines that the cluster did not keep.
    pub story_left_out: u64,
    /// What could not be recorded, and why.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedJob {
    pub id: String,
    /// Empty for a job that came as a logical plan.
    pub sql: String,
    /// DataFusion's options and this program's settings by full name, where they are not the defaults.
    pub options: BTreeMap<String, String>,
    /// queued, running, succeeded, failed, cancelled
    pub state: String,
    pub error: Option<String>,
    /// Since the Unix epoch.
    pub submitted_at_ms: u64,
    /// Until its end, or until now while it runs.
    pub elapsed_ms: u64,
    /// The query says in which order its rows come.
    pub ordered: bool,
    /// It was asked for its profile instead of its rows.
    pub explain_analyze: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedCluster {
    /// Ids of the scheduler replicas.
    pub schedulers: Vec<u64>,
    /// The version of entries in use.
    pub version: u16,
    /// Just before the first line of the story; of a job without one, at the time of the export.
    pub executors: Vec<RecordedExecutor>,
    /// Executors that are not listed.
    pub executors_left_out: u32,
    pub durable_shuffle: RecordedDurability,
    /// How long an executor may be silent, and how long without a stream, before it is lost.
    pub executor_timeout_ms: u64,
    pub stream_grace_ms: u64,
    pub heartbeat_interval_ms: u64,
    /// How long a job waits for an executor; 0 for ever.
    pub no_executor_wait_ms: u64,
}

/// Whether outputs were copied to a durable store, and when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordedDurability {
    #[default]
    Off,
    /// After the task counted as done.
    Background,
    /// Before it did.
    Before,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedExecutor {
    pub executor: String,
    pub incarnation: u64,
    pub slots: u32,
    pub memory_bytes: u64,
}

/// A table or view that the SQL reads, directly or through views.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedTable {
    pub name: String,
    /// `parquet`, `csv`, …; empty if it is not known.
    pub format: String,
    pub columns: Vec<RecordedColumn>,
    pub files: Option<u64>,
    /// Of all files together.
    pub bytes: Option<u64>,
    pub rows: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedColumn {
    pub name: String,
    /// Arrow's type, as arrow-rs writes it: `Int64`, `Decimal128(15, 2)`.
    pub arrow_type: String,
    pub nullable: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedView {
    pub name: String,
    /// The whole statement.
    pub sql: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedStage {
    pub id: u32,
    pub tasks: u32,
    pub inputs: Vec<RecordedInput>,
    /// hash, round-robin, single, merge, broadcast, result
    pub exchange: String,
    pub output_partitions: u32,
    /// Why a second run of a task may give other rows.
    pub indeterminate: Option<String>,
    /// An operator a line, without file names.
    pub operators: Vec<String>,
    /// How often lost outputs sent tasks of it back to not done.
    pub reruns: u32,
    /// The live attempts that are done. Ascending by partition.
    pub completed: Vec<RecordedTask>,
    /// Attempts that run, as the leader knows. Ascending by partition.
    pub running: Vec<RecordedAttempt>,
    /// Attempts that are over without a usable output.
    pub past: Vec<RecordedAttempt>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedInput {
    pub stage: u32,
    /// Every task reads all of it, instead of a partition.
    pub all: bool,
}

/// A completed task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedTask {
    pub partition: u32,
    pub executor: String,
    pub incarnation: u64,
    /// `TERM.NUMBER`
    pub attempt: String,
    pub elapsed_us: u64,
    pub rows_in: u64,
    pub rows_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub spilled_bytes: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedAttempt {
    pub partition: u32,
    pub executor: String,
    pub attempt: String,
    /// running, failed, input-lost, output-lost
    pub fate: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedLine {
    pub at_ms: u64,
    /// How many tasks of each stage were done just before; of the first stages only if there are many.
    pub done: Vec<u32>,
    /// For people.
    pub text: String,
    #[serde(flatten)]
    pub event: RecordedEvent,
}

/// How a loss was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Noticed {
    /// The stream broke, and nothing listened any more at its address.
    Connection,
    /// The stream broke, and the executor did not come back in time.
    Absence,
    /// No heartbeat in time.
    Silence,
    /// Another process took its place.
    Replaced,
    /// In a way that this version does not know.
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RecordedEvent {
    LeaderBegan {
        term: u64,
        /// Since the last entry before it.
        pause_ms: u64,
        /// Later elections that have no line of their own.
        #[serde(default)]
        more: u32,
    },
    ExecutorCame {
        executor: String,
        incarnation: u64,
        slots: u32,
        memory_bytes: u64,
        /// It had been lost, and had not died.
        same_process: bool,
    },
    ExecutorLost {
        executor: String,
        incarnation: u64,
        noticed: Noticed,
        /// Since its last heartbeat.
        silent_ms: u64,
        /// Since its stream broke.
        #[serde(default)]
        broken_ms: Option<u64>,
    },
    /// An executor died while it ran tasks of the job.
    ExecutorDied {
        executor: String,
        incarnation: u64,
        tasks: u32,
        /// Stage and partition of the first of them.
        which: Vec<(u32, u32)>,
    },
    /// Completed tasks ran again.
    WorkLost {
        stage: u32,
        tasks: u32,
        /// Of the first of them.
        partitions: Vec<u32>,
        elapsed_us: u64,
        bytes: u64,
    },
    TaskFailed {
        stage: u32,
        partition: u32,
        executor: String,
        attempt: String,
        /// user, retryable, resources, internal
        class: String,
        /// Whose output it could not read.
        #[serde(default)]
        fetch_from: Option<String>,
    },
    ReportRefused {
        stage: u32,
        partition: u32,
        executor: String,
        attempt: String,
    },
    ResultsLost,
    /// An executor was asked to leave.
    DrainBegan {
        executor: String,
        incarnation: u64,
        /// How long tasks might run on there.
        deadline_ms: u64,
    },
    /// It was let go.
    ExecutorLeft {
        executor: String,
        incarnation: u64,
        /// Outputs of all jobs that it had handed over.
        moved: u32,
    },
    /// Something that this version does not know.
    #[serde(other)]
    Other,
}

/// A file is no job that this program can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has format {found}; this program reads format {RECORDED_FORMAT}")]
pub struct FormatError {
    pub found: u32,
}

impl Recorded {
    /// # Errors
    /// A newer program wrote it.
    pub fn check_format(&self) -> Result<(), FormatError> {
        let found = self.polybolos_recorded;
        if found == RECORDED_FORMAT { Ok(()) } else { Err(FormatError { found }) }
    }
}
