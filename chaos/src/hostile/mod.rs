//! Clients that mean no good: they send to every port what no server should take, while honest clients work.
//!
//! ```text
//!   wire (what proto/ says) ─▶ message (random, malformed, huge) ─▶ calls ──────┐
//!   frames (bytes and HTTP/2 by hand) ──────────────────────────────────────────┼─▶ a node ─▶ Ending ─▶ Tolls ─▶ events.jsonl
//!   statements (SQL and plans, nested and endless) ─▶ the honest client ────────┘
//! ```
//!
//! Each try has a deadline. What counts is how it ended: refused by the server's own word or by a closed connection, answered
//! where that is right, or not at all. What is a right request by its form is not sent, if a cluster without passwords would
//! have to obey it: nobody here removes replicas or registers as an executor.

mod calls;
mod frames;
mod message;
mod statements;
mod tolls;
mod wire;

use std::{sync::Arc, time::Duration};

use polybolos_client::Client;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::{task::JoinSet, time::timeout};

pub(crate) use frames::{Idle, hold};
pub(crate) use tolls::ANSWERED;
pub(crate) use tolls::Ending;
pub use tolls::{Toll, Tolls};
pub(crate) use wire::Server;
use wire::Wire;

use crate::{os::fork, workload::Scene};

/// A try that has no end by then hangs. A server pings a silent connection after 5 s and closes it 5 s later.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// The same for a statement: schedulers give planning up after 60 s.
pub const STATEMENT_DEADLINE: Duration = Duration::from_secs(75);

/// Every kind of hostile input, by the name that verdicts have for it.
pub const KINDS: [&str; 15] = [
    "random-bytes",
    "half-a-preface",
    "garbage-frames",
    "rapid-reset",
    "endless-headers",
    "lying-length",
    "deaf",
    "malformed",
    "random-fields",
    "empty",
    "huge-repeated",
    "oversized",
    "nested-sql",
    "nested-plan",
    "foreign-ticket",
];

/// Connections that ask for nothing: those that answer pings, and those that never say a word.
pub(crate) const IDLE: &str = "idle";
pub(crate) const SILENT: &str = "silent";

/// A node that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    pub address: String,
    pub is_executor: bool,
}

impl Target {
    fn server(&self) -> Server {
        if self.is_executor { Server::Executor } else { Server::Scheduler }
    }
}

/// What hostile clients share.
pub(crate) struct Press {
    targets: Vec<Target>,
    scene: Scene,
    tolls: Arc<Tolls>,
    wire: Wire,
}

impl Press {
    /// # Errors
    /// The description of the wire can't be read.
    pub(crate) fn new(targets: Vec<Target>, scene: &Scene, tolls: Arc<Tolls>) -> Result<Self, String> {
        Ok(Self { targets, scene: scene.clone(), tolls, wire: Wire::read()? })
    }
}

/// Starts `count` of them. Each goes round all kinds, from one of its own on, until it is told to stop.
pub(crate) fn start(press: &Arc<Press>, client: &Client, count: u32, clients: &mut JoinSet<()>) {
    for number in 0..count {
        let (press, client) = (Arc::clone(press), client.clone());
        clients.spawn(async move { run(&press, &client, number).await });
    }
}

async fn run(press: &Press, client: &Client, number: u32) {
    let mut random = StdRng::seed_from_u64(fork(press.scene.seed, &format!("hostile {number}")));
    let kinds = KINDS.into_iter().cycle().skip(number as usize * 5 % KINDS.len());
    for kind in kinds {
        one(press, client, kind, &mut random).await;
        let pause = Duration::from_millis(random.random_range(0..=press.scene.pause_ms.max(1) * 2));
        let mut stop = press.scene.stop.clone();
        // The sender outlives the clients.
        if timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}

/// One try of a kind at one node.
async fn one(press: &Press, client: &Client, kind: &'static str, random: &mut StdRng) {
    match kind {
        "nested-sql" => {
            let shape = statements::sql(random);
            statements::run(press, client, kind, shape).await;
        }
        "nested-plan" => {
            let shape = statements::plan(random);
            statements::run(press, client, kind, shape).await;
        }
        _ => {
            let fits = |target: &&Target| kind != "foreign-ticket" || target.is_executor;
            let targets: Vec<&Target> = press.targets.iter().filter(fits).collect();
            let Some(target) = targets.choose(random) else { return };
            match frames::of(kind, target.server(), random) {
                Some(attack) => frames::run(press, target, kind, attack).await,
                None => calls::run(press, target, kind, random).await,
            }
        }
    }
}

/// Waits for `ending` until `deadline`.
async fn within(deadline: Duration, ending: impl Future<Output = Ending>) -> Ending {
    timeout(deadline, ending).await.unwrap_or(Ending::Hung)
}
