//! What the run loop and the RPC services of a replica share.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use polybolos_consensus::{Log, read_with};
use polybolos_env::Env;
use polybolos_model::{JobId, Term};
use polybolos_state::{
    Change, ClusterState, Command, Dispatcher, Job, WritePhase,
    policy::{self, QueueFull},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};

use crate::{
    config::SchedulerConfig,
    error::RequestError,
    front::Front,
    input::{Input, Refusal},
    rows::Rows,
    standing::Leaderless,
    to_leader::ToLeader,
};

/// From the start of a replica to its end, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    Serving,
    /// Nothing new is taken up.
    Draining,
    /// Nothing that was taken up is under way any more.
    Drained,
    Stopped,
}

pub(crate) struct Shared {
    pub(crate) config: SchedulerConfig,
    pub(crate) env: Env,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) front: Front,
    pub(crate) to_leader: ToLeader,
    pub(crate) inputs: mpsc::Sender<Input>,
    dispatcher: Mutex<Dispatcher>,
    /// Of small results, while this replica leads.
    rows: Mutex<Rows>,
    watched: Mutex<BTreeMap<JobId, Watched>>,
    /// Jobs of which this replica, as the leader, has deleted what was staged, at least once.
    swept: Mutex<BTreeSet<JobId>>,
    /// Ticks after each round of the run loop.
    progress: watch::Sender<u64>,
    life: watch::Sender<Life>,
    pub(crate) leaderless: Leaderless,
    refused_reports: AtomicU64,
    /// The leader's time; 0 while this replica does not lead.
    leader_ms: AtomicU64,
    /// Since when, by the leader's time, no executor has taken tasks; 0 while one does or this replica does not lead.
    no_executor_since_ms: AtomicU64,
}

/// Who watches a job.
struct Watched {
    watchers: usize,
    /// When the last one left; while nobody is there.
    since: Instant,
}

impl Shared {
    pub(crate) fn new(
        config: SchedulerConfig,
        env: Env,
        log: Arc<dyn Log>,
        front: Front,
    ) -> (Arc<Self>, mpsc::Receiver<Input>) {
        let (inputs, receiver) = mpsc::channel(crate::input::WAITING_INPUTS);
        let leaderless = Leaderless::since(env.clock.now());
        let dispatcher = Dispatcher::with_policy(Term::default(), Arc::clone(&config.scheduling));
        let shared = Self {
            config,
            env,
            log,
            front,
            to_leader: ToLeader::new(),
            inputs,
            dispatcher: Mutex::new(dispatcher),
            rows: Mutex::default(),
            watched: Mutex::default(),
            swept: Mutex::default(),
            progress: watch::Sender::new(0),
            life: watch::Sender::new(Life::Serving),
            leaderless,
            refused_reports: AtomicU64::new(0),
            leader_ms: AtomicU64::new(0),
            no_executor_since_ms: AtomicU64::new(0),
        };
        (Arc::new(shared), receiver)
    }

    pub(crate) fn read<R>(&self, f: impl FnOnce(&ClusterState) -> R) -> R {
        read_with(&*self.log, f)
    }

    /// The leader's memory of running attempts. Take it after the state's lock or alone, never before it.
    pub(crate) fn dispatcher(&self) -> MutexGuard<'_, Dispatcher> {
        self.dispatcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows that came with completions. Take it last of all locks.
    pub(crate) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    pub(crate) fn tell_progress(&self) {
        self.progress.send_modify(|round| *round += 1);
    }

    /// The cluster's time, by which everything in the state is stamped. It is not the wall's.
    pub(crate) fn now_ms(&self, state: &ClusterState) -> u64 {
        self.leader_ms.load(Ordering::Relaxed).max(state.now_ms())
    }

