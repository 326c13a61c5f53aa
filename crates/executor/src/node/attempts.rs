//! Attempts run, and their outputs are copied.

use std::sync::Arc;

use polybolos_env::CpuTask;
use polybolos_model::{AttemptId, ErrorClass, TaskError, TaskId};
use polybolos_shuffle::OutputKey;
use tokio::sync::oneshot;
use tracing::Instrument;

use super::Node;
use crate::{
    config::DurableMode,
    core::{Ended, Outcome, StageKey},
    task,
};

/// Outputs that may wait for their copy to the durable store; further ones get none.
const MAX_COPIES: usize = 4_096;

impl Node {
    pub(super) fn start(&mut self, attempt: AttemptId, task: TaskId) {
        self.report_start(attempt, task);
        let (stop, stopped) = oneshot::channel();
        self.stops.insert(attempt, stop);
        let Some(stage) = self.stages.get(&StageKey::of(task)).cloned() else {
            let why = format!("stage {} of job {} is not prepared here", task.stage, task.job);
            let outcome = Outcome::Failed(TaskError::new(ErrorClass::Retryable, why));
            self.running.push(Box::pin(async move { (attempt, Ended::Finished(outcome)) }));
            return;
        };
        let span = tracing::info_span!("task", job = %task.job, stage = %task.stage, partition = task.partition, %attempt);
        let (done, outcome) = oneshot::channel();
        let tools = Arc::clone(&self.tools);
        let work = async move {
            let outcome = task::run(&tools, &stage, task, attempt).await;
            polybolos_model::failpoint!("executor.after_task_before_report");
            // The receiver is gone only when the attempt was stopped.
            let _ = done.send(outcome);
        };
        let work = self.tools.env.cpu.spawn(Box::pin(work.instrument(span.clone())));
        let end = async move { (attempt, supervise(work, outcome, stopped).await) };
        self.running.push(Box::pin(end.instrument(span)));
    }

    /// Copies the output of an attempt that has completed, if that is left to the background. What can't be copied is
    /// just not durable.
    pub(super) fn copy(&mut self, attempt: AttemptId) {
        let Some(task) = self.core.keeps(attempt) else { return };
        if self.tools.durable != Some(DurableMode::Background) {
            return;
        }
        if self.copying.len() >= MAX_COPIES {
            return tracing::warn!(%task, %attempt, "{MAX_COPIES} outputs wait for their copy; this one gets none");
        }
        let (done, copied) = oneshot::channel();
        let store = Arc::clone(&self.tools.store);
        let work = async move {
            let made = store.make_durable(OutputKey { task, attempt }).await;
            if let Err(error) = &made {
                tracing::warn!(%task, %attempt, %error, "an output was not made durable");
            }
            // The receiver is gone only with the node.
            let _ = done.send(made.is_ok());
        };
        let work = self.tools.env.cpu.spawn(Box::pin(work));
        self.copying.push(Box::pin(async move {
            let ended = work.await.is_ok();
            (attempt, task, ended && copied.await.unwrap_or(false))
        }));
    }
}

/// Waits for the end of an attempt, and stops it when asked to.
async fn supervise(
    mut work: CpuTask,
    mut outcome: oneshot::Receiver<Outcome>,
    stopped: oneshot::Receiver<()>,
) -> Ended {
    let joined = tokio::select! {
        biased;
        joined = &mut work => joined,
        _ = stopped => {
            work.abort();
            // Only once the work has let go are its slot and its output free.
            let _ = work.await;
            return Ended::Stopped;
        }
    };
    match (joined, outcome.try_recv()) {
        (Ok(()), Ok(outcome)) => Ended::Finished(outcome),
        (Err(error), _) if error.is_panic() => {
            let message = panic_message(error.into_panic().as_ref());
            tracing::error!(%message, "a task panicked");
            Ended::Finished(Outcome::Failed(TaskError::new(
                ErrorClass::Internal,
                format!("a task panicked: {message}"),
            )))
        }
        (Ok(()) | Err(_), _) => Ended::Stopped,
    }
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "without a message".to_owned()
    }
}
