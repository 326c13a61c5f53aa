//! Several replicas in one process, over keys and a network in memory, in paused time.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use polybolos_env::{Cpu, CpuTask, Env, Random, grpc};
use polybolos_model::{ReplicaId, Term};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{entry, net::TestNet, value};
use crate::{
    DiskState, Leadership, Log, OpenError, ProposeError, ReplicaConfig, kv::memory::MemoryKv, open, read_with,
};

/// Longest wait for anything, in simulated time.
const DEADLINE: Duration = Duration::from_secs(30);

struct SameThread;

impl Cpu for SameThread {
    fn spawn(&self, work: BoxFuture<'static, ()>) -> CpuTask {
        CpuTask::new(tokio::spawn(work))
    }
}

/// The same numbers in each run.
struct Counted(AtomicU64);

impl Random for Counted {
    fn next_u64(&self) -> u64 {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

pub(super) fn address(id: u64) -> String {
    format!("h{id}:7600")
}

pub(super) fn addresses(ids: &[u64]) -> BTreeMap<ReplicaId, String> {
    ids.iter().map(|id| (ReplicaId(*id), address(*id))).collect()
}

/// A replica that runs.
pub(super) struct Running {
    pub(super) log: Arc<dyn Log>,
    server: JoinHandle<()>,
    pub(super) disk: watch::Sender<DiskState>,
}

/// A network, the disks of all replicas, and those replicas that run.
pub(super) struct Cluster {
    pub(super) net: Arc<TestNet>,
    pub(super) disks: BTreeMap<u64, Arc<MemoryKv>>,
    pub(super) running: BTreeMap<u64, Running>,
    random: u64,
}

impl Cluster {
    pub(super) fn new() -> Self {
        Self { net: TestNet::new(), disks: BTreeMap::new(), running: BTreeMap::new(), random: 0 }
    }

    /// Three replicas, with a leader and a name.
    pub(super) async fn three() -> Self {
        let mut cluster = Self::new();
        for id in 1..=3 {
            cluster.start(id, &[1, 2, 3]).await.unwrap();
        }
        cluster.settled(&[1, 2, 3]).await;
        cluster
    }

    pub(super) fn config(&self, id: u64, members: &[u64]) -> ReplicaConfig {
        ReplicaConfig::new(ReplicaId(id), addresses(members), PathBuf::from("/data"))
    }

    pub(super) async fn start(&mut self, id: u64, members: &[u64]) -> Result<(), OpenError> {
        self.start_with(self.config(id, members)).await
    }

    pub(super) async fn start_with(&mut self, config: ReplicaConfig) -> Result<(), OpenError> {
        let id = config.id.0;
        let kv = Arc::clone(self.disks.entry(id).or_default());
        self.random += 1_000_000;
        let env = Env {
            net: self.net.host(&address(id)),
            random: Arc::new(Counted(AtomicU64::new(self.random + id))),
            cpu: Arc::new(SameThread),
            ..super::env()
        };
        let listener = env.net.listen(&address(id)).await.unwrap();
        let (disk, state) = watch::channel(DiskState::Ok);
        let (log, service) = open::start(kv, state, config, address(id), &env).await?;
        let serve = grpc::server().add_service(service).serve_with_incoming(grpc::incoming(listener));
        let server = tokio::spawn(async move { drop(serve.await) });
        self.running.insert(id, Running { log, server, disk });
        Ok(())
    }

    /// As SIGKILL would: nothing is handed over, what was not written is lost.
    pub(super) async fn kill(&mut self, id: u64) {
        self.net.kill(&address(id));
        let running = self.running.remove(&id).unwrap();
        running.server.abort();
        // Without a network it hands nothing over; what it had begun to write ends here.
        let others: Vec<String> = (1..9).map(address).collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        self.net.isolate(&address(id), &others);
        running.log.shutdown().await;
        self.net.mend();
    }

    pub(super) fn log(&self, id: u64) -> &dyn Log {
        self.running[&id].log.as_ref()
    }

    pub(super) fn leadership(&self, id: u64) -> Leadership {
        self.log(id).leadership().borrow().clone()
    }

    /// The one replica of `ids` that leads and can commit, once all of them agree on it.
    pub(super) async fn leader(&self, ids: &[u64]) -> u64 {
        self.until("a leader", || {
            let leader = ids.iter().copied().find(|id| self.leadership(*id).serves())?;
            let agree = ids.iter().all(|id| {
                let known = self.leadership(*id);
                known.leader.is_some_and(|(id, _)| id.0 == leader)
            });
            agree.then_some(leader)
        })
        .await
    }

    /// A leader, a name, and every replica registered.
    pub(super) async fn settled(&self, ids: &[u64]) -> u64 {
        let leader = self.leader(ids).await;
        self.until("the register", || {
            ids.iter()
                .all(|id| {
                    read_with(self.log(*id), |state| {
                        !state.cluster_id().is_empty()
                            && ids.iter().all(|id| state.replica(ReplicaId(*id)).is_some())
                    })
                })
                .then_some(())
        })
        .await;
        leader
    }

    pub(super) async fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let found = timeout(DEADLINE, async {
            loop {
                if let Some(found) = look() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => {
                let outlines: Vec<_> = self.running.values().map(|one| one.log.outline()).collect();
                panic!("no {what} within {DEADLINE:?}: {outlines:#?}")
            }
        }
    }

    /// Commits `text` by whoever leads among `ids`, trying again as a client would.
    pub(super) async fn set(&self, ids: &[u64], text: &str) -> u64 {
        loop {
            let leader = self.leader(ids).await;
            let term = self.leadership(leader).term;
            match self.log(leader).propose(entry(term, text)).await {
                Ok(committed) => {
                    assert!(committed.applied.outcomes.iter().all(Result::is_ok), "{committed:?}");
                    return committed.index;
                }
                Err(ProposeError::NotLeader { .. } | ProposeError::Unknown { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until each of `ids` has applied the entry, and they all hold the same state.
    pub(super) async fn agree(&self, ids: &[u64], index: u64) {
        self.until("agreement", || {
            let seen: Vec<(u64, u64)> = ids
                .iter()
                .map(|id| (*self.log(*id).applied().borrow(), read_with(self.log(*id), |state| state.hash())))
                .collect();
            (seen.iter().all(|(applied, _)| *applied >= index)
                && seen.windows(2).all(|pair| pair[0] == pair[1]))
            .then_some(())
        })
        .await;
    }

    pub(super) fn value(&self, id: u64) -> Option<String> {
        value(self.log(id))
    }

    pub(super) fn term(&self, id: u64) -> Term {
        self.leadership(id).term
    }

    /// Why the replica refuses to go on.
    pub(super) async fn refusal(&self, id: u64) -> String {
        let fatal = self.until("refusal", || self.log(id).fatal().borrow().clone()).await;
        assert!(fatal.refused, "{fatal}");
        fatal.to_string()
    }
}

#[tokio::test(start_paused = true)]
async fn three_new_replicas_form_one_cluster_and_agree() {
    let cluster = Cluster::three().await;
    let last = cluster.set(&[1, 2, 3], "one").await;
    cluster.agree(&[1, 2, 3], last).await;
    let names: Vec<String> =
        (1..=3).map(|id| read_with(cluster.log(id), |state| state.cluster_id().to_owned())).collect();
    assert_eq!(names[0].len(), 32);
    assert!(names.iter().all(|name| *name == names[0]));
    let leader = cluster.leader(&[1, 2, 3]).await;
    let seen = cluster.log(leader).describe().await;
    let roles: Vec<String> = seen.iter().map(|replica| replica.role.to_string()).collect();
    assert_eq!(roles.iter().filter(|role| *role == "leader").count(), 1, "{roles:?}");
    assert_eq!(roles.iter().filter(|role| *role == "follower").count(), 2, "{roles:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_cluster_waits_for_all_of_its_replicas() {
    let mut cluster = Cluster::new();
    cluster.start(1, &[1, 2, 3]).await.unwrap();
    cluster.start(3, &[1, 2, 3]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.leadership(1).leader, None);
    assert!(cluster.log(1).outline().contains("joining"), "{}", cluster.log(1).outline());
    cluster.start(2, &[1, 2, 3]).await.unwrap();
    cluster.settled(&[1, 2, 3]).await;
    let last = cluster.set(&[1, 2, 3], "all three").await;
    cluster.agree(&[1, 2, 3], last).await;
}

#[tokio::test(start_paused = true)]
async fn newcomers_do_not_take_the_place_of_a_cluster_that_is_away() {
    let mut cluster = Cluster::new();
    cluster.start(1, &[1]).await.unwrap();
    cluster.settled(&[1]).await;
    cluster.set(&[1], "kept").await;
    cluster.kill(1).await;
    cluster.start(2, &[1, 2, 3]).await.unwrap();
    cluster.start(3, &[1, 2, 3]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    cluster.start(1, &[1, 2, 3]).await.unwrap();
    cluster.leader(&[1]).await;
    for id in [2, 3] {
        cluster.log(1).replicas().unwrap().add(ReplicaId(id), address(id)).await.unwrap();
    }
    let last = cluster.set(&[1, 2, 3], "grown").await;
    cluster.agree(&[1, 2, 3], last).await;
}
