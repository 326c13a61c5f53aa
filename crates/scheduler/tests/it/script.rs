//! A log under the test's hand: replicas that share one committed state, whatever the test says of who leads, who has
//! a majority, and what becomes of entries.

use std::{
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use polybolos_consensus::{
    Committed, ConfirmError, Fatal, Leadership, Log, ProposeError, ReplicaInfo, Replicas, ReplicasError, Role,
};
use polybolos_env::Env;
use polybolos_model::{ReplicaId, Term};
use polybolos_planner::Extensions;
use polybolos_scheduler::{LogKind, Scheduler, SchedulerConfig, SchedulerHandle};
use polybolos_state::{ClusterState, Command, Entry};
use tokio::sync::watch;

use crate::harness::{self, Place, Query};

/// What becomes of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Commit,
    /// Committed, and the leader does not learn of it.
    CommitUnseen,
    /// Not committed, and the leader does not know.
    Lose,
    /// Waits until the fate is another one or the replica leads no more.
    Hold,
}

/// What all replicas have.
pub(crate) struct Common {
    state: RwLock<ClusterState>,
    applied: watch::Sender<u64>,
    fate: watch::Sender<Fate>,
    /// Committed entries, in order.
    pub(crate) entries: Mutex<Vec<Entry>>,
    pub(crate) proposals: AtomicU64,
}

pub(crate) struct ScriptedLog {
    id: ReplicaId,
    common: Arc<Common>,
    leadership: watch::Sender<Leadership>,
    fatal: watch::Sender<Option<Fatal>>,
    pub(crate) age: Mutex<Option<Duration>>,
    pub(crate) confirms: AtomicU64,
    pub(crate) at_shutdown: Mutex<Option<BoxFuture<'static, ()>>>,
}

pub(crate) struct Replica {
    pub(crate) env: Env,
    pub(crate) address: String,
    pub(crate) query: Query,
    pub(crate) log: Arc<ScriptedLog>,
    handle: SchedulerHandle,
}

pub(crate) struct Cluster {
    pub(crate) common: Arc<Common>,
    pub(crate) replicas: Vec<Replica>,
}

impl Cluster {
    /// Nobody leads.
    pub(crate) async fn start(replicas: u64) -> Self {
        Self::start_in(ClusterState::new("scripted"), replicas).await
    }

    pub(crate) async fn start_in(state: ClusterState, replicas: u64) -> Self {
        let common = Arc::new(Common {
            state: RwLock::new(state),
            applied: watch::Sender::new(0),
            fate: watch::Sender::new(Fate::Commit),
            entries: Mutex::default(),
            proposals: AtomicU64::new(0),
        });
        let mut started = Vec::new();
        for id in 1..=replicas {
            started.push(Replica::start(ReplicaId(id), Arc::clone(&common)).await);
        }
        Self { common, replicas: started }
    }

    /// The replica at `index` leads from now on, and the others know.
    pub(crate) fn lead(&self, index: usize, term: u64) {
        let leader = &self.replicas[index];
        for replica in &self.replicas {
            replica.log.leadership.send_replace(Leadership {
                term: Term(term),
                leader: Some((leader.log.id, leader.address.clone())),
                is_self: replica.log.id == leader.log.id,
                has_quorum: replica.log.id == leader.log.id,
            });
        }
    }

    /// No replica knows of any leader, and the term is as before.
    pub(crate) fn depose(&self) {
        for replica in &self.replicas {
            let fall = |leads: &mut Leadership| (leads.leader, leads.is_self) = (None, false);
            replica.log.leadership.send_modify(fall);
        }
    }

    pub(crate) fn fate(&self, fate: Fate) {
        self.common.fate.send_replace(fate);
    }

    pub(crate) fn state<T>(&self, f: impl FnOnce(&ClusterState) -> T) -> T {
        f(&self.common.state.read().unwrap())
    }

    /// Puts commands into the log that no scheduler has proposed.
    pub(crate) fn apply(&self, at_ms: u64, commands: Vec<Command>) {
        let (version, term) = self.state(|state| (state.version(), state.term()));
        let applied = self.common.commit(Entry::new(version, term, at_ms, commands)).applied;
        assert!(applied.outcomes.iter().all(Result::is_ok), "{applied:?}");
    }

    /// Waits until the schedulers have proposed so many entries.
    pub(crate) async fn proposed(&self, count: u64) {
        let enough = async {
            while self.common.proposals.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), enough).await.expect("so many proposals");
    }

    pub(crate) fn proposals(&self) -> u64 {
        self.common.proposals.load(Ordering::Relaxed)
    }

    pub(crate) async fn stop(self) {
        for replica in self.replicas {
            replica.handle.shutdown().await;
        }
    }
}

impl Common {
    fn commit(&self, entry: Entry) -> Committed {
        let mut state = self.state.write().unwrap();
        let applied = state.apply(&entry);
        self.entries.lock().unwrap().push(entry);
        let index = *self.applied.borrow() + 1;
        self.applied.send_replace(index);
        Committed { index, applied }
    }
}

impl Replica {
    async fn start(id: ReplicaId, common: Arc<Common>) -> Self {
        let env = Env::production(2).unwrap();
        let log = Arc::new(ScriptedLog {
            id,
            common,
            leadership: watch::Sender::new(Leadership::default()),
            fatal: watch::Sender::new(None),
            age: Mutex::new(None),
            confirms: AtomicU64::new(0),
            at_shutdown: Mutex::new(None),
        });
        let given: Arc<dyn Log> = log.clone();
        let config = SchedulerConfig::new(id, "127.0.0.1:0", LogKind::Given(given));
        let handle = Scheduler::start(config, env.clone(), Extensions::default()).await.unwrap();
        let address = handle.address();
        let query = harness::query(&env, &address).await;
        Self { env, address, query, log, handle }
    }