    pub(crate) fn note_leader_ms(&self, now_ms: u64) {
        self.leader_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn note_no_executor(&self, since_ms: Option<u64>) {
        self.no_executor_since_ms.store(since_ms.unwrap_or(0), Ordering::Relaxed);
    }

    /// Since when no executor has taken tasks, as far as the leader has seen.
    pub(crate) fn no_executor_since_ms(&self) -> Option<u64> {
        Some(self.no_executor_since_ms.load(Ordering::Relaxed)).filter(|since_ms| *since_ms > 0)
    }

    /// Since when the job waits for an executor; 0 if it does not. `runs` if an attempt of it does.
    pub(crate) fn waits_since_ms(&self, state: &ClusterState, job: &Job, runs: bool) -> u64 {
        let since_ms = self.no_executor_since_ms();
        let since_ms = since_ms.filter(|_| !runs && state.is_active(job) && !policy::takes_tasks(state));
        since_ms.map_or(0, |since_ms| policy::waits_since_ms(state, job, since_ms))
    }

    pub(crate) fn life(&self) -> watch::Receiver<Life> {
        self.life.subscribe()
    }

    pub(crate) fn is_serving(&self) -> bool {
        *self.life.borrow() == Life::Serving
    }

    /// A life that has come further already goes on from there.
    pub(crate) fn set_life(&self, to: Life) {
        self.life.send_if_modified(|life| {
            let changed = *life < to;
            *life = to.max(*life);
            changed
        });
    }

    /// Reports, beats and entries of the past that were refused since this replica started.
    pub(crate) fn refused_reports(&self) -> u64 {
        self.refused_reports.load(Ordering::Relaxed)
    }

    pub(crate) fn count_refused(&self, reports: u64) {
        self.refused_reports.fetch_add(reports, Ordering::Relaxed);
    }

    /// Why a job that is submitted now would have no place to wait, whatever else is on its way into the log.
    pub(crate) fn queue_full(&self) -> Option<QueueFull> {
        let most = self.config.max_queued_jobs;
        let full = |state: &ClusterState| policy::no_place(state, &self.dispatcher(), iter::empty(), most);
        if most == 0 { None } else { self.read(full) }
    }

    /// Hands a command to the run loop and waits until it is applied.
    ///
    /// # Errors
    /// The state's rejection, or why the command did not get there. After a deadline it may still take effect.
    pub(crate) async fn request(&self, command: Command) -> Result<Change, Refusal> {
        self.request_in(None, command).await
    }

    /// The same, but for nothing if this replica does not lead in `term` any more when its turn comes.
    ///
    /// # Errors
    /// As [`Shared::request`].
    pub(crate) async fn request_in(&self, term: Option<Term>, command: Command) -> Result<Change, Refusal> {
        let (answer, answered) = oneshot::channel();
        let input = Input::Request { command: Box::new(command), term, answer };
        let wait = async {
            self.inputs.send(input).await.map_err(|_| Refusal::Unserved(RequestError::Stopping))?;
            answered.await.unwrap_or(Err(Refusal::Unserved(RequestError::Unknown)))
        };
        let deadline: Duration = self.config.request_deadline;
        let ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        timeout(deadline, wait).await.unwrap_or(Err(Refusal::Unserved(RequestError::Deadline { ms })))
    }

    pub(crate) fn note_swept(&self, job: JobId) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = swept.insert(job);
        let unsettled: BTreeSet<JobId> =
            self.read(|state| state.unsettled_writes().map(|(job, _)| job).collect());
        swept.retain(|job| unsettled.contains(job));
        drop(swept);
        if is_new {
            self.tell_progress();
        }
    }

    /// Waits, while this replica leads, until it has looked once after everything that ended statements have staged. A
    /// process that ends right after such a statement leaves nothing behind then.
    pub(crate) async fn first_sweeps(&self) {
        let mut progress = self.progress();
        loop {
            let is_swept = self.read(|state| {
                let swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
                let is_swept = |phase| !matches!(phase, WritePhase::Sweeping { .. });
                state.unsettled_writes().all(|(job, write)| is_swept(write.phase) || swept.contains(&job))
            });
            if is_swept || !self.serves() || progress.changed().await.is_err() {
                return;
            }
        }
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<JobId, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a watcher of the job until the guard is dropped.
    pub(crate) fn watch(self: &Arc<Self>, job: JobId) -> WatchGuard {
        let now = self.env.clock.now();
        self.watched().entry(job).or_insert(Watched { watchers: 0, since: now }).watchers += 1;
        WatchGuard { shared: Arc::clone(self), job }
    }

    /// Whoever watched may have been unable to: nobody counts as away from before now.
    pub(crate) fn excuse_watchers(&self) {
        self.watched().retain(|_, seen| seen.watchers > 0);
    }

    /// Jobs that have not ended and that nobody has watched for as long as they allow, ascending by submission.
    pub(crate) fn unwatched(&self) -> Vec<(JobId, u64)> {
        let now = self.env.clock.now();
        self.read(|state| {
            let mut watched = self.watched();
            watched.retain(|job, seen| {
                seen.watchers > 0 || state.job(*job).is_some_and(|job| !job.status.is_ended())
            });
            let may_be_cancelled = |job: &&Job| {
                !job.status.is_ended() && job.cancel_when_unwatched_ms > 0 && !state.is_publishing(job.id)
            };
            let limited = state.active_jobs().filter(may_be_cancelled);
            let expired = limited.filter_map(|job| {
                let seen = watched.entry(job.id).or_insert(Watched { watchers: 0, since: now });
                let limit_ms = job.cancel_when_unwatched_ms;
                let unwatched = seen.watchers == 0 && now - seen.since >= Duration::from_millis(limit_ms);
                unwatched.then_some((job.id, limit_ms))
            });
            expired.collect()
        })
    }
}

/// See [`Shared::watch`].
pub(crate) struct WatchGuard {
    shared: Arc<Shared>,
    job: JobId,
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        let now = self.shared.env.clock.now();
        if let Some(seen) = self.shared.watched().get_mut(&self.job) {
            seen.watchers = seen.watchers.saturating_sub(1);
            seen.since = now;
        }
    }
}
