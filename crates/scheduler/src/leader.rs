//! A replica while it leads: the streams of its executors, the attempts that run, and what is due by time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use polybolos_model::{ExecutorId, Incarnation, JobId, Term};
use polybolos_proto::v1::{HeartbeatAck, scheduler_message::Message};
use polybolos_state::{
    Beat, Command, Dispatcher, LeaderClock,
    limits::MAX_CLOCK_STEP_MS,
    policy::{self, Event, takes_tasks},
};
use tokio::time::{Duration, Instant};

use crate::{
    drains::Drains,
    executors::{StreamId, Streams},
    input::{Batch, Origin, Report, Reports},
    launch::StageCache,
    probe::{Probes, Verdict},
    publish::Settlers,
    shared::Shared,
};

/// A leader that comes this late to a tick was paused or starved, and has heard nobody meanwhile.
const PAUSE: Duration = Duration::from_millis(MAX_CLOCK_STEP_MS);

pub(crate) struct Leader {
    pub(crate) shared: Arc<Shared>,
    term: Term,
    began: Instant,
    clock: LeaderClock,
    /// When it began to wait for the executors.
    since: Instant,
    /// Nobody is called silent before.
    blames_from: Instant,
    last_tick: Instant,
    ticked: bool,
    /// An entry is called for, perhaps without commands: its term has begun.
    due: bool,
    majority: bool,
    /// The entry before the last restart may still be committed. The next one that is decides it: a leader's entries
    /// are committed in order.
    pub(crate) unresolved: bool,
    pub(crate) streams: Streams,
    pub(crate) stages: StageCache,
    /// The last one of each executor since beats last went into the log, and the stream that it came by.
    beats: BTreeMap<ExecutorId, (StreamId, Beat)>,
    beats_sent: Instant,
    /// Of executors without a stream.
    probes: Probes,
    pub(crate) drains: Drains,
    /// Reports to acknowledge at the end of the round.
    pub(crate) acks: BTreeMap<ExecutorId, Vec<u64>>,
    /// When there is something to launch although nothing happens.
    wakes_at: Option<Instant>,
    /// Some running attempts may be of no use any more.
    pub(crate) check_running: bool,
    pub(crate) settlers: Settlers,
    /// Some statements may have files to publish or to sweep.
    pub(crate) check_writes: bool,
    /// What this round calls for in the next entry.
    follow_ups: Vec<Command>,
    /// Jobs of which stages were completed since it was last decided how others read them.
    pub(crate) adaptable: BTreeSet<JobId>,
}

impl Leader {
    /// Everything that is volatile starts empty; executors tell the rest.
    pub(crate) fn begin(shared: Arc<Shared>, term: Term) -> Self {
        let wall_ms = shared.env.clock.wall_ms();
        let clock = shared.read(|state| {
            let mut dispatcher = shared.dispatcher();
            // One that led in this term before must name no two attempts alike.
            if dispatcher.term() == term {
                dispatcher.restart();
            } else {
                *dispatcher = Dispatcher::with_policy(term, Arc::clone(&shared.config.scheduling));
            }
            dispatcher.await_executors(state);
            LeaderClock::begin(state, wall_ms, 0)
        });
        shared.excuse_watchers();
        let now = shared.env.clock.now();
        Self {
            shared,
            term,
            began: now,
            clock,
            since: now,
            // The policy gives a new term its time.
            blames_from: now,
            last_tick: now,
            ticked: false,
            due: true,
            majority: true,
            unresolved: false,
            streams: Streams::new(term),
            stages: StageCache::default(),
            beats: BTreeMap::new(),
            beats_sent: now,
            probes: Probes::default(),
            drains: Drains::default(),
            acks: BTreeMap::new(),
            wakes_at: None,
            check_running: false,
            settlers: Settlers::default(),
            check_writes: true,
            follow_ups: Vec::new(),
            adaptable: BTreeSet::new(),
        }
    }

    /// Begins anew within its term, since an entry's outcome is unknown: if it is committed after all, nobody carries
    /// out what it changes. Without streams there is nobody to tell; executors register again, by entries after that
    /// one, and are then told what the state says.
    pub(crate) fn begin_anew(&mut self) {
        tracing::warn!(term = %self.term, "an entry may be committed unseen; all executors register again");
        self.streams = Streams::new(self.term);
        self.stages = StageCache::default();
        self.beats.clear();
        self.acks.clear();
        self.follow_ups.clear();
        self.check_running = false;
        self.drains = Drains::default();
        self.unresolved = true;
        // A release among what is committed unseen would leave them here.
        self.shared.rows().clear();
        self.shared.dispatcher().restart();
        self.listen_anew();
    }

