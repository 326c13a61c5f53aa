//! The run loop: carries events into the core and its effects out.
//!
//! One task owns everything; nothing here decides. Each source of events is bounded: the link delivers one message at
//! a time, and at most as many attempts run as there are slots.

mod attempts;
mod facts;
mod leaving;
mod sending;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use polybolos_model::{
    AttemptId, TaskId,
    simulation::{Fact, report},
};
use polybolos_proto::v1::{ExecutorMessage, Register};
use polybolos_shuffle::Handover;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Interval, MissedTickBehavior, timeout},
};

use self::{
    leaving::Leaving,
    sending::{beat, room},
};
use crate::{
    config::ExecutorFailure,
    core::{Command, Core, Effect, Ended, Event, MovedTo, StageKey},
    handle::ExecutorStatus,
    link::{Attachment, Link, LinkEvent},
    stage::PreparedStage,
    task::Tools,
    wire,
};

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
                    self.tools.runtime.builds().drop_unused();
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

/// How long it may take to leave, once its owner wants that. Not again before its owner says it again.
async fn asked(drain: &mut watch::Receiver<Option<Duration>>) -> Option<Duration> {
    if drain.changed().await.is_err() {
        // The owner is gone, and `shutdown` with it.
        futures::future::pending::<()>().await;
    }
    *drain.borrow_and_update()
}
