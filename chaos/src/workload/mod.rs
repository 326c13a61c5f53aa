//! Clients that work while things go wrong. Each keeps to one kind of work, with connections of its own, and records what it
//! does and sees.

mod catalogue;
mod jobs;
mod rows;
mod streams;
mod tpch;
mod writes;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use polybolos_client::{Client, ClientError};
use polybolos_env::Env;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{sync::watch, task::JoinSet, time::sleep};

pub use jobs::{Statement, small_query};
pub use rows::{digest, texts};
pub use tpch::Answers;

use crate::{
    history::{Process, Recorder},
    os::fork,
    schedule::Workload,
};

/// What all clients share.
#[derive(Clone)]
pub struct Scene {
    pub addresses: Vec<String>,
    pub env: Env,
    pub recorder: Arc<Recorder>,
    pub seed: u64,
    /// True when they have to end.
    pub stop: watch::Receiver<bool>,
    pub pause_ms: u64,
    /// Where tables of files are, if all nodes see it.
    pub shared: Option<PathBuf>,
    pub answers: Option<Arc<Answers>>,
}

/// One client.
struct Worker {
    scene: Scene,
    client: Client,
    process: Process,
    random: StdRng,
}

impl Worker {
    fn new(scene: &Scene, kind: &str, number: u32) -> Result<Self, ClientError> {
        Ok(Self {
            client: scene.client()?,
            process: scene.recorder.process(),
            random: StdRng::seed_from_u64(fork(scene.seed, &format!("{kind} {number}"))),
            scene: scene.clone(),
        })
    }

    /// Waits a little; false when it is time to end.
    async fn goes_on(&mut self) -> bool {
        let pause = self.random.random_range(0..=self.scene.pause_ms.max(1) * 2);
        let mut stop = self.scene.stop.clone();
        tokio::select! {
            () = sleep(Duration::from_millis(pause)) => {}
            // The sender outlives the clients.
            _ = stop.wait_for(|stop| *stop) => {}
        }
        !*self.scene.stop.borrow()
    }
}

impl Scene {
    /// # Errors
    /// There is no address.
    pub fn client(&self) -> Result<Client, ClientError> {
        Client::connect(self.addresses.clone(), self.env.clone())
    }

    pub fn shared(&self) -> Option<&Path> {
        self.shared.as_deref()
    }
}

/// Makes the tables that the clients need, before anything goes wrong.
///
/// # Errors
/// The cluster refuses.
pub async fn prepare(scene: &Scene, workload: &Workload) -> Result<(), ClientError> {
    let client = scene.client()?;
    if let Some(answers) = scene.answers.as_ref().filter(|_| workload.tpch > 0) {
        answers.register(&client).await?;
    }
    if let Some(shared) = scene.shared().filter(|_| workload.writes > 0) {
        for number in 1..=workload.writes {
            writes::create(&client, shared, number).await?;
        }
    }
    Ok(())
}

/// Starts all clients. The set is empty when they have ended, after `stop`.
///
/// # Errors
/// There is no address.
pub fn start(scene: &Scene, workload: &Workload) -> Result<JoinSet<()>, ClientError> {
    let mut clients = JoinSet::new();
    for number in 1..=workload.jobs {
        clients.spawn(jobs::run(
            Worker::new(scene, "jobs", number)?,
            scene.client()?,
            scene.recorder.process(),
        ));
    }
    for number in 1..=workload.cancels {
        clients.spawn(jobs::cancel(Worker::new(scene, "cancels", number)?));
    }
    for number in 1..=workload.catalogue {
        clients.spawn(catalogue::run(Worker::new(scene, "catalogue", number)?));
    }
    for number in 1..=workload.streams {
        clients.spawn(streams::run(Worker::new(scene, "streams", number)?));
    }
    if let Some(answers) = &scene.answers {
        for number in 1..=workload.tpch {
            clients.spawn(tpch::run(Worker::new(scene, "tpch", number)?, Arc::clone(answers)));
        }
    }
    if scene.shared.is_some() {
        for number in 1..=workload.writes {
            clients.spawn(writes::run(Worker::new(scene, "writes", number)?, number));
        }
    }
    Ok(clients)
}
