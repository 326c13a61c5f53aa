//! One task that turns what comes in into entries of the log, and what the entries changed into effects.
//!
//! ```text
//!   RPCs, streams, ticks ─▶ Batch ─▶ policy::decide ─▶ log.propose ─▶ Leader::settle ─▶ Leader::dispatch
//!          ▲                                                │              │ answers         │ launches
//!          └────────── what arrives meanwhile: the next batch ◀────────────┴─────────────────┘
//! ```
//!
//! While an entry is being committed the next one fills up: group commit without a delay. Deliberately absent: any
//! decision. Those are in `policy` and `Dispatcher`, both pure.

use std::sync::Arc;

use polybolos_consensus::{Leadership, read_with};
use polybolos_state::{
    Command,
    policy::{self, Event},
};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};

use crate::{
    error::RequestError,
    input::{Answer, Batch, Input, Origin, Refusal},
    leader::Leader,
    shared::Shared,
};

pub(crate) struct RunLoop {
    shared: Arc<Shared>,
    inputs: mpsc::Receiver<Input>,
    leadership: watch::Receiver<Leadership>,
    /// While this replica leads.
    leader: Option<Leader>,
}

impl RunLoop {
    pub(crate) fn new(shared: Arc<Shared>, inputs: mpsc::Receiver<Input>) -> Self {
        let leadership = shared.log.leadership();
        Self { shared, inputs, leadership, leader: None }
    }

    /// Runs until `stop` changes or all senders of inputs are gone.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval(self.shared.config.tick_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.follow_leadership().await;
        loop {
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                changed = self.leadership.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.follow_leadership().await;
                }
                _ = ticks.tick() => self.tick().await,
                input = self.inputs.recv() => match input {
                    Some(input) => self.input(input).await,
                    None => break,
                },
            }
        }
        self.leader = None;
        self.shared.stop();
        self.inputs.close();
        while let Ok(input) = self.inputs.try_recv() {
            refuse_input(input, || RequestError::Stopping);
        }
    }

    /// Begins or ends to lead.
    async fn follow_leadership(&mut self) {
        let leadership = self.leadership.borrow_and_update().clone();
        let term = leadership.is_self.then_some(leadership.term);
        if self.leader.as_ref().map(Leader::term) == term {
            return;
        }
        // Dropping a leader closes its streams: executors look for the next one.
        self.leader = None;
        if let Some(term) = term {
            tracing::info!(%term, "leading");
            self.leader = Some(Leader::begin(Arc::clone(&self.shared), term));
            self.commit(Batch::default()).await;
        }
    }

    async fn tick(&mut self) {
        let mut batch = Batch::default();
        if let Some(leader) = &mut self.leader {
            batch.event(Event::Tick);
            leader.tick(&mut batch);
        }
        self.fill(&mut batch);
        self.commit(batch).await;
    }

    async fn input(&mut self, first: Input) {
        let mut batch = Batch::default();
        self.add(first, &mut batch);
        self.fill(&mut batch);
        self.commit(batch).await;
    }

    /// Takes what waits already.
    fn fill(&mut self, batch: &mut Batch) {
        while batch.has_room() {
            let Ok(input) = self.inputs.try_recv() else { break };
            self.add(input, batch);
        }
    }

    fn add(&mut self, input: Input, batch: &mut Batch) {
        let Some(leader) = &mut self.leader else {
            let shared = &self.shared;
            return refuse_input(input, || shared.not_leader());
        };
        match input {
            Input::Request { command, answer } => batch.request(*command, Origin::Client(answer)),
            Input::Registration(registration) => batch.registration(*registration),
            // A report over a stream that was dropped meanwhile comes again over the next one.
            Input::Reports(reports) if leader.is_current(&reports.executor, reports.stream) => {
                batch.reports(reports)
            }
            Input::Reports(_) => {}
            Input::Beat(beat) => batch.event(Event::Beat(beat)),
            Input::StreamEnded { executor, stream } => {
                if let Some(incarnation) = leader.stream_ended(&executor, stream) {
                    batch.event(Event::StreamBroken { executor, incarnation });
                }
            }
        }
    }

    /// Decides, commits, answers, dispatches; again while that itself calls for another entry.
    async fn commit(&mut self, mut batch: Batch) {
        loop {
            let Some(leader) = &mut self.leader else { return };
            leader.take_follow_ups(&mut batch);
            let Batch { events, origins, .. } = batch;
            let now_ms = self.shared.env.clock.wall_ms();
            let entry =
                read_with(&*self.shared.log, |state| policy::decide(state, &events, leader.term(), now_ms));
            if let Some(entry) = entry {
                let added: Vec<Command> = entry.commands.iter().skip(origins.len()).cloned().collect();
                match self.shared.log.propose(entry).await {
                    Ok(committed) => leader.settle(origins, &added, committed.applied),
                    Err(error) => leader.not_committed(origins, &error),
                }
            }
            leader.dispatch();
            self.shared.tell_progress();
            if !leader.has_follow_ups() {
                return;
            }
            batch = Batch::default();
        }
    }
}

fn refuse_input(input: Input, why: impl Fn() -> RequestError) {
    match input {
        Input::Request { answer, .. } => refuse(answer, why()),
        Input::Registration(registration) => {
            crate::leader::refuse_registration(registration.stream, &why(), true)
        }
        // Kept by the executor, which reports again to the next leader.
        Input::Reports(_) | Input::Beat(_) | Input::StreamEnded { .. } => {}
    }
}

/// The caller may have gone away.
pub(crate) fn refuse(answer: Answer, why: RequestError) {
    let _ = answer.send(Err(Refusal::Unserved(why)));
}
