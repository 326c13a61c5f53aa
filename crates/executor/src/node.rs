//! The run loop: carries events into the core and its effects out.
//!
//! One task owns everything; nothing here decides. Each source of events is bounded: the link delivers one message at
//! a time, and at most as many attempts run as there are slots.

mod leaving;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use polybolos_env::CpuTask;
use polybolos_model::{
    AttemptId, ErrorClass, TaskError, TaskId, Term,
    simulation::{AttemptEnd, Fact, report},
};
use polybolos_proto::v1::{ExecutorMessage, Heartbeat, Register, TaskReports, executor_message::Message};
use polybolos_shuffle::{Handover, OutputKey};
use prost::Message as _;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Interval, MissedTickBehavior, timeout},
};
use tracing::Instrument;

use self::leaving::Leaving;
use crate::{
    config::{DurableMode, ExecutorFailure},
    core::{Command, Core, Effect, Ended, Event, MovedTo, Outcome, StageKey},
    handle::ExecutorStatus,
    link::{Attachment, Link, LinkEvent},
    stage::PreparedStage,
    task::{self, Tools},
    wire,
};

/// One message carries at most this many bytes of reports, and at least one report.
const MAX_REPORTS_BYTES: usize = 4 * 1024 * 1024;
/// Outputs that may wait for their copy to the durable store; further ones get none.
const MAX_COPIES: usize = 4_096;
/// How long a shutdown waits for stopped tasks to let go.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

pub(crate) struct Node {
    /// What `Register` says beside the attempts under way.
    register: Register,
    tools: Arc<Tools>,
    core: Core,
    stages: BTreeMap<StageKey, Arc<PreparedStage>>,
    /// Ends of started attempts.
    running: FuturesUnordered<BoxFuture<'static, (AttemptId, Ended)>>,
    /// Copies of outputs under way or waiting for their turn, and whether they are whole.
    copying: FuturesUnordered<BoxFuture<'static, (AttemptId, TaskId, bool)>>,
    /// Outputs of others on their way here, and whether they are whole.
    pulling: FuturesUnordered<BoxFuture<'static, (AttemptId, bool)>>,
    leaving: Option<Leaving>,
    /// Dropping one stops its attempt.
    stops: BTreeMap<AttemptId, oneshot::Sender<()>>,
    link: Link,
    session: Option<Session>,
    /// It is let go, or does not wait for that any more.
    left: bool,
    status: watch::Sender<ExecutorStatus>,
}

/// The sending side of an open stream.
struct Session {
    outbox: mpsc::Sender<ExecutorMessage>,
    heartbeat: Interval,
}

enum Step {
    Link(LinkEvent),
    Ended(AttemptId, Ended),
    Copied(AttemptId, TaskId, bool),
    Pulled(AttemptId, bool),
    Heartbeat,
    Flush,
    /// Its owner wants it to leave.
    Drain(Duration),
    /// Nobody has told it to leave in time.
    Overdue,
    Shutdown,
}

impl Node {
    pub(crate) fn new(
        register: Register,
        tools: Arc<Tools>,
        link: Link,
        status: watch::Sender<ExecutorStatus>,
    ) -> Self {
        Self {
            core: Core::new(register.slots),
            register,
            tools,
            stages: BTreeMap::new(),
            running: FuturesUnordered::new(),
            copying: FuturesUnordered::new(),
            pulling: FuturesUnordered::new(),
            leaving: None,
            left: false,
            stops: BTreeMap::new(),
            link,
            session: None,
            status,
        }
    }