    /// Nobody could be heard for a while: waits for the executors as a new leader does, and blames nobody who has been
    /// away meanwhile.
    pub(crate) fn listen_anew(&mut self) {
        let now = self.shared.env.clock.now();
        self.since = now;
        self.blames_from = now + self.executor_timeout();
        self.shared.excuse_watchers();
        self.shared.read(|state| self.shared.dispatcher().await_executors(state));
    }

    /// A new leader waits this long for the executors to tell what they run, before it launches anything.
    fn executor_timeout(&self) -> Duration {
        Duration::from_millis(self.shared.config.patience.executor_timeout_ms)
    }

    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// The dispatcher's time: since this replica began to lead. Nobody's wall clock bends it.
    pub(crate) fn led_ms(&self) -> u64 {
        let led = self.shared.env.clock.now() - self.began;
        u64::try_from(led.as_millis()).unwrap_or(u64::MAX)
    }

    /// By the time of [`Leader::led_ms`].
    pub(crate) fn wake_at(&mut self, led_ms: Option<u64>) {
        self.wakes_at = led_ms.and_then(|at| self.began.checked_add(Duration::from_millis(at)));
    }

    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        [self.wakes_at, self.drains.wakes_at()].into_iter().flatten().min()
    }

    /// What was to be waited for is due: the next round dispatches.
    pub(crate) fn wake(&mut self) {
        self.wakes_at = None;
        self.drains.wake();
        self.due = true;
    }

    /// The time to decide by, in ms since the Unix epoch.
    pub(crate) fn now_ms(&mut self) -> u64 {
        let elapsed = self.shared.env.clock.now() - self.began;
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let now_ms = self.clock.read(self.shared.env.clock.wall_ms(), elapsed_ms);
        self.shared.note_leader_ms(now_ms);
        now_ms
    }

    pub(crate) fn is_current(&self, executor: &ExecutorId, stream: StreamId) -> bool {
        self.streams.is_current(executor, stream)
    }

    /// Told whenever the leadership has changed in any way.
    pub(crate) fn note_majority(&mut self, has_majority: bool) {
        if has_majority && !self.majority {
            polybolos_model::sometimes!("a leader got its majority back");
            self.listen_anew();
        }
        self.majority = has_majority;
    }

    /// A beat is kept for the next entry of them, unless the cluster waits for a sign of life. It is acknowledged only
    /// by a leader that can commit: executors leave one that can't.
    pub(crate) fn beat(&mut self, stream: StreamId, beat: Beat, serves: bool, batch: &mut Batch) {
        let executor = beat.executor.clone();
        if !self.is_current(&executor, stream) {
            return;
        }
        self.streams.heard(&executor, self.shared.env.clock.now());
        if serves && !self.streams.send(&executor, Message::Heartbeat(HeartbeatAck {})) {
            return;
        }
        let is_suspect = self
            .shared
            .read(|state| state.executor(&executor).is_some_and(|known| known.suspect_since_ms.is_some()));
        if is_suspect {
            self.beats.remove(&executor);
            batch.event(Event::Beat(beat));
        } else {
            self.beats.insert(executor, (stream, beat));
        }
    }

    /// Slots of tasks that tell that they are done are free. Rows that came along are kept from now on: whoever learns of a
    /// completion that is committed may look for them at once.
    pub(crate) fn heard_of(&self, reports: &Reports) {
        let mut dispatcher = self.shared.dispatcher();
        let mut kept = self.shared.rows();
        for Report { task, attempt, command, rows, .. } in &reports.reports {
            if matches!(command, Command::CompleteTask { .. } | Command::CompleteTaskIn { .. }) {
                dispatcher.reported(*attempt);
                if let Some(rows) = rows {
                    kept.keep(*task, *attempt, rows.clone());
                }
            }
        }
    }

    /// The stream ended by itself.
    pub(crate) fn stream_ended(&mut self, executor: &ExecutorId, stream: StreamId) {
        if self.streams.ended(executor, stream) {
            self.shared.dispatcher().detach(executor);
        }
    }

    pub(crate) fn drop_stream(&mut self, executor: &ExecutorId) {
        self.streams.drop_stream(executor);
        self.shared.dispatcher().detach(executor);
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self) {
        let now = self.shared.env.clock.now();
        if now - self.last_tick >= self.shared.config.tick_interval + PAUSE {
            polybolos_model::sometimes!("a leader was paused");
            tracing::warn!(away = ?(now - self.last_tick), "this leader was paused");
            self.listen_anew();
        }
        self.last_tick = now;
        self.ticked = true;
    }

    /// It is time for an entry, whatever else is asked for.
    pub(crate) fn is_due(&self) -> bool {
        self.due || self.ticked || !self.follow_ups.is_empty()
    }

    /// Adds what the leader itself has for the next entry. False if there is nothing to decide.
    pub(crate) fn compose(&mut self, batch: &mut Batch) -> bool {
        let ticked = std::mem::take(&mut self.ticked);
        let due = std::mem::take(&mut self.due) || ticked;
        if ticked {
            self.keep_house(batch);
        }
        self.take_follow_ups(batch);
        let freed = self.look_at_drains(batch);
        self.adapt(batch, due);
        due || freed || !batch.is_empty()
    }

    /// Adds what is due by time.
    fn keep_house(&mut self, batch: &mut Batch) {
        let now = self.shared.env.clock.now();
        if now - self.since >= self.executor_timeout() {
            self.shared.dispatcher().stop_waiting();
        }
        if now >= self.blames_from {
            batch.event(Event::Tick);
            for (executor, incarnation, silent) in self.streams.silences(now) {
                let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
                batch.event(Event::Silence { executor: executor.clone(), incarnation, silent_ms });
            }
            self.look_for_takers(batch);
        }
        self.probe_detached();
        self.settlers.follow(&self.shared);
        let half_tick = self.shared.config.tick_interval / 2;
        if now - self.beats_sent + half_tick >= self.shared.config.heartbeat_interval {
            self.beats_sent = now;
            for (executor, (stream, beat)) in std::mem::take(&mut self.beats) {
                // One that came before its stream broke is no sign of life any more.
                if self.is_current(&executor, stream) {
                    batch.event(Event::Beat(beat));
                }
            }
        }
        let started = self.shared.read(|state| policy::started(state, &self.shared.dispatcher()));
        started.into_iter().for_each(|command| batch.request(command, Origin::Housekeeping));
        let now_ms = self.now_ms();
        let overruns = self.shared.read(|state| policy::overruns(state, now_ms));
        overruns.into_iter().for_each(|command| batch.request(command, Origin::Housekeeping));
        for (job, limit_ms) in self.shared.unwatched() {
            let reason = format!("nobody watched it for {limit_ms} ms");
            batch.request(Command::CancelJob { job, reason }, Origin::Housekeeping);
        }
    }

    /// Puts a command of the leader's own into the next entry.
    pub(crate) fn follow_up(&mut self, command: Command) {
        self.follow_ups.push(command);
    }

    fn take_follow_ups(&mut self, batch: &mut Batch) {
        for command in std::mem::take(&mut self.follow_ups) {
            batch.request(command, Origin::Housekeeping);
        }
        for (executor, incarnation) in self.streams.take_broken() {
            self.shared.dispatcher().detach(&executor);
            self.probe((executor.clone(), incarnation));
            batch.event(Event::StreamBroken { executor, incarnation });
        }
        for gone in self.probes.take_gone(|executor| self.streams.is_attached(executor)) {
            batch.event(gone);
        }
    }

    /// Asks at once whether the executor's process is gone, if it is known in this life.
    fn probe(&mut self, life: (ExecutorId, Incarnation)) {
        let address = self.shared.read(|state| state.present(&life.0, life.1).map(|e| e.address.clone()));
        let Some(address) = address else { return };
        let (net, inputs) = (&self.shared.env.net, &self.shared.inputs);
        self.probes.start(net, inputs, self.term, life, address);
    }

    /// Those that have no stream to this leader: suspected ones, and those that a new leader has not heard of yet.
    fn probe_detached(&mut self) {
        let detached: Vec<_> = self.shared.read(|state| {
            let detached = state.executors().filter(|e| e.is_present() && !self.streams.is_attached(&e.id));
            detached.map(|e| (e.id.clone(), e.incarnation)).collect()
        });
        for life in detached {
            self.probe(life);
        }
    }

    /// What one of its probes has found.
    pub(crate) fn probed(&mut self, life: (ExecutorId, Incarnation), verdict: Verdict) {
        self.probes.ended(life, verdict);
    }

    /// Jobs wait while no executor takes tasks, and are told since when.
    fn look_for_takers(&mut self, batch: &mut Batch) {
        if self.shared.read(takes_tasks) {
            return self.shared.note_no_executor(None);
        }
        let now_ms = self.now_ms();
        let since_ms = self.shared.no_executor_since_ms().unwrap_or(now_ms);
        self.shared.note_no_executor(Some(since_ms));
        let running: BTreeSet<_> = self.shared.read(|state| {
            let dispatcher = self.shared.dispatcher();
            let runs = state.active_jobs().filter(|job| dispatcher.running_of(job.id).next().is_some());
            runs.map(|job| job.id).collect()
        });
        batch.event(Event::NoExecutor { since_ms, running });
    }
}
