//! What a line of a story may say. Variants are stored by position: append, never reorder.

use std::fmt;

use polybolos_model::{AttemptId, ErrorClass, ExecutorId, Incarnation, StageId, TaskId, Term};
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use crate::limits::{MAX_STORY_TASKS, MAX_STORY_TEXT_BYTES};

/// Texts are cut to [`MAX_STORY_TEXT_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoryEvent {
    /// Another scheduler leads, or the same one again.
    LeaderBegan {
        term: Term,
        /// Since the last entry before it.
        pause_ms: u64,
        /// Elections after this one that have no line of their own, and the term of the last of them.
        more: u32,
        last_term: Term,
    },
    /// A process died that ran so many tasks of the job; the first [`MAX_STORY_TASKS`] by name.
    ExecutorDied { executor: ExecutorId, incarnation: Incarnation, tasks: u32, which: Vec<(StageId, u32)> },
    /// Completed tasks of a stage go back to not done, since their outputs, or what they have read, are lost. The
    /// partitions of the first [`MAX_STORY_TASKS`].
    WorkLost { stage: StageId, tasks: u32, partitions: Vec<u32>, elapsed_us: u64, bytes: u64, reason: String },
    TaskFailed {
        task: TaskId,
        attempt: AttemptId,
        executor: ExecutorId,
        class: ErrorClass,
        /// Whose output it could not read, if that was it.
        fetch_from: Option<ExecutorId>,
        reason: String,
    },
    /// A report that changed nothing, and whose output, if there is one, is deleted.
    ReportRefused { task: TaskId, attempt: AttemptId, executor: ExecutorId, reason: String },
    /// Results that the client had not read.
    ResultsLost { reason: String },
    /// The cluster lost an executor, whether or not it held or ran anything of the job.
    ExecutorLost {
        executor: ExecutorId,
        incarnation: Incarnation,
        /// Since its last heartbeat in the log.
        silent_ms: u64,
        /// Since its stream broke, if that was noticed first.
        broken_ms: Option<u64>,
        /// How it was noticed.
        reason: String,
    },
    /// An executor came, or came back.
    ExecutorCame {
        executor: ExecutorId,
        incarnation: Incarnation,
        slots: u32,
        memory_bytes: u64,
        /// It is the process that had been lost: it had not died.
        same_process: bool,
    },
    /// An executor was asked to leave: it takes no new tasks.
    DrainBegan {
        executor: ExecutorId,
        incarnation: Incarnation,
        /// How long tasks may run on there.
        deadline_ms: u64,
    },
    /// It was let go.
    ExecutorLeft {
        executor: ExecutorId,
        incarnation: Incarnation,
        /// Outputs of all jobs that it had handed over.
        moved: u32,
        reason: String,
    },
}

impl StoryEvent {
    /// For programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::LeaderBegan { .. } => "leader-began",
            Self::ExecutorDied { .. } => "executor-died",
            Self::WorkLost { .. } => "work-lost",
            Self::TaskFailed { .. } => "task-failed",
            Self::ReportRefused { .. } => "report-refused",
            Self::ResultsLost { .. } => "results-lost",
            Self::ExecutorLost { .. } => "executor-lost",
            Self::ExecutorCame { .. } => "executor-came",
            Self::DrainBegan { .. } => "drain-began",
            Self::ExecutorLeft { .. } => "executor-left",
        }
    }
}

/// For people.
impl fmt::Display for StoryEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaderBegan { term, pause_ms, more, last_term } => {
                write!(
                    f,
                    "a scheduler began to lead, in term {term}, {pause_ms} ms after the last entry before"
                )?;
                match more {
                    0 => Ok(()),
                    1 => write!(f, "; and once more later, in term {last_term}"),
                    more => write!(f, "; and {more} times more later, the last time in term {last_term}"),
                }
            }
            Self::ExecutorDied { executor, incarnation, tasks, which } => {
                let which: Vec<String> = which.iter().map(|(stage, p)| format!("{stage}/{p}")).collect();
                let which = listed(&which, *tasks);
                write!(f, "executor {executor} (incarnation {incarnation}) died while it ran {which}")
            }
            Self::WorkLost { stage, tasks, partitions, elapsed_us, bytes, reason } => {
                let (s, runs) = if *tasks == 1 { ("", "runs") } else { ("s", "run") };
                let partitions: Vec<String> = partitions.iter().map(u32::to_string).collect();
                let which = listed(&partitions, *tasks);
                let cost = *elapsed_us as f64 / 1e6;
                write!(
                    f,
                    "task{s} {which} of stage {stage} {runs} again ({cost:.3} s and {bytes} bytes of work): {reason}"
                )
            }
            Self::TaskFailed { task, attempt, executor, class, fetch_from: _, reason } => {
                let (stage, partition) = (task.stage, task.partition);
                write!(
                    f,
                    "task {stage}/{partition} failed, attempt {attempt} on {executor}: {class}: {reason}"
                )
            }
            Self::ReportRefused { task, attempt, executor, reason } => {
                let (stage, partition) = (task.stage, task.partition);
                write!(
                    f,
                    "a report on task {stage}/{partition}, attempt {attempt} on {executor}, was refused: {reason}"
                )
            }
            Self::ResultsLost { reason } => write!(f, "results that nobody had read are lost: {reason}"),
            Self::ExecutorLost { executor, incarnation, silent_ms, broken_ms, reason } => {
                write!(f, "executor {executor} (incarnation {incarnation}) is lost, ")?;
                match broken_ms {
                    Some(ms) => write!(f, "{ms} ms after its stream broke: {reason}"),
                    None => write!(f, "{silent_ms} ms after its last heartbeat: {reason}"),
                }
            }
            Self::ExecutorCame { executor, incarnation, slots, same_process, .. } => {
                let back = if *same_process { "came back, it had not died" } else { "came" };
                let s = if *slots == 1 { "" } else { "s" };
                write!(f, "executor {executor} (incarnation {incarnation}) {back}, with {slots} slot{s}")
            }
            Self::DrainBegan { executor, incarnation, deadline_ms } => {
                let seconds = *deadline_ms as f64 / 1e3;
                write!(
                    f,
                    "executor {executor} (incarnation {incarnation}) was asked to leave within {seconds:.3} s"
                )
            }
            Self::ExecutorLeft { executor, incarnation, moved, reason } => {
                let outputs = if *moved == 1 { "output" } else { "outputs" };
                write!(
                    f,
                    "executor {executor} (incarnation {incarnation}) has left and had handed over {moved} {outputs} of all queries: \
                     {reason}"
                )
            }
        }
    }
}

/// `1, 2 and 5`; of more than are named, how many more.
fn listed(names: &[String], all: u32) -> String {
    let more = (all as usize).saturating_sub(names.len());
    match names.split_last() {
        _ if more > 0 => format!("{} and {more} more", names.join(", ")),
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
        None => "none".to_owned(),
    }
}
