//! One task that turns what comes in into entries of the log, and what the entries changed into effects.
//!
//! ```text
//!   RPCs, streams, ticks ─▶ Batch ─▶ policy::decide ─▶ log.propose ─▶ Leader::settle ─▶ Leader::dispatch
//!          ▲                                                │              │ answers         │ launches
//!          └────────── what arrives meanwhile: the next batch ◀────────────┴─────────────────┘
//! ```
//!
//! While an entry is being committed the next one fills up: group commit without a delay. What it will change is looked
//! ahead to meanwhile, so that tasks start whose inputs are on their way into the log ([`polybolos_state::ClusterState::ahead`]). Nothing
//! waits for an entry:
//! a leader that loses its lead or its majority, or that is told to stop, reacts at once. Without a majority nothing is
//! proposed; requests are refused and reports kept until one is back or another replica leads.
//!
//! Deliberately absent: any decision. Those are in `policy` and `Dispatcher`, both pure.

use std::sync::Arc;

use futures::future::BoxFuture;
use polybolos_consensus::{Committed, Leadership, ProposeError, read_with};
use polybolos_model::{JobId, Term};
use polybolos_state::{
    Change, Command, is_foreseeable,
    policy::{self, Coming, QueueFull},
    submitted,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    error::RequestError,
    input::{Answer, Batch, Input, Origin, Refusal},
    leader::Leader,
    settle::{self, refuse_registration},
    shared::{Life, Shared},
};

type Outcome = Result<Committed, ProposeError>;

pub(crate) struct RunLoop {
    shared: Arc<Shared>,
    inputs: mpsc::Receiver<Input>,
    leadership: watch::Receiver<Leadership>,
    life: watch::Receiver<Life>,
    /// While this replica leads.
    leader: Option<Leader>,
    /// What goes into the next entry. Empty without a leader.
    next: Batch,
    in_flight: Option<InFlight>,
    /// There is something on the way into the log that nobody has looked ahead over.
    is_news: bool,
    /// `next` may wait until then for more: the one job that it is about goes on without.
    hold_until: Option<Instant>,
}

/// An entry that was proposed.
struct InFlight {
    term: Term,
    origins: Vec<Origin>,
    /// What the policy put behind the commands of `origins`.
    added: Vec<Command>,
    /// All of its commands, unless nothing can be told by them of what comes next.
    foreseen: Option<Vec<Command>>,
    /// Jobs that it submits.
    submits: Vec<JobId>,
    /// The same with their keys, and with those that write.
    coming: Vec<Coming>,
    outcome: BoxFuture<'static, Outcome>,
}

impl RunLoop {
    pub(crate) fn new(shared: Arc<Shared>, inputs: mpsc::Receiver<Input>) -> Self {
        let (leadership, life) = (shared.log.leadership(), shared.life());
        Self {
            shared,
            inputs,
            leadership,
            life,
            leader: None,
            next: Batch::default(),
            in_flight: None,
            is_news: false,
            hold_until: None,
        }
    }

