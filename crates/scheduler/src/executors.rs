//! The open streams to executors. A stream that is stuck or gone is dropped; its executor opens another.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use polybolos_model::{AttemptId, ExecutorId, Incarnation, JobId, StageId, Term};
use polybolos_proto::v1::{SchedulerMessage, scheduler_message::Message};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tonic::Status;

/// Messages that may wait for one executor's network. Enough for what a new stream is told at once: a release for each
/// of the [`polybolos_model::limits::MAX_ENDED_JOBS`] ended jobs, and its first launches.
pub(crate) const OUTGOING_MESSAGES: usize = 4_096;

/// One stream in the life of this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(pub(crate) u64);

pub(crate) type Outgoing = mpsc::Sender<Result<SchedulerMessage, Status>>;

/// A stream's half that the run loop holds.
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) outgoing: Outgoing,
    /// Dropped with the stream: ends the task that reads it.
    pub(crate) _alive: oneshot::Sender<()>,
}

/// The epoch of a stage, how often outputs of its job had moved, and by which decision its tasks read their inputs.
type Told = (u32, u64, Option<AttemptId>);

struct Attached {
    stream: Stream,
    incarnation: Incarnation,
    /// When it last gave a sign of life.
    heard: Instant,
    /// What the executor was told of each stage.
    prepared: BTreeMap<(JobId, StageId), Told>,
}

/// The streams of a leader, one for each attached executor.
pub(crate) struct Streams {
    term: Term,
    by_executor: BTreeMap<ExecutorId, Attached>,
    /// Whose streams ended or had to be dropped since [`Self::take_broken`], and who has not come back.
    broken: BTreeSet<(ExecutorId, Incarnation)>,
}

impl Streams {
    pub(crate) fn new(term: Term) -> Self {
        Self { term, by_executor: BTreeMap::new(), broken: BTreeSet::new() }
    }

    /// Takes the place of the executor's older stream, whether or not that one broke.
    pub(crate) fn attach(
        &mut self,
        executor: ExecutorId,
        incarnation: Incarnation,
        stream: Stream,
        now: Instant,
    ) {
        self.broken.retain(|(broken, _)| *broken != executor);
        self.by_executor
            .insert(executor, Attached { stream, incarnation, heard: now, prepared: BTreeMap::new() });
    }

    /// The executor gave a sign of life.
    pub(crate) fn heard(&mut self, executor: &ExecutorId, now: Instant) {
        if let Some(attached) = self.by_executor.get_mut(executor) {
            attached.heard = now;
        }
    }

    /// For how long each has given none.
    pub(crate) fn silences(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (&ExecutorId, Incarnation, Duration)> {
        self.by_executor
            .iter()
            .map(move |(executor, attached)| (executor, attached.incarnation, now - attached.heard))
    }

    /// Whether `id` is the stream that the executor is attached by.
    pub(crate) fn is_current(&self, executor: &ExecutorId, id: StreamId) -> bool {
        self.by_executor.get(executor).is_some_and(|attached| attached.stream.id == id)
    }

    pub(crate) fn is_attached(&self, executor: &ExecutorId) -> bool {
        self.by_executor.contains_key(executor)
    }

    /// Sends to the executor. A full or closed stream is dropped, and shows up in [`Self::take_broken`].
    pub(crate) fn send(&mut self, executor: &ExecutorId, message: Message) -> bool {
        let Some(attached) = self.by_executor.get(executor) else { return false };
        let is_command = !matches!(message, Message::Registered(_) | Message::Heartbeat(_));
        let message = SchedulerMessage { term: self.term.0, message: Some(message) };
        if is_command && polybolos_model::buggify!("scheduler.command_twice") {
            // If there is no room for two, there is for the one below.
            let _ = attached.stream.outgoing.try_send(Ok(message.clone()));
        }
        if attached.stream.outgoing.try_send(Ok(message)).is_ok() {
            return true;
        }
        tracing::warn!(%executor, "the executor does not take its messages; its stream is closed");
        self.broken.insert((executor.clone(), attached.incarnation));
        self.by_executor.remove(executor);
        false
    }

    pub(crate) fn send_to_all(&mut self, message: &Message) {
        let executors: Vec<ExecutorId> = self.by_executor.keys().cloned().collect();
        for executor in executors {
            self.send(&executor, message.clone());
        }
    }

    /// Drops the executor's stream, if it is of `incarnation` or older. It will register anew.
    pub(crate) fn detach(&mut self, executor: &ExecutorId, incarnation: Incarnation) {
        if self.by_executor.get(executor).is_some_and(|attached| attached.incarnation <= incarnation) {
            self.by_executor.remove(executor);
        }
    }

    /// The stream ended by itself: it shows up in [`Self::take_broken`]. False if it was not the present one.
    pub(crate) fn ended(&mut self, executor: &ExecutorId, id: StreamId) -> bool {
        if !self.is_current(executor, id) {
            return false;
        }
        let ended = self.by_executor.remove(executor);
        self.broken.extend(ended.map(|attached| (executor.clone(), attached.incarnation)));
        true
    }

    /// Drops the executor's stream, whichever it is.
    pub(crate) fn drop_stream(&mut self, executor: &ExecutorId) {
        self.by_executor.remove(executor);
    }

    /// Executors whose streams broke, ascending.
    pub(crate) fn take_broken(&mut self) -> BTreeSet<(ExecutorId, Incarnation)> {
        std::mem::take(&mut self.broken)
    }

    /// Whether the executor must be told the stage first. Counts as told from now on.
    pub(crate) fn must_prepare(
        &mut self,
        executor: &ExecutorId,
        job: JobId,
        stage: StageId,
        told: Told,
    ) -> bool {
        let Some(attached) = self.by_executor.get_mut(executor) else { return false };
        attached.prepared.insert((job, stage), told) != Some(told)
    }

    /// Forgets what executors were told of stages: they are told again before the next launch.
    pub(crate) fn forget_all(&mut self) {
        for attached in self.by_executor.values_mut() {
            attached.prepared.clear();
        }
    }

    /// Forgets what executors were told of the job.
    pub(crate) fn forget_job(&mut self, job: JobId) {
        for attached in self.by_executor.values_mut() {
            attached.prepared.retain(|(of, _), _| *of != job);
        }
    }
}