    /// Runs until `shutdown` is sent or dropped, or it may leave; then stops every task. `drain` is how long it may take to
    /// leave, once its owner wants that.
    pub(crate) async fn run(
        mut self,
        mut shutdown: oneshot::Receiver<()>,
        mut drain: watch::Receiver<Option<Duration>>,
    ) {
        while !self.left {
            match self.step(&mut shutdown, &mut drain).await {
                Step::Link(event) => self.on_link(event),
                Step::Ended(attempt, ended) => {
                    self.stops.remove(&attempt);
                    self.report_end(attempt, &ended);
                    self.feed(Event::Ended { attempt, ended }, None, None);
                    self.copy(attempt);
                }
                Step::Copied(attempt, task, whole) => {
                    if whole {
                        self.feed(Event::Durable { attempt, task }, None, None);
                    }
                }
                Step::Pulled(attempt, whole) => self.pulled(attempt, whole),
                Step::Heartbeat => {
                    self.send_heartbeat();
                    self.ask_to_leave();
                }
                Step::Flush => self.send_reports(),
                Step::Drain(deadline) => self.leave_within(deadline),
                Step::Overdue => {
                    tracing::warn!("nobody has let this executor go in time; it leaves all the same");
                    self.left = true;
                }
                Step::Shutdown => break,
            }
            self.publish();
        }
        self.session = None;
        self.stops.clear();
        let drained = async { while self.running.next().await.is_some() {} };
        if timeout(STOP_DEADLINE, drained).await.is_err() {
            tracing::warn!("some tasks did not stop within {STOP_DEADLINE:?}; they are abandoned");
        }
    }

    /// Waits for whatever is next. Ends of tasks come before their report is flushed, so that what is ready goes out
    /// together.
    async fn step(
        &mut self,
        shutdown: &mut oneshot::Receiver<()>,
        drain: &mut watch::Receiver<Option<Duration>>,
    ) -> Step {
        let owes_reports = self.core.ledger().has_unsent();
        let (outbox, heartbeat) = match &mut self.session {
            Some(session) => (Some(&session.outbox), Some(&mut session.heartbeat)),
            None => (None, None),
        };
        tokio::select! {
            biased;
            _ = shutdown => Step::Shutdown,
            Some(deadline) = asked(drain) => Step::Drain(deadline),
            () = Leaving::over(self.leaving.as_mut()) => Step::Overdue,
            () = beat(heartbeat) => Step::Heartbeat,
            event = self.link.next() => Step::Link(event),
            Some((attempt, ended)) = self.running.next() => Step::Ended(attempt, ended),
            Some((attempt, task, whole)) = self.copying.next() => Step::Copied(attempt, task, whole),
            Some((attempt, whole)) = self.pulling.next() => Step::Pulled(attempt, whole),
            () = room(outbox), if owes_reports => Step::Flush,
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Ready => {
                let running = wire::running(self.core.adoptable());
                self.link.dial(Register { running, ..self.register.clone() });
            }
            LinkEvent::Attached(attachment) => self.attached(attachment),
            LinkEvent::Message(message) => match wire::incoming(message) {
                // A sign of life, which the link has noticed.
                Ok(None) => {}
                Ok(Some(incoming)) => {
                    let prepared = incoming.prepare.map(|message| Arc::new(PreparedStage::new(message)));
                    self.feed(incoming.event, prepared, incoming.handover);
                }
                Err(error) => {
                    tracing::error!(%error, "a message of the scheduler makes no sense; it is ignored")
                }
            },
            LinkEvent::Lost => self.session = None,
            LinkEvent::Fatal(failure) => self.fail(failure),
        }
    }

