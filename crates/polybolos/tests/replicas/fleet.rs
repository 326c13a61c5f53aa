//! Scheduler replicas and executors of one cluster, and the commands that talk to them.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use futures::future::join_all;
use polybolos::Client;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    node::Node,
    probe::{self, Hashes},
    support::{Ended, free_address, run},
};

/// Longest time until somebody leads, or until replicas that can reach each other agree.
const SETTLE_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

pub(crate) struct Fleet {
    pub(crate) schedulers: Vec<Node>,
    pub(crate) executors: Vec<Node>,
    pub(crate) folder: TempDir,
}

impl Fleet {
    /// Replicas 1, 2, … and executors of one slot, none of them started.
    pub(crate) fn plan(schedulers: u64, executors: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("logs")).unwrap();
        let members: BTreeMap<u64, String> = (1..=schedulers).map(|id| (id, free_address())).collect();
        let mut fleet = Self { schedulers: Vec::new(), executors: Vec::new(), folder };
        for id in members.keys() {
            let node = fleet.scheduler(*id, &members);
            fleet.schedulers.push(node);
        }
        for number in 1..=executors {
            let node = fleet.executor(&format!("e{number}"));
            fleet.executors.push(node);
        }
        fleet
    }

    /// All are started, somebody leads, and every executor is registered.
    pub(crate) async fn start(schedulers: u64, executors: usize) -> Self {
        let mut fleet = Self::plan(schedulers, executors);
        fleet.start_all().await;
        fleet
    }

    pub(crate) async fn start_all(&mut self) {
        for node in self.schedulers.iter_mut().chain(&mut self.executors) {
            node.spawn();
        }
        for node in self.schedulers.iter_mut().chain(&mut self.executors) {
            node.says("listening on").await;
        }
        let leader = self.leader().await;
        let started = Instant::now();
        // A new cluster has its name a moment after its first leader.
        while probe::stale_status(&self.schedulers[leader].address)
            .await
            .is_none_or(|s| s.cluster_id.is_empty())
        {
            assert!(started.elapsed() < SETTLE_DEADLINE, "the cluster gets no name");
            sleep(POLL).await;
        }
        self.live_executors(self.executors.len()).await;
    }

    /// One more replica, not started; `members` are the value of its `--cluster`.
    pub(crate) fn scheduler(&self, id: u64, members: &BTreeMap<u64, String>) -> Node {
        let list: Vec<String> = members.iter().map(|(id, at)| format!("{id}={at}")).collect();
        let (address, dir) = (members[&id].clone(), self.folder.path().join(format!("scheduler-{id}")));
        let args = ["scheduler", "--id", &id.to_string(), "--listen", &address, "--cluster", &list.join(",")];
        let args = args.into_iter().chain(["--data-dir", dir.to_str().unwrap()]).map(str::to_owned).collect();
        Node::new(format!("scheduler-{id}"), address, dir, args, &self.logs())
    }

    fn executor(&self, name: &str) -> Node {
        let (address, dir) = (free_address(), self.folder.path().join(name));
        let (schedulers, work) = (self.addresses(), dir.to_str().unwrap());
        let named = ["executor", "--id", name, "--schedulers", &schedulers, "--listen", &address];
        let sized = ["--slots", "1", "--memory", "1GiB", "--work-dir", work];
        let args = named.into_iter().chain(sized).map(str::to_owned).collect();
        Node::new(name.to_owned(), address, dir, args, &self.logs())
    }

    fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    pub(crate) fn members(&self) -> BTreeMap<u64, String> {
        (1..).zip(self.schedulers.iter().map(|node| node.address.clone())).collect()
    }

    /// Of all replicas, as `--schedulers` takes them.
    pub(crate) fn addresses(&self) -> String {
        let addresses: Vec<&str> = self.schedulers.iter().map(|node| node.address.as_str()).collect();
        addresses.join(",")
    }

    pub(crate) fn client(&self) -> Client {
        let addresses = self.schedulers.iter().map(|node| node.address.clone()).collect();
        Client::connect(addresses, probe::env()).unwrap()
    }

    /// Runs a command against this cluster.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        run(&[args, &["--schedulers", &self.addresses()]].concat())
    }

    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> Ended {
        self.run(&["sql", "--format", "csv", "-c", sql])
    }

    /// Position of the running replica that leads and has its majority's word for it.
    pub(crate) async fn leader(&self) -> usize {
        let started = Instant::now();
        loop {
            if let Some((at, _)) = self.leader_now().await {
                return at;
            }
            assert!(started.elapsed() < SETTLE_DEADLINE, "nobody leads after {SETTLE_DEADLINE:?}");
            sleep(POLL).await;
        }
    }

    /// The leader with the highest term, and that term: one that was paused may not know yet that it was deposed.
    pub(crate) async fn leader_now(&self) -> Option<(usize, u64)> {
        let running = self.schedulers.iter().enumerate().filter(|(_, node)| node.is_running());
        let asked = running.map(|(at, node)| async move {
            let answer = probe::leadership(&node.address).await?;
            answer.is_self.then_some((at, answer.term))
        });
        join_all(asked).await.into_iter().flatten().max_by_key(|(_, term)| *term)
    }

    pub(crate) async fn live_executors(&self, count: usize) {
        let started = Instant::now();
        loop {
            let status = self.client().status().await;
            let live =
                status.iter().flat_map(|status| &status.executors).filter(|e| e.state == "live").count();
            if live == count {
                return;
            }
            assert!(started.elapsed() < SETTLE_DEADLINE, "{live} of {count} executors are live: {status:#?}");
            sleep(POLL).await;
        }
    }

    /// Waits until all running replicas have shown the same applied index, with the same hash.
    pub(crate) async fn agree(&self) {
        let running: Vec<&Node> = self.schedulers.iter().filter(|node| node.is_running()).collect();
        let (started, mut hashes) = (Instant::now(), Hashes::default());
        loop {
            for row in
                join_all(running.iter().map(|node| probe::own_row(&node.address))).await.into_iter().flatten()
            {
                hashes.note(&row);
            }
            if hashes.common(running.len()).is_some() {
                return;
            }
            assert!(started.elapsed() < SETTLE_DEADLINE, "the replicas do not come together: {hashes:#?}");
            sleep(POLL).await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in self.schedulers.iter().chain(&self.executors) {
            let state = if node.is_running() { "running" } else { "not running" };
            eprintln!(
                "\n--- {} at {}, {state}; the end of its log:\n{}",
                node.name,
                node.address,
                node.tail()
            );
        }
    }
}
