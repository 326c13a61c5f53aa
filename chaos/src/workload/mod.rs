//! Clients that work while things go wrong. Each keeps to one kind of work, with connections of its own, and records what it
//! does and sees.

mod catalogue;
mod crowd;
mod jobs;
mod rows;
mod standing;
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

pub use crowd::CrowdToll;
pub use jobs::{Statement, small_query};
pub use rows::{digest, texts};
pub(crate) use standing::NON_READER;
pub use tpch::Answers;

use crate::{
    history::{Process, Recorder},
    hostile::{self, Idle, Press, Target, Tolls},
    journal::{Journal, What},
    os::{Clock, fork},
    schedule::Workload,
};
use crowd::Crowd;

/// What all clients share.
#[derive(Clone)]
pub struct Scene {
    pub addresses: Vec<String>,
    pub env: Env,
    pub recorder: Arc<Recorder>,
    pub clock: Clock,
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

/// The clients at work, and what comes of those that press.
pub struct Clients {
    /// Empty when all have ended, after `stop`.
    pub all: JoinSet<()>,
    tolls: Arc<Tolls>,
    crowd: Option<Arc<Crowd>>,
    idle: Option<(Arc<Idle>, u32)>,
}

/// So many of the idle connections have to be there at one moment.
const IDLE_PERCENT: u64 = 90;

impl Clients {
    /// Writes down what came of load and hostile input, once all have ended.
    pub fn tell(&self, journal: &Journal) {
        for (kind, toll) in self.tolls.all() {
            let acted = match (kind, &self.idle) {
                (hostile::IDLE | hostile::SILENT, Some((idle, count))) => {
                    standing::most(idle) * 100 >= u64::from(*count) * IDLE_PERCENT
                }
                (standing::NON_READER, _) => toll.ends.contains_key(hostile::ANSWERED),
                _ => toll.refused > 0,
            };
            journal.note(What::Pressed { kind: kind.to_owned(), acted, toll });
        }
        if let Some(crowd) = &self.crowd {
            journal.note(What::Crowd { toll: crowd.toll() });
        }
    }
}

/// Starts those who press: a crowd, non-readers, idle connections, hostile clients.
async fn press(scene: &Scene, workload: &Workload, clients: &mut Clients) -> Result<(), ClientError> {
    let Workload { crowd, crowd_queries, non_readers, idle_connections, hostile, .. } = *workload;
    if crowd > 0 {
        let shared = Crowd::new(crowd, crowd_queries);
        for number in 1..=crowd {
            let worker = Worker::new(scene, "crowd", number)?;
            clients.all.spawn(crowd::run(worker, Arc::clone(&shared)));
        }
        clients.crowd = Some(shared);
    }
    for number in 1..=non_readers {
        let worker = Worker::new(scene, "non-reader", number)?;
        clients.all.spawn(standing::unread(worker, Arc::clone(&clients.tolls)));
    }
    if idle_connections == 0 && hostile == 0 {
        return Ok(());
    }
    let client = scene.client()?;
    let targets: Vec<Target> = standing::targets(&client).await?;
    if idle_connections > 0 {
        let tolls = Arc::clone(&clients.tolls);
        let idle = standing::idle(scene, &targets, idle_connections, &tolls, &mut clients.all);
        clients.idle = Some((idle, idle_connections));
    }
    if hostile > 0 {
        let press = Press::new(targets, scene, Arc::clone(&clients.tolls));
        let press = press.map_err(|what| ClientError::Protocol { what })?;
        hostile::start(&Arc::new(press), &client, hostile, &mut clients.all);
    }
    Ok(())
}

/// Starts all clients.
///
/// # Errors
/// There is no address, or the cluster does not say what nodes it has.
pub async fn start(scene: &Scene, workload: &Workload) -> Result<Clients, ClientError> {
    let (all, tolls) = (JoinSet::new(), Arc::default());
    let mut started = Clients { all, tolls, crowd: None, idle: None };
    press(scene, workload, &mut started).await?;
    let clients = &mut started.all;
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
    Ok(started)
}