    /// Runs until it is told to stop, or the log or all senders of inputs are gone.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(self.shared.config.tick_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.follow_leadership();
        loop {
            self.look_ahead();
            self.advance();
            let held_until = self.hold_until.filter(|_| self.in_flight.is_none());
            tokio::select! {
                biased;
                _ = self.life.changed() => {
                    if !self.live_on() {
                        break;
                    }
                }
                changed = self.leadership.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.follow_leadership();
                }
                outcome = outcome(&mut self.in_flight) => self.settle(outcome),
                _ = ticks.tick() => {
                    if let Some(leader) = &mut self.leader {
                        leader.tick();
                    }
                }
                () = wake(self.leader.as_ref().and_then(Leader::wakes_at)) => {
                    if let Some(leader) = &mut self.leader {
                        leader.wake();
                    }
                }
                () = wake(held_until) => self.hold_until = None,
                input = self.inputs.recv(), if self.next.has_room() => match input {
                    Some(input) => self.take(input),
                    None => break,
                },
            }
        }
        self.end();
    }

    /// False at the end.
    fn live_on(&mut self) -> bool {
        let life = *self.life.borrow_and_update();
        match life {
            Life::Serving | Life::Drained => true,
            Life::Draining => {
                refuse_batch(std::mem::take(&mut self.next), || RequestError::Stopping);
                self.tell_drained();
                true
            }
            Life::Stopped => false,
        }
    }

    fn tell_drained(&self) {
        if self.in_flight.is_none() && *self.life.borrow() == Life::Draining {
            self.shared.set_life(Life::Drained);
        }
    }

    /// Begins or ends to lead, gains or loses the majority.
    fn follow_leadership(&mut self) {
        let leadership = self.leadership.borrow_and_update().clone();
        self.shared.note_leadership(&leadership);
        let term = leadership.is_self.then_some(leadership.term);
        if self.leader.as_ref().map(Leader::term) != term {
            self.step_down();
            if let Some(term) = term.filter(|_| self.shared.is_serving()) {
                tracing::info!(%term, "leading");
                self.leader = Some(Leader::begin(Arc::clone(&self.shared), term));
            }
        }
        if let Some(leader) = &mut self.leader {
            leader.note_majority(leadership.has_quorum);
        }
        // Whoever watches a job looks for another replica if this one does not serve.
        self.shared.tell_progress();
    }

    /// Dropping a leader closes its streams: executors look for the next one, and tell it again what this one holds.
    fn step_down(&mut self) {
        if let Some(leader) = self.leader.take() {
            tracing::info!(term = %leader.term(), "not leading any more");
        }
        refuse_batch(std::mem::take(&mut self.next), || self.shared.not_serving());
        self.shared.dispatcher().restart();
        self.shared.rows().clear();
        self.shared.note_leader_ms(0);
        self.shared.note_no_executor(None);
    }

    /// Takes `first` and what else waits already.
    fn take(&mut self, first: Input) {
        self.add(first);
        while self.next.has_room() {
            let Ok(input) = self.inputs.try_recv() else { break };
            self.add(input);
        }
    }

    fn add(&mut self, input: Input) {
        let serves = self.serves();
        if !matches!(input, Input::Reports(_) | Input::Beat { .. } | Input::Probed { .. }) {
            self.hold_until = None;
        }
        let Some(leader) = &mut self.leader else {
            return refuse_input(input, || self.shared.not_serving());
        };
        match input {
            Input::Request { .. } | Input::Registration(_) if !serves => {
                refuse_input(input, || self.shared.not_serving());
            }
            Input::Request { term: Some(term), answer, .. } if term != leader.term() => {
                refuse(answer, self.shared.not_serving());
            }
            Input::Request { command, answer, .. } => {
                if let Some(full) = self.queue_full(&command) {
                    return refuse(answer, full.into());
                }
                self.is_news |= matches!(*command, Command::SubmitJob { .. });
                self.next.request(*command, Origin::Client(answer));
            }
            // An executor keeps what it holds for the cluster by its name.
            Input::Registration(_) if self.shared.read(|state| state.cluster_id().is_empty()) => {
                refuse_input(input, || RequestError::Founding);
            }
            Input::Registration(registration) => self.next.registration(*registration),
            // A report over a stream that was dropped meanwhile comes again over the next one.
            Input::Reports(reports) if leader.is_current(&reports.executor, reports.stream) => {
                leader.heard_of(&reports);
                self.next.reports(reports);
                self.is_news = true;
            }
            Input::Reports(_) => {}
            Input::Beat { stream, beat } => leader.beat(stream, beat, serves, &mut self.next),
            Input::StreamEnded { executor, stream } => leader.stream_ended(&executor, stream),
            Input::Probed { term, executor, incarnation, verdict } if term == leader.term() => {
                leader.probed((executor, incarnation), verdict);
            }
            Input::Probed { .. } => {}
            // It asks again until it is answered.
            Input::Drain { executor, stream, .. } if !serves || !leader.is_current(&executor, stream) => {}
            Input::Drain { executor, incarnation, deadline_ms, .. } => {
                leader.drain_asked(executor, incarnation, deadline_ms, &mut self.next);
            }
            Input::PullFailed { executor, stream, attempt } => {
                if leader.is_current(&executor, stream) {
                    leader.pull_failed(&executor, attempt);
                }
            }
        }
    }

    /// Why a job that is submitted now would have no place to wait.
    fn queue_full(&self, command: &Command) -> Option<QueueFull> {
        let most = self.shared.config.max_queued_jobs;
        if most == 0 {
            return None;
        }
        let coming = self.in_flight.iter().flat_map(|entry| &entry.coming).chain(&self.next.coming);
        self.shared.read(|state| policy::queue_full(state, &self.shared.dispatcher(), command, coming, most))
    }

    /// As far as the run loop has seen.
    fn serves(&self) -> bool {
        self.leadership.borrow().serves() && *self.life.borrow() == Life::Serving
    }

    /// Decides and proposes, again while nothing is under way and there is something to decide.
    fn advance(&mut self) {
        while self.in_flight.is_none() && self.serves() {
            let Some(leader) = &mut self.leader else { return };
            if self.hold_until.is_some() && !leader.is_due() {
                return;
            }
            self.hold_until = None;
            if !leader.compose(&mut self.next) {
                return;
            }
            let Batch { events, mut origins, coming, .. } = std::mem::take(&mut self.next);
            let (term, now_ms) = (leader.term(), leader.now_ms());
            let patience = self.shared.config.patience;
            let entry = read_with(&*self.shared.log, |state| {
                let mut entry = policy::decide(state, &events, patience, term, now_ms)?;
                // Behind the requests, whose outcomes are found by their places, and before the losses.
                let deaths = self.shared.dispatcher().deaths(state, &entry.commands);
                entry.commands.splice(origins.len()..origins.len(), deaths);
                Some(entry)
            });
            let Some(entry) = entry else {
                leader.dispatch();
                self.shared.tell_progress();
                continue;
            };
            let added = entry.commands.iter().skip(origins.len()).cloned().collect();
            // Under load it is not worth its copy: nobody looks ahead with several jobs.
            let is_lonely = self.shared.read(|state| state.active_job_count() <= 1);
            let foreseen = (is_lonely && is_foreseeable(&entry.commands)).then(|| entry.commands.clone());
            if polybolos_model::mutant!("ack-before-commit") {
                settle::answer_submits(&mut origins, &entry.commands);
            }
            let submits = submitted(&entry.commands).collect();
            let log = Arc::clone(&self.shared.log);
            let outcome = Box::pin(async move { held(log.propose(entry).await).await });
            self.in_flight = Some(InFlight { term, origins, added, foreseen, submits, coming, outcome });
        }
    }

    /// Launches by what the entry in flight and the requests behind it will change.
    fn look_ahead(&mut self) {
        if !std::mem::take(&mut self.is_news) || !self.serves() {
            return;
        }
        let in_flight = match &self.in_flight {
            Some(InFlight { foreseen: Some(commands), .. }) => commands.as_slice(),
            Some(_) => return,
            None => &[],
        };
        let Some(leader) = &mut self.leader else { return };
        let Some(requests) = self.next.requests_alone() else { return };
        let (goes_on, decisions) = leader.look_ahead(in_flight.iter().chain(requests));
        // Behind what they were made on, and before what comes of them.
        for command in decisions {
            self.next.request(command, Origin::Housekeeping);
        }
        let hold = self.next.bears_a_wait().filter(|_| goes_on);
        let now = self.shared.env.clock.now();
        self.hold_until = hold.map(|hold| self.hold_until.unwrap_or(now + hold));
    }

    fn settle(&mut self, outcome: Outcome) {
        let Some(InFlight { term, origins, added, submits, .. }) = self.in_flight.take() else { return };
        match self.leader.as_mut().filter(|leader| leader.term() == term) {
            Some(leader) => {
                leader.settle(origins, &added, outcome);
                if !leader.adaptable.is_empty() && leader.adapt(&mut self.next, false) {
                    self.hold_until = None;
                }
                leader.forget_unsubmitted(submits);
            }
            None => settle::of_the_past(&self.shared, origins, outcome),
        }
        self.shared.tell_progress();
        self.tell_drained();
    }

    fn end(mut self) {
        self.step_down();
        if let Some(InFlight { origins, .. }) = self.in_flight.take() {
            settle::refuse_origins(origins, || RequestError::Unknown);
        }
        self.shared.tell_progress();
        self.inputs.close();
        while let Ok(input) = self.inputs.try_recv() {
            refuse_input(input, || RequestError::Stopping);
        }
    }
}