    fn attached(&mut self, attachment: Attachment) {
        let Attachment { term, cluster, incarnation, heartbeat, outbox } = attachment;
        let mut heartbeat = tokio::time::interval(heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.session = Some(Session { outbox, heartbeat });
        if let Some(durable) = self.tools.store.durable() {
            durable.leave_cluster(&cluster);
        }
        self.tools.staged.set_cluster(&cluster);
        let refused = self.core.refused_commands();
        let first = self.core.incarnation().is_none();
        let command = Command::Registered { cluster: cluster.clone(), incarnation };
        self.feed(Event::Command { term, command }, None, None);
        if let Some(durable) = self.tools.store.durable() {
            durable.set_cluster(&cluster);
        }
        if self.core.refused_commands() > refused {
            self.reattach("it was answered by a deposed leader");
        } else {
            let executor = &self.tools.me;
            report(|| Fact::Registered { executor: executor.clone(), term, incarnation });
            tracing::info!(%term, %incarnation, "registered with the scheduler");
            self.unsure_of_leaving();
            self.ask_to_leave();
            if first {
                let tools = Arc::clone(&self.tools);
                tokio::spawn(async move { tools.dirs.remove_leftovers(&tools.env).await });
            }
        }
    }

    /// Hands an event to the core and carries out what it answers.
    fn feed(
        &mut self,
        event: Event,
        mut prepared: Option<Arc<PreparedStage>>,
        mut handover: Option<Handover>,
    ) {
        let commanded = match &event {
            Event::Command { term, .. } => Some(*term),
            Event::Ended { .. } | Event::Durable { .. } | Event::Pulled { .. } => None,
        };
        let effects = self.core.on(event);
        self.report_obeyed(commanded, &effects);
        for effect in effects {
            match effect {
                Effect::KeepStage(key) => {
                    if let Some(stage) = prepared.take() {
                        self.keep(key, stage);
                    }
                }
                Effect::ForgetStage(key) => {
                    self.stages.remove(&key);
                }
                Effect::Start { attempt, task } => self.start(attempt, task),
                Effect::Stop(attempt) => {
                    tracing::debug!(%attempt, "stopping");
                    self.stops.remove(&attempt);
                }
                Effect::DeleteOutput(attempt) => {
                    self.tools.store.delete(attempt);
                    self.tools.staged.remove(attempt);
                }
                // What it has staged stays too.
                Effect::ForgetOutput(attempt) => self.tools.store.forget(attempt),
                Effect::DeleteJob(job) => {
                    self.tools.store.delete_job(job);
                    self.tools.staged.remove_job(job);
                }
                Effect::RefusedTerm { term, highest } => {
                    polybolos_model::sometimes!("a deposed leader's command was refused");
                    tracing::warn!(%term, %highest, "refused a command of a deposed leader");
                }
                Effect::Reattach(reason) => self.reattach(reason),
                Effect::Pull(attempt) => self.pull(attempt, handover.take()),
                Effect::TellPullFailed(attempt) => self.tell_pull_failed(attempt),
                Effect::NoteMoved(outputs) => {
                    for MovedTo { job, attempt, address } in outputs {
                        self.tools.store.note_moved(job, attempt, address);
                    }
                }
                Effect::StopReading(address) => self.tools.pool.lose(&address),
                Effect::Drain { deadline_ms } => self.drain(deadline_ms),
                Effect::Leave => {
                    tracing::info!("left the cluster: nobody needs what this executor holds");
                    self.left = true;
                }
            }
        }
    }

    /// A new leader sends every stage again: the decoded plan of an equal message is worth keeping.
    fn keep(&mut self, key: StageKey, stage: Arc<PreparedStage>) {
        let same = self.stages.get(&key).is_some_and(|known| known.message == stage.message);
        if !same {
            self.stages.insert(key, stage);
        }
    }

    fn start(&mut self, attempt: AttemptId, task: TaskId) {
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
    fn copy(&mut self, attempt: AttemptId) {
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

    fn send_heartbeat(&mut self) {
        let (Some(session), Some(incarnation)) = (&self.session, self.core.incarnation()) else { return };
        let beat = Heartbeat {
            incarnation: incarnation.0,
            memory_used_bytes: self.tools.runtime.memory_used_bytes(),
            shuffle_bytes: self.tools.store.bytes(),
            running_tasks: u32::try_from(self.core.busy_slots()).unwrap_or(u32::MAX),
            refused_commands: self.core.refused_commands(),
        };
        if session.outbox.try_send(ExecutorMessage { message: Some(Message::Heartbeat(beat)) }).is_err() {
            tracing::warn!("a heartbeat was left out: the scheduler does not read its stream");
        }
    }

    /// Sends what fits one message; the rest follows when there is room again.
    fn send_reports(&mut self) {
        let (Some(session), Some(incarnation)) = (&self.session, self.core.incarnation()) else { return };
        let Ok(permit) = session.outbox.try_reserve() else { return };
        let mut reports = Vec::new();
        let mut bytes = 0;
        while bytes < MAX_REPORTS_BYTES
            && let Some(report) = self.core.ledger().next_unsent()
        {
            let report = wire::report(report);
            bytes += report.encoded_len();
            reports.push(report);
        }
        let reports = TaskReports { incarnation: incarnation.0, reports };
        let message = ExecutorMessage { message: Some(Message::Reports(reports)) };
        let again = polybolos_model::buggify!("executor.report_twice").then(|| message.clone());
        permit.send(message);
        if let Some(message) = again {
            // Without room it comes once.
            let _ = session.outbox.try_send(message);
        }
    }

    fn reattach(&mut self, reason: &str) {
        tracing::warn!(reason, "registering anew");
        self.session = None;
        self.link.drop_stream();
    }

    fn fail(&mut self, failure: ExecutorFailure) {
        tracing::error!(%failure, "the executor can't go on");
        self.session = None;
        self.status.send_modify(|status| status.failure = Some(failure));
    }

    fn publish(&self) {
        let incarnation = self.session.as_ref().and_then(|_| self.core.incarnation());
        let (busy, refused) = (self.core.busy_slots(), self.core.refused_commands());
        self.status.send_if_modified(|status| {
            let new = ExecutorStatus {
                incarnation,
                busy_slots: busy,
                refused_commands: refused,
                left: self.left,
                failure: status.failure.clone(),
            };
            let changed = *status != new;
            *status = new;
            changed
        });
    }
}

/// What a simulator is told.
impl Node {
    fn report_obeyed(&self, commanded: Option<Term>, effects: &[Effect]) {
        let is_refused = effects.iter().any(|effect| matches!(effect, Effect::RefusedTerm { .. }));
        if let Some(term) = commanded.filter(|_| !is_refused) {
            report(|| Fact::Obeyed { executor: self.tools.me.clone(), term });
        }
    }

    fn report_start(&self, attempt: AttemptId, task: TaskId) {
        report(|| Fact::AttemptStarted {
            executor: self.tools.me.clone(),
            task,
            attempt,
            busy: self.core.busy_slots(),
            slots: self.register.slots.max(1) as usize,
        });
    }

    fn report_end(&self, attempt: AttemptId, ended: &Ended) {
        let Some(task) = self.core.task(attempt) else { return };
        let end = match ended {
            Ended::Finished(Outcome::Completed { .. } | Outcome::Durable | Outcome::Moved { .. }) => {
                AttemptEnd::Completed
            }
            Ended::Finished(Outcome::Failed(_)) => AttemptEnd::Failed,
            Ended::Stopped => AttemptEnd::Stopped,
        };
        report(|| Fact::AttemptEnded { executor: self.tools.me.clone(), task, attempt, end });
    }
}

/// How long it may take to leave, once its owner wants that. Not again before its owner says it again.
async fn asked(drain: &mut watch::Receiver<Option<Duration>>) -> Option<Duration> {
    if drain.changed().await.is_err() {
        // The owner is gone, and `shutdown` with it.
        futures::future::pending::<()>().await;
    }
    *drain.borrow_and_update()
}

async fn beat(heartbeat: Option<&mut Interval>) {
    match heartbeat {
        Some(interval) => {
            interval.tick().await;
        }
        None => futures::future::pending().await,
    }
}

/// Waits for room in the outbox. Without a stream, or once it has broken (the link will tell), for ever.
async fn room(outbox: Option<&mpsc::Sender<ExecutorMessage>>) {
    if let Some(outbox) = outbox
        && outbox.reserve().await.is_ok()
    {
        return;
    }
    futures::future::pending().await
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
