//! What went wrong while a job was under way, as `jobs timeline` tells it: written by `apply` from what commands did.
//!
//! Part of the state, so that a new leader and a restart know it. Kept since version 3, and bounded: of a job the first
//! lines, of all jobs together the newest.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use polybolos_model::{AttemptId, ErrorClass, ExecutorId, Incarnation, JobId, StageId, TaskId, Term};
use serde::{Deserialize, Serialize};

use crate::{
    Change, ClusterState, Command, Effects, Rejection,
    change::LostWork,
    limits::{MAX_STORIES, MAX_STORY_LINES, MAX_STORY_TEXT_BYTES},
};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryLine {
    pub at_ms: u64,
    pub event: StoryEvent,
}

/// Texts are cut to [`MAX_STORY_TEXT_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoryEvent {
    /// Another scheduler leads, or the same one again.
    LeaderBegan {
        term: Term,
    },
    /// A process died that ran so many tasks of the job.
    ExecutorDied {
        executor: ExecutorId,
        incarnation: Incarnation,
        tasks: u32,
    },
    /// Completed tasks of a stage go back to not done, since their outputs, or what they have read, are lost.
    WorkLost {
        stage: StageId,
        tasks: u32,
        elapsed_us: u64,
        bytes: u64,
        reason: String,
    },
    TaskFailed {
        task: TaskId,
        attempt: AttemptId,
        executor: ExecutorId,
        class: ErrorClass,
        reason: String,
    },
    /// A report that changed nothing, and whose output, if there is one, is deleted.
    ReportRefused {
        task: TaskId,
        attempt: AttemptId,
        executor: ExecutorId,
        reason: String,
    },
    /// Results that the client had not read.
    ResultsLost {
        reason: String,
    },
}

/// For people.
impl fmt::Display for StoryEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaderBegan { term } => write!(f, "a scheduler began to lead, in term {term}"),
            Self::ExecutorDied { executor, incarnation, tasks } => {
                write!(f, "executor {executor} (incarnation {incarnation}) died and ran {tasks} of its tasks")
            }
            Self::WorkLost { stage, tasks, elapsed_us, bytes, reason } => {
                let (s, runs) = if *tasks == 1 { ("", "runs") } else { ("s", "run") };
                let cost = *elapsed_us as f64 / 1e6;
                write!(
                    f,
                    "{tasks} task{s} of stage {stage} {runs} again ({cost:.3} s and {bytes} bytes of work): {reason}"
                )
            }
            Self::TaskFailed { task, attempt, executor, class, reason } => {
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
        }
    }
}

/// The stories of all jobs that have one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stories {
    by_job: BTreeMap<JobId, Story>,
    /// Raised by each new story.
    last_number: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Story {
    /// Ascending with the first line of each.
    number: u64,
    lines: Vec<StoryLine>,
    /// Lines that came when there were enough.
    left_out: u64,
}

impl ClusterState {
    /// What went wrong so far while the job was under way, oldest first, and how many more lines there were.
    pub fn story(&self, job: JobId) -> (&[StoryLine], u64) {
        let story = self.extension.v3.stories.by_job.get(&job);
        story.map_or((&[], 0), |story| (&story.lines, story.left_out))
    }

    pub(crate) fn tell_of_term(&mut self, term: Term) {
        let active: Vec<JobId> = self.active_jobs().map(|job| job.id).collect();
        for job in active {
            self.tell(job, StoryEvent::LeaderBegan { term });
        }
    }

