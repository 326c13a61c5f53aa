//! A relay on loopback in front of each node. It finds out who connects, and holds back, delays or cuts what the matrix says.
//!
//! What it can't do: lose single packets, and refuse connections by silence. A connection that should not come about is
//! accepted and then carries nothing.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::sleep,
};

use super::{
    CLIENTS, Matrix, Rule, Toll,
    owner::{Owners, Processes},
};
use crate::os::{OsError, fork};

const LOOPBACK: &str = "127.0.0.1:0";
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks of one direction of a connection that are under way; beyond it the sender has to wait.
const CHUNKS: usize = 64;
/// A node that is dead is dialled so long before its caller is turned away.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

struct Shared {
    matrix: watch::Sender<Matrix>,
    processes: Processes,
    owners: Owners,
    held: AtomicU64,
    shaped: AtomicU64,
    cut: AtomicU64,
    seed: u64,
    connections: AtomicU64,
}

struct Relay {
    address: SocketAddr,
    real: SocketAddr,
    accepting: JoinHandle<()>,
}

pub struct Proxies {
    shared: Arc<Shared>,
    relays: BTreeMap<usize, Relay>,
}

impl Proxies {
    /// # Errors
    /// No port can be had.
    pub async fn make(hosts: usize, seed: u64) -> Result<Self, OsError> {
        let processes = Processes::default();
        let shared = Shared {
            matrix: watch::Sender::new(Matrix::new()),
            owners: Owners::new(Arc::clone(&processes)),
            processes,
            held: AtomicU64::new(0),
            shaped: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            seed,
            connections: AtomicU64::new(0),
        };
        let mut made = Self { shared: Arc::new(shared), relays: BTreeMap::new() };
        for _ in 0..hosts {
            made.add_host().await?;
        }
        Ok(made)
    }

    pub(super) async fn add_host(&mut self) -> Result<usize, OsError> {
        let host = self.relays.len() + 1;
        let failed = |source| OsError::File { action: "listening at", path: LOOPBACK.into(), source };
        let listener = TcpListener::bind(LOOPBACK).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let real = free_address().await.map_err(failed)?;
        let accepting = tokio::spawn(accept(listener, host, real, Arc::clone(&self.shared)));
        self.relays.insert(host, Relay { address, real, accepting });
        Ok(host)
    }

    pub(super) fn address(&self, host: usize) -> String {
        self.relays.get(&host).map(|relay| relay.address.to_string()).unwrap_or_default()
    }

    pub(super) fn real_address(&self, host: usize) -> String {
        self.relays.get(&host).map(|relay| relay.real.to_string()).unwrap_or_default()
    }

    pub(super) fn is_process(&self, host: usize, process: u32) {
        self.shared.processes.lock().unwrap_or_else(PoisonError::into_inner).insert(host, process);
    }

    pub(super) fn apply(&self, matrix: &Matrix) {
        self.shared.matrix.send_replace(matrix.clone());
    }

    pub(super) fn toll(&self) -> Toll {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        Toll { dropped: read(&shared.held), shaped: read(&shared.shaped), cut: read(&shared.cut) }
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.relays.values().for_each(|relay| relay.accepting.abort());
    }
}

/// Free now; that another process takes it before its node does is unlikely, and shows.
async fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(LOOPBACK).await?.local_addr()
}

async fn accept(listener: TcpListener, host: usize, real: SocketAddr, shared: Arc<Shared>) {
    loop {
        let Ok((inside, peer)) = listener.accept().await else {
            // Too many files are open, or the caller has gone. The next one may do better.
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let from = match inside.local_addr() {
                Ok(local) => shared.owners.of(peer, local).await.unwrap_or(CLIENTS),
                Err(_) => CLIENTS,
            };
            // A caller of a dead node sees its connection closed.
            let dialled = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(real)).await;
            if let Ok(Ok(outside)) = dialled {
                relay(inside, outside, from, host, shared).await;
            }
        });
    }
}

/// Until both ways have ended or the connection is cut.
async fn relay(inside: TcpStream, outside: TcpStream, from: usize, to: usize, shared: Arc<Shared>) {
    // Without it small messages wait for each other; a failure costs speed only.
    let _fast = (inside.set_nodelay(true), outside.set_nodelay(true));
    let number = shared.connections.fetch_add(1, Ordering::Relaxed);
    let (inside_read, inside_write) = inside.into_split();
    let (outside_read, outside_write) = outside.into_split();
    let random = |way: &str| StdRng::seed_from_u64(fork(shared.seed, &format!("connection {number} {way}")));
    let cut = Notify::new();
    let there = Pump { pair: (from, to), shared: &shared, cut: &cut };
    let back = Pump { pair: (to, from), shared: &shared, cut: &cut };
    tokio::select! {
        () = cut.notified() => {}
        _ = async {
            tokio::join!(
                there.run(inside_read, outside_write, random("there")),
                back.run(outside_read, inside_write, random("back")),
            )
        } => {}
    }
}

/// One direction of a connection.
struct Pump<'a> {
    /// Sender and receiver.
    pair: (usize, usize),
    shared: &'a Shared,
    cut: &'a Notify,
}

impl Pump<'_> {
    async fn run(&self, from: OwnedReadHalf, to: OwnedWriteHalf, random: StdRng) {
        let (sender, receiver) = mpsc::channel(CHUNKS);
        tokio::join!(self.read(from, sender, random), self.write(to, receiver));
    }

    async fn read(&self, mut from: OwnedReadHalf, to: mpsc::Sender<(Instant, Vec<u8>)>, mut random: StdRng) {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut free_at = Instant::now();
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let rule = self.rule();
            if rule.cut > 0.0 && random.random_bool(rule.cut.clamp(0.0, 1.0)) {
                self.shared.cut.fetch_add(1, Ordering::Relaxed);
                self.cut.notify_one();
                return;
            }
            let now = Instant::now();
            let mut due = now + Duration::from_millis(rule.latency_ms);
            if let Some(kbit) = rule.kbit {
                let takes = Duration::from_secs_f64(count as f64 * 8.0 / (kbit.max(1) as f64 * 1_000.0));
                free_at = free_at.max(now) + takes;
                due = due.max(free_at);
            }
            if due > now {
                self.shared.shaped.fetch_add(count as u64, Ordering::Relaxed);
            }
            let chunk = buffer.get(..count).unwrap_or_default().to_vec();
            if to.send((due, chunk)).await.is_err() {
                return;
            }
        }
    }

    async fn write(&self, mut to: OwnedWriteHalf, mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>) {
        let mut changes = self.shared.matrix.subscribe();
        while let Some((due, chunk)) = chunks.recv().await {
            sleep(due.saturating_duration_since(Instant::now())).await;
            if self.rule().drop {
                self.shared.held.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                let passes = changes.wait_for(|matrix| !matrix.get(&self.pair).is_some_and(|rule| rule.drop));
                if passes.await.is_err() {
                    break;
                }
            }
            if to.write_all(&chunk).await.is_err() {
                // Or the sender would never hear that nobody listens any more.
                self.cut.notify_one();
                break;
            }
        }
        // The other side may be gone already.
        let _closed = to.shutdown().await;
    }

    fn rule(&self) -> Rule {
        self.shared.matrix.borrow().get(&self.pair).copied().unwrap_or_default()
    }
}
