//! Executors that drain: what [`polybolos_state::Dispatcher::drain`] decides is told to them and to others.
//!
//! ```text
//!   DrainRequest (executor), DrainExecutor (operator) ─▶ BeginDrain ─▶ told: Drain
//!   look ─▶ PullOutput to others, CancelTasks, ExecutorLeft ─▶ told: Leave
//!   OutputMoved ─▶ told to all: OutputsMoved
//! ```
//!
//! Executors are told of a move before the one that had the output may be told to leave, so that readers find the other
//! place. A new leader tells each executor that comes of all moves so far.

use polybolos_model::{AttemptId, ExecutorId, Incarnation, TaskId};
use polybolos_proto::v1::{
    CancelTasks, Drain, Leave, MovedOutput, OutputsMoved, PullOutput, scheduler_message::Message,
};
use polybolos_state::{ClusterState, Command, DrainSteps, MovedOutput as Moved, Pull};
use tokio::time::{Duration, Instant};

use crate::{
    input::{Batch, Origin},
    leader::Leader,
};

/// Looks are no closer than this: each reads the tasks of all active jobs.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Moved outputs that one message tells.
const MOVED_AT_ONCE: usize = 1_000;
/// The first version in which outputs can be handed over.
const DRAIN_VERSION: u16 = 3;

/// What a leader remembers of drains.
#[derive(Default)]
pub(crate) struct Drains {
    look_at: Option<Instant>,
    /// Moved since executors were told.
    moved: Vec<TaskId>,
}

impl Drains {
    /// When to look although nothing has happened.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// The next look may be at once.
    pub(crate) fn wake(&mut self) {
        self.look_at = None;
    }

    pub(crate) fn note_moved(&mut self, task: TaskId) {
        self.moved.push(task);
    }
}

impl Leader {
    /// An executor wants to leave. While an older version is in use nobody can take its outputs over, and it may go at
    /// once.
    pub(crate) fn drain_asked(
        &mut self,
        executor: ExecutorId,
        incarnation: Incarnation,
        deadline_ms: u64,
        batch: &mut Batch,
    ) {
        if self.shared.read(ClusterState::version) < DRAIN_VERSION {
            self.streams.send(&executor, Message::Leave(Leave {}));
            return;
        }
        let command = Command::BeginDrain { executor, incarnation, deadline_ms };
        batch.request(command, Origin::Housekeeping);
    }

    /// An executor could not take an output over: another one is asked with the next look.
    pub(crate) fn pull_failed(&mut self, executor: &ExecutorId, attempt: AttemptId) {
        let now_ms = self.now_ms();
        self.shared.dispatcher().pull_failed(attempt, executor, now_ms);
    }

    /// Does what is due for executors that drain. True if there may be something to dispatch.
    pub(crate) fn look_at_drains(&mut self, batch: &mut Batch) -> bool {
        let now = self.shared.env.clock.now();
        if self.drains.look_at.is_some_and(|at| now < at) {
            return false;
        }
        if self.shared.read(|state| state.drains().next().is_none()) {
            self.drains.look_at = None;
            return false;
        }
        self.drains.look_at = Some(now + LOOK_INTERVAL);
        let now_ms = self.now_ms();
        let DrainSteps { pulls, cancel, leave } =
            self.shared.read(|state| self.shared.dispatcher().drain(state, now_ms));
        for pull in pulls {
            self.order(pull, now_ms);
        }
        let freed = !cancel.is_empty();
        for target in cancel {
            let attempts = vec![target.attempt.into()];
            self.streams.send(&target.executor, Message::Cancel(CancelTasks { attempts }));
        }
        for command in leave {
            batch.request(command, Origin::Housekeeping);
        }
        freed
    }

    fn order(&mut self, pull: Pull, now_ms: u64) {
        let Pull { executor, task, attempt, from, from_incarnation, address, outputs } = pull;
        tracing::debug!(%executor, %from, %task, %attempt, "an output is to be taken over");
        let message = PullOutput {
            job_id: task.job.to_string(),
            stage_id: task.stage.0,
            partition: task.partition,
            attempt: Some(attempt.into()),
            executor_id: from.to_string(),
            incarnation: from_incarnation.0,
            address,
            outputs: outputs.into_iter().map(Into::into).collect(),
        };
        if !self.streams.send(&executor, Message::Pull(message)) {
            self.shared.dispatcher().pull_failed(attempt, &executor, now_ms);
        }
    }

    /// It drains, if it does: until when its tasks may run.
    pub(crate) fn tell_draining(&mut self, executor: &ExecutorId) {
        let now_ms = self.now_ms();
        let until_ms = self.shared.read(|state| {
            let mut drains = state.drains();
            drains.find(|(draining, _)| draining.id == *executor).map(|(_, drain)| drain.until_ms)
        });
        if let Some(until_ms) = until_ms {
            let deadline_ms = until_ms.saturating_sub(now_ms);
            self.streams.send(executor, Message::Drain(Drain { deadline_ms }));
        }
    }

    /// Tells everybody what has moved since the last call.
    pub(crate) fn tell_moves(&mut self) {
        let moved = std::mem::take(&mut self.drains.moved);
        let outputs: Vec<MovedOutput> = self.shared.read(|state| {
            moved.into_iter().filter_map(|task| state.moved_output(task)).map(moved_output).collect()
        });
        for outputs in outputs.chunks(MOVED_AT_ONCE).map(<[_]>::to_vec) {
            self.streams.send_to_all(&Message::Moved(OutputsMoved { outputs }));
        }
    }

    /// Tells one that has just come all that it may have missed.
    pub(crate) fn tell_all_moves(&mut self, executor: &ExecutorId) {
        let outputs: Vec<MovedOutput> =
            self.shared.read(|state| state.moved_outputs().map(moved_output).collect());
        for outputs in outputs.chunks(MOVED_AT_ONCE).map(<[_]>::to_vec) {
            self.streams.send(executor, Message::Moved(OutputsMoved { outputs }));
        }
    }

    /// It is no member any more: it is told so, and its stream ends.
    pub(crate) fn let_go(&mut self, executor: &ExecutorId, incarnation: Incarnation) {
        let loss = self.shared.read(|state| {
            let known = state.executor(executor).and_then(|known| known.lost.as_ref());
            known.map(|loss| loss.reason.clone()).unwrap_or_default()
        });
        tracing::info!(%executor, %incarnation, reason = loss, "executor left");
        polybolos_model::sometimes!("a drained executor left");
        self.shared.dispatcher().executor_gone(executor);
        self.streams.send(executor, Message::Leave(Leave {}));
        self.streams.detach(executor, incarnation);
    }
}

fn moved_output(moved: Moved<'_>) -> MovedOutput {
    MovedOutput {
        job_id: moved.task.job.to_string(),
        attempt: Some(moved.attempt.into()),
        address: moved.executor.address.clone(),
    }
}