    /// Writes down what the command did to jobs.
    pub(crate) fn tell_of(&mut self, command: &Command, outcome: &Result<Change, Rejection>) {
        match (command, outcome) {
            (
                Command::FailTask { executor, task, attempt, error, .. },
                Ok(Change::TaskFailed { effects, .. }),
            ) => {
                let (reason, executor) = (cut(&error.message), executor.clone());
                let (task, attempt, class) = (*task, *attempt, error.class);
                self.tell(task.job, StoryEvent::TaskFailed { task, attempt, executor, class, reason });
                self.tell_of_effects(effects, &error.message);
            }
            (
                Command::CompleteTask { executor, task, attempt, .. }
                | Command::CompleteTaskIn { executor, task, attempt, .. }
                | Command::FailTask { executor, task, attempt, .. },
                Err(rejection),
            ) => {
                let (reason, executor) = (cut(&rejection.to_string()), executor.clone());
                let (task, attempt) = (*task, *attempt);
                self.tell(task.job, StoryEvent::ReportRefused { task, attempt, executor, reason });
            }
            (Command::TasksDied { executor, incarnation, tasks }, Ok(Change::DeathsCounted { .. })) => {
                let mut counts: BTreeMap<JobId, u32> = BTreeMap::new();
                for (task, _) in tasks {
                    *counts.entry(task.job).or_default() += 1;
                }
                for (job, tasks) in counts {
                    let (executor, incarnation) = (executor.clone(), *incarnation);
                    self.tell(job, StoryEvent::ExecutorDied { executor, incarnation, tasks });
                }
            }
            (Command::LoseExecutor { executor, reason, .. }, Ok(Change::Lost { effects, .. })) => {
                self.tell_of_effects(effects, &format!("executor {executor} is lost: {reason}"));
            }
            (Command::ExecutorLeft { executor, reason, .. }, Ok(Change::Left { effects, .. })) => {
                self.tell_of_effects(effects, &format!("executor {executor} has left: {reason}"));
            }
            (_, Ok(Change::Registered { replaced: Some((executor, _)), effects, .. })) => {
                let reason = format!("another process took the place of executor {executor}");
                self.tell_of_effects(effects, &reason);
            }
            (Command::ReopenJob { .. } | Command::FailJob { .. }, Ok(Change::Reopened { effects, .. })) => {
                self.tell_of_effects(effects, "its client asked for results that were lost");
            }
            (Command::RestartCluster { .. }, Ok(Change::ClusterRestarted { effects })) => {
                self.tell_of_effects(effects, "the cluster was restarted");
            }
            _ => {}
        }
    }

    fn tell_of_effects(&mut self, effects: &Effects, reason: &str) {
        let mut stages: BTreeMap<(JobId, StageId), (u32, u64, u64)> = BTreeMap::new();
        for LostWork { task, elapsed_us, bytes } in &effects.lost_work {
            let sums = stages.entry((task.job, task.stage)).or_default();
            *sums = (sums.0 + 1, sums.1.saturating_add(*elapsed_us), sums.2.saturating_add(*bytes));
        }
        for ((job, stage), (tasks, elapsed_us, bytes)) in stages {
            let reason = cut(reason);
            self.tell(job, StoryEvent::WorkLost { stage, tasks, elapsed_us, bytes, reason });
        }
        let results: BTreeSet<JobId> = effects.results_lost.iter().copied().collect();
        for job in results {
            self.tell(job, StoryEvent::ResultsLost { reason: cut(reason) });
        }
    }

    fn tell(&mut self, job: JobId, event: StoryEvent) {
        if self.version < 3 || !self.jobs.by_id.contains_key(&job) {
            return;
        }
        let line = StoryLine { at_ms: self.now_ms, event };
        let stories = &mut self.extension.v3.stories;
        stories.add(job, line);
        // Jobs are forgotten in other places; their stories go when there are too many.
        stories.forget_surplus();
    }
}

impl Stories {
    fn add(&mut self, job: JobId, line: StoryLine) {
        let next = self.last_number + 1;
        let story = self.by_job.entry(job).or_insert_with(|| Story { number: next, ..Story::default() });
        self.last_number = self.last_number.max(story.number);
        if story.lines.len() < MAX_STORY_LINES {
            story.lines.push(line);
        } else {
            story.left_out += 1;
        }
    }

    fn forget_surplus(&mut self) {
        while self.by_job.len() > MAX_STORIES {
            let oldest = self.by_job.iter().min_by_key(|(_, story)| story.number).map(|(job, _)| *job);
            let Some(oldest) = oldest else { return };
            self.by_job.remove(&oldest);
        }
    }
}

fn cut(text: &str) -> String {
    let end = (0..=MAX_STORY_TEXT_BYTES.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}