/// Where a simulator may hold up the outcome of an entry, or cut the power before it shows any effect.
async fn held(outcome: Outcome) -> Outcome {
    polybolos_model::failpoint!("scheduler.after_commit_before_ack");
    let completes_stage = |change: &Change| {
        matches!(change, Change::TaskCompleted { stage_complete: true, job_ended: false, .. })
    };
    let mut committed = outcome.iter().flat_map(|committed| committed.applied.outcomes.iter().flatten());
    let is_between_stages = committed.any(completes_stage);
    if is_between_stages {
        polybolos_model::failpoint!("scheduler.between_stages");
    }
    outcome
}

/// For ever while there is nothing to wake up for.
async fn wake(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// For ever while nothing is under way.
async fn outcome(in_flight: &mut Option<InFlight>) -> Outcome {
    match in_flight {
        Some(in_flight) => (&mut in_flight.outcome).await,
        None => std::future::pending().await,
    }
}

fn refuse_batch(batch: Batch, why: impl Fn() -> RequestError) {
    settle::refuse_origins(batch.origins, why);
}

fn refuse_input(input: Input, why: impl Fn() -> RequestError) {
    match input {
        Input::Request { answer, .. } => refuse(answer, why()),
        Input::Registration(registration) => refuse_registration(&registration.stream, &why(), true),
        // Kept by the executor, which reports again to the next leader.
        Input::Reports(_)
        | Input::Beat { .. }
        | Input::StreamEnded { .. }
        | Input::Probed { .. }
        | Input::Drain { .. }
        | Input::PullFailed { .. } => {}
    }
}

/// The caller may have gone away.
pub(crate) fn refuse(answer: Answer, why: RequestError) {
    let _ = answer.send(Err(Refusal::Unserved(why)));
}
