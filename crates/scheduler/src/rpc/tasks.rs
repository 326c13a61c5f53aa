//! A job's tasks as they are shown: what ran where, what runs, and why the rest waits.

use polybolos_model::{AttemptId, Stage, TaskId};
use polybolos_proto::v1::{LiveAttempt, TaskDetail};
use polybolos_state::{ClusterState, Dispatcher, Job, Running, StageRun, Waits};

use super::show::count;

/// What there is to know of a job's tasks, at one moment.
pub(super) struct Seen<'a> {
    job: &'a Job,
    dispatcher: &'a Dispatcher,
    /// `None` of a job of which nothing is to run, and of a replica that does not lead: it does not know.
    waits: Option<Waits<'a>>,
    now_ms: u64,
}

impl<'a> Seen<'a> {
    pub(super) fn new(
        state: &'a ClusterState,
        job: &'a Job,
        dispatcher: &'a Dispatcher,
        leads: bool,
        now_ms: u64,
    ) -> Self {
        let waits = if leads { dispatcher.waits(state, job) } else { None };
        Self { job, dispatcher, waits, now_ms }
    }

    /// Ascending by partition.
    pub(super) fn tasks(&self, stage: &Stage, run: &StageRun) -> Vec<TaskDetail> {
        (0..count(run.tasks.len())).map(|partition| self.task(stage, run, partition)).collect()
    }

    fn task(&self, stage: &Stage, run: &StageRun, partition: u32) -> TaskDetail {
        let known = run.tasks.get(partition as usize);
        let shown = |state: &str| TaskDetail {
            partition,
            state: state.to_owned(),
            failures: known.map_or(0, |task| task.failures),
            ..TaskDetail::default()
        };
        if let Some(done) = known.and_then(|task| task.completed.as_ref()) {
            return TaskDetail {
                executor_id: done.executor.to_string(),
                attempt: Some(done.attempt.into()),
                metrics: Some(done.metrics.clone().into()),
                ..shown("done")
            };
        }
        let task = TaskId { job: self.job.id, stage: stage.id, partition };
        let attempts = self.dispatcher.attempts_of(task);
        let attempts: Vec<LiveAttempt> = attempts.map(|(id, running)| self.attempt(id, running)).collect();
        if let Some(first) = attempts.first().cloned() {
            let LiveAttempt { executor_id, attempt, .. } = first;
            return TaskDetail { executor_id, attempt, attempts, ..shown("running") };
        }
        let wait = self.waits.as_ref().and_then(|waits| waits.of(stage.id, partition));
        TaskDetail {
            waits_for: wait.map(|wait| wait.words(self.now_ms)).unwrap_or_default(),
            ..shown("waiting")
        }
    }

    fn attempt(&self, id: AttemptId, running: &Running) -> LiveAttempt {
        LiveAttempt {
            executor_id: running.executor.to_string(),
            attempt: Some(id.into()),
            running_ms: self.now_ms.saturating_sub(running.since_ms),
            alone: running.alone,
        }
    }
}
