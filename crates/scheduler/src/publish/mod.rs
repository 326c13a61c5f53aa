//! Files of statements that write: the leader gives them their final names, and deletes what is left behind.
//!
//! ```text
//!   publishing ─▶ list what is staged ─▶ copy the winners' files to their final names ─▶ Published ─┐
//!        ▲                                       │ can't be done                                   ▼
//!   (state)                                      └─▶ AbandonWrite ─▶ sweeping ─▶ delete, again and again ─▶ Swept
//! ```
//!
//! One task a statement, which reads the state before each step and so goes on where another leader stopped. Every step
//! may be done twice, also by a deposed leader at the same time: final names hold no attempt and no term, what is staged
//! stays until `Published` is committed, and nothing is published of a job that may still fail.
//!
//! **Late writers.** An attempt on an executor that counts as lost may still write. It writes to its own folder below the
//! staging folder, which no reader takes for data, and deletes that when it hears that the job has ended. What it can't
//! delete is found by a sweep, as long as one comes after it: the last is at least
//! [`crate::SchedulerConfig::sweep_grace`] after the job's end.

mod error;
mod files;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use polybolos_model::{AttemptId, ErrorClass, JobId, TaskError, WriteTarget};
use polybolos_state::{ClusterState, Command, JobError, JobStatus, WritePhase};
use tokio::{sync::Semaphore, task::JoinHandle, time::sleep};

use self::{error::PublishError, files::Files};
use crate::{front::Options, input::Refusal, shared::Shared};

/// Statements whose files are published at once, and those that are swept; others wait.
const MAX_PUBLISHING: usize = 8;
const MAX_SWEEPING: usize = 4;
/// Before a step is tried again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// A store that fails for so long is given up, and with it the statement.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// What can't be deleted for so long after the job's end stays, and a warning names it.
const SWEEP_PATIENCE_MS: u64 = 60 * 60 * 1_000;

/// The tasks of one leader. They end with it.
pub(crate) struct Settlers {
    by_job: BTreeMap<JobId, Settler>,
    turns: Arc<Turns>,
}

/// Ended when it is dropped.
struct Settler(JoinHandle<()>);

impl Drop for Settler {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Turns {
    publishing: Semaphore,
    sweeping: Semaphore,
}

impl Default for Settlers {
    fn default() -> Self {
        let (publishing, sweeping) = (Semaphore::new(MAX_PUBLISHING), Semaphore::new(MAX_SWEEPING));
        Self { by_job: BTreeMap::new(), turns: Arc::new(Turns { publishing, sweeping }) }
    }
}

impl Settlers {
    /// Starts a task for each statement that waits for the leader and has none. Bounded by
    /// [`polybolos_state::limits::MAX_WRITES`].
    pub(crate) fn follow(&mut self, shared: &Arc<Shared>) {
        self.by_job.retain(|_, settler| !settler.0.is_finished());
        let waiting: Vec<JobId> = shared.read(|state| {
            let unsettled = state.unsettled_writes().map(|(job, _)| job);
            unsettled.filter(|job| !self.by_job.contains_key(job)).collect()
        });
        for job in waiting {
            let task = Task { shared: Arc::clone(shared), turns: Arc::clone(&self.turns), job };
            self.by_job.insert(job, Settler(tokio::spawn(task.run())));
        }
    }
}

/// What is to be done now for one statement.
struct Step {
    target: WriteTarget,
    /// How the target's store is reached.
    options: Options,
    phase: WritePhase,
    winners: Vec<Winner>,
    /// The leader's time.
    now_ms: u64,
}

/// An attempt whose files are to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Winner {
    pub(crate) partition: u32,
    pub(crate) attempt: AttemptId,
    /// Of all its files, as it has reported them.
    pub(crate) bytes: u64,
}

/// One statement's way to its end.
struct Task {
    shared: Arc<Shared>,
    turns: Arc<Turns>,
    job: JobId,
}