    pub(crate) fn majority(&self, has_quorum: bool) {
        self.log.leadership.send_modify(|leadership| leadership.has_quorum = has_quorum);
    }

    pub(crate) async fn shutdown(self) {
        self.handle.shutdown().await;
    }
}

impl Place for Replica {
    fn env(&self) -> &Env {
        &self.env
    }

    fn address(&self) -> &str {
        &self.address
    }
}

#[async_trait]
impl Log for ScriptedLog {
    async fn propose(&self, entry: Entry) -> Result<Committed, ProposeError> {
        let (mut fate, mut leadership) = (self.common.fate.subscribe(), self.leadership.subscribe());
        self.common.proposals.fetch_add(1, Ordering::Relaxed);
        let now = leadership.borrow().clone();
        if !now.is_self {
            return Err(ProposeError::NotLeader { leader: now.leader });
        }
        loop {
            let unknown = ProposeError::Unknown { waited_ms: 1 };
            if !leadership.borrow().is_self {
                return Err(unknown);
            }
            let has_quorum = leadership.borrow_and_update().has_quorum;
            match *fate.borrow_and_update() {
                Fate::Commit if has_quorum => return Ok(self.common.commit(entry)),
                Fate::CommitUnseen => {
                    self.common.commit(entry);
                    return Err(unknown);
                }
                Fate::Lose => return Err(unknown),
                Fate::Commit | Fate::Hold => {}
            }
            tokio::select! {
                biased;
                _ = leadership.changed() => {}
                _ = fate.changed() => {}
            }
        }
    }

    fn read(&self, f: &mut dyn FnMut(&ClusterState)) {
        f(&self.common.state.read().unwrap());
    }

    async fn confirm(&self) -> Result<(), ConfirmError> {
        self.confirms.fetch_add(1, Ordering::Relaxed);
        let Leadership { leader, is_self, has_quorum, .. } = self.leadership.borrow().clone();
        match (is_self, has_quorum) {
            (true, true) => Ok(()),
            (true, false) => Err(ConfirmError::NoQuorum { waited_ms: 1 }),
            (false, _) => Err(ConfirmError::NotLeader { leader }),
        }
    }

    fn age(&self) -> Option<Duration> {
        *self.age.lock().unwrap()
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.common.applied.subscribe()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    async fn describe(&self) -> Vec<ReplicaInfo> {
        let leads = self.leadership.borrow().is_self;
        let role = if leads { Role::Leader } else { Role::Follower };
        let me = ReplicaInfo {
            id: self.id,
            role,
            is_voter: true,
            term: Term(4),
            committed_index: 7,
            applied_index: 7,
            version: 2,
            ..ReplicaInfo::default()
        };
        let behind = ReplicaInfo {
            id: ReplicaId(8),
            role: Role::Learner,
            committed_index: 5,
            applied_index: 4,
            disk: polybolos_consensus::DiskState::Full { free_bytes: 12 },
            ..ReplicaInfo::default()
        };
        // It has not heard of its fall yet.
        let zombie = ReplicaInfo { id: ReplicaId(9), role: Role::Leader, term: Term(3), ..behind.clone() };
        let gone = ReplicaInfo { id: ReplicaId(10), address: "gone:1".to_owned(), ..ReplicaInfo::default() };
        vec![me, behind, zombie, gone]
    }

    fn outline(&self) -> String {
        "replica 2 at b:1 is unreachable".to_owned()
    }

    fn replicas(&self) -> Option<&dyn Replicas> {
        Some(self)
    }

    fn fatal(&self) -> watch::Receiver<Option<Fatal>> {
        self.fatal.subscribe()
    }

    async fn shutdown(&self) {
        let work = self.at_shutdown.lock().unwrap().take();
        if let Some(work) = work {
            work.await;
        }
        self.leadership.send_modify(|leadership| (leadership.leader, leadership.is_self) = (None, false));
    }
}

/// Larger than two pieces.
pub(crate) fn backup() -> Vec<u8> {
    (0..2_500_000u32).map(|n| (n % 251) as u8).collect()
}

#[async_trait]
impl Replicas for ScriptedLog {
    async fn add(&self, id: ReplicaId, address: String) -> Result<(), ReplicasError> {
        match id.0 {
            1 => Err(ReplicasError::OtherAddress { id, address }),
            2 => Err(ReplicasError::Retired { id }),
            3 => Err(ReplicasError::NotCaughtUp { id, address, waited_ms: 1, state: "silent".to_owned() }),
            _ => Ok(()),
        }
    }

    async fn remove(&self, id: ReplicaId) -> Result<(), ReplicasError> {
        match id.0 {
            1 => Err(ReplicasError::LastVoter { id }),
            2 => Err(ReplicasError::UnderWay),
            3 => Err(ReplicasError::NotLeader { leader: Some((ReplicaId(4), "d:1".to_owned())) }),
            4 => Err(ReplicasError::Unknown { waited_ms: 1 }),
            _ => Ok(()),
        }
    }

    async fn transfer(&self, to: Option<ReplicaId>) -> Result<Leadership, ReplicasError> {
        let to = to.unwrap_or(ReplicaId(6));
        match to.0 {
            1 => Err(ReplicasError::NotAMember { id: to }),
            _ => Ok(Leadership {
                term: Term(5),
                leader: Some((to, "f:1".to_owned())),
                ..Leadership::default()
            }),
        }
    }

    async fn backup(&self) -> Result<Vec<u8>, ReplicasError> {
        Ok(backup())
    }
}