impl Task {
    async fn run(self) {
        let began = self.shared.env.clock.now();
        let mut pause = FIRST_PAUSE;
        let mut was = None;
        while let Some(step) = self.shared.read(|state| self.step(state)) {
            if was.replace(step.phase) != Some(step.phase) {
                pause = FIRST_PAUSE;
            }
            let wait = match step.phase {
                WritePhase::Publishing => {
                    let waited = self.shared.env.clock.now().saturating_duration_since(began);
                    self.publish(&step, waited).await
                }
                WritePhase::Sweeping { since_ms, unpublish } => self.sweep(&step, since_ms, unpublish).await,
                WritePhase::Staging | WritePhase::Over => return,
            };
            match wait {
                Wait::None => {}
                Wait::Pause => {
                    sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
                Wait::UpTo(most) => {
                    sleep(pause.min(most)).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    fn step(&self, state: &ClusterState) -> Option<Step> {
        let (write, job) = (state.write(self.job)?, state.job(self.job)?);
        let results = job.runs.last()?.completed();
        let winners = results.map(|(partition, done)| Winner {
            partition,
            attempt: done.attempt,
            bytes: done.outputs.iter().map(|output| output.bytes).sum(),
        });
        Some(Step {
            target: write.target.clone(),
            options: job.options.clone(),
            phase: write.phase,
            winners: winners.collect(),
            now_ms: self.shared.now_ms(state),
        })
    }

    fn files(&self, step: &Step) -> Result<Files, PublishError> {
        Files::open(self.job, &step.target, &step.options, &self.shared)
    }

    async fn publish(&self, step: &Step, waited: Duration) -> Wait {
        // Never closed, so an error can't happen.
        let _turn = self.turns.publishing.acquire().await;
        let published = match self.files(step) {
            Ok(files) => files.publish(&step.winners).await,
            Err(error) => Err(error),
        };
        let command = match published {
            Ok(files) => {
                tracing::debug!(job = %self.job, files, "published");
                polybolos_model::failpoint!("scheduler.before_published");
                Command::Published { job: self.job }
            }
            Err(error) if error.is_permanent() || waited >= PUBLISH_PATIENCE => {
                tracing::warn!(job = %self.job, %error, "a statement's files can't be published");
                Command::AbandonWrite { job: self.job, error: self.failure(step, &error) }
            }
            Err(error) => {
                polybolos_model::sometimes!("publishing was tried again");
                tracing::warn!(job = %self.job, %error, "publishing is tried again");
                return Wait::Pause;
            }
        };
        self.propose(command).await
    }

    fn failure(&self, step: &Step, error: &PublishError) -> JobError {
        let message = format!(
            "all rows were written and can't be published at {}: {error}; nothing of them is there",
            step.target.url
        );
        JobError::of_job(TaskError::new(ErrorClass::Retryable, message))
    }

    async fn sweep(&self, step: &Step, since_ms: u64, unpublish: bool) -> Wait {
        let found = if polybolos_model::mutant!("no-sweep") {
            Ok(0)
        } else {
            // Never closed, so an error can't happen.
            let _turn = self.turns.sweeping.acquire().await;
            match self.files(step) {
                Ok(files) => files.sweep(unpublish).await,
                Err(error) => Err(error),
            }
        };
        let age_ms = step.now_ms.saturating_sub(since_ms);
        let grace_ms = u64::try_from(self.shared.config.sweep_grace.as_millis()).unwrap_or(u64::MAX);
        match found {
            Ok(found) => {
                self.shared.note_swept(self.job);
                let has_failed = self
                    .shared
                    .read(|state| state.job(self.job).is_some_and(|job| job.status != JobStatus::Succeeded));
                polybolos_model::sometimes!("files of a failed write were deleted", found > 0 && has_failed);
                if found > 0 {
                    tracing::debug!(job = %self.job, files = found, "swept");
                }
                if age_ms < grace_ms {
                    return Wait::UpTo(Duration::from_millis(grace_ms - age_ms));
                }
                if found > 0 {
                    return Wait::Pause;
                }
            }
            Err(error) if age_ms < SWEEP_PATIENCE_MS => {
                tracing::warn!(job = %self.job, %error, "what a statement has staged could not be deleted yet");
                return Wait::Pause;
            }
            Err(error) => {
                let folder = step.target.staging(self.job);
                tracing::error!(job = %self.job, folder, %error, "what a statement has staged stays: delete it");
            }
        }
        polybolos_model::failpoint!("scheduler.before_swept");
        self.propose(Command::Swept { job: self.job }).await
    }

    /// The next step follows from what the state says then, whatever came of it.
    async fn propose(&self, command: Command) -> Wait {
        match self.shared.request(command).await {
            Ok(_) => Wait::None,
            Err(Refusal::Rejected(rejection)) => {
                tracing::debug!(job = %self.job, %rejection, "another leader was first");
                Wait::Pause
            }
            Err(Refusal::Unserved(error)) => {
                tracing::debug!(job = %self.job, %error, "it is not known whether the step was committed");
                Wait::Pause
            }
        }
    }
}

/// Before the next step.
enum Wait {
    None,
    /// For the pause, which grows.
    Pause,
    /// For the pause, or less.
    UpTo(Duration),
}
