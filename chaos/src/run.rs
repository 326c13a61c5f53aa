//! One run, from an empty folder to a verdict.
//!
//! ```text
//!   Schedule ─▶ probe the machine ─▶ Fleet ─▶ clients + nemesis + observer ─▶ heal ─▶ well? ─▶ clients end ─▶ at rest? ─▶ judge
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use polybolos_client::{Client, ClientError};
use polybolos_env::Env;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    cluster::{Fleet, FleetError, Plan, prefix, sweep},
    fault::Fault,
    history::Recorder,
    journal::{Journal, What},
    judge::{self, Verdict},
    memory::{Resident, Watched},
    nemesis::{Nemesis, Site},
    observer::{INTERVAL, Observer},
    os::{Clock, OsError, raise_descriptors},
    probe::{Links, Machine},
    rest::{at_rest, well},
    schedule::Schedule,
    theirs::Theirs,
    workload::{self, Answers, Scene},
};

/// A cluster that has just started.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Statements that write need this version of entries.
const WRITES_VERSION: u32 = 3;
/// Faults that are under way at the healing: an executor may be handing over.
const END_LIMIT: Duration = Duration::from_secs(200);
/// Clients go on so long after all is well, so that the report shows it.
const AFTER: Duration = Duration::from_secs(4);
/// A client that is told to end finishes what it does; its calls have deadlines of their own.
const CLIENTS_LIMIT: Duration = Duration::from_secs(180);

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Os(#[from] OsError),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error("the cluster refused: {0}")]
    Client(#[from] ClientError),
    #[error("{0} holds something; name a new or empty folder by --out")]
    Taken(PathBuf),
    #[error("the cluster was not ready within {START_LIMIT:?}: {0}")]
    NotReady(String),
    #[error("{0}")]
    Judge(String),
    #[error("interrupted")]
    Interrupted,
}

/// What to run, and on what.
pub struct Request {
    pub schedule: Schedule,
    pub folder: PathBuf,
    pub binary: PathBuf,
    /// Chosen by what the machine can and the faults need, if `None`.
    pub links: Option<Links>,
    pub mutant: Option<String>,
    /// A cluster that runs already.
    pub theirs: Option<Theirs>,
    /// A folder that the nodes of that cluster see at the same path.
    pub shared: Option<PathBuf>,
    pub quiet: bool,
}

/// What `report` has to know besides the events and the history: `run.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct About {
    pub scenario: String,
    pub seed: u64,
    pub heal_at_ms: u64,
    pub links: String,
    pub machine: Vec<String>,
    pub mutant: Option<String>,
    /// Kinds of faults, load and hostile input that have to act.
    pub required: Vec<String>,
    /// No node may have more memory.
    #[serde(default)]
    pub max_rss_mib: Option<u64>,
    /// Faults of the schedule that mean nothing here.
    pub left_out: Vec<String>,
}

/// Runs it, and judges what was seen.
///
/// # Errors
/// The run could not be had, which is no verdict.
pub async fn run(request: Request) -> Result<Verdict, RunError> {
    let folder = fresh(&request.folder)?;
    // Crowds and idle connections need thousands; where they can't be had, that shows in what came of them.
    raise_descriptors();
    let say = |text: &str| {
        if !request.quiet {
            eprintln!("{text}");
        }
    };
    for what in sweep().await {
        say(&format!("left by a run that was killed, and taken away: {what}"));
    }
    let schedule = &request.schedule;
    let text = schedule.to_toml().map_err(|error| RunError::Judge(error.to_string()))?;
    write(&folder.join("schedule.toml"), &text)?;
    let machine = Machine::probe(&prefix(), &folder).await;
    let links = request.links.unwrap_or_else(|| choose(schedule, &machine));
    let chosen = match (&request.theirs, links) {
        (Some(_), _) => "a cluster that runs already",
        (None, Links::Namespaces) => "a network namespace for each node",
        (None, Links::Proxies) => "loopback, with relays between the nodes",
    };
    say(&format!("this machine:\n{machine}\nthe nodes are connected by: {chosen}"));
    schedule.left_out.iter().for_each(|what| say(&format!("left out: {what}")));
    let about = About {
        scenario: schedule.scenario.clone(),
        seed: schedule.seed,
        heal_at_ms: schedule.phases.heal_at_ms,
        links: chosen.to_owned(),
        machine: machine.to_string().lines().map(|line| line.trim().to_owned()).collect(),
        mutant: request.mutant.clone(),
        required: schedule.required().into_iter().map(str::to_owned).collect(),
        max_rss_mib: schedule.chaos.max_rss_mib,
        left_out: schedule.left_out.clone(),
    };
    let json = serde_json::to_string_pretty(&about).map_err(|error| RunError::Judge(error.to_string()))?;
    write(&folder.join("run.json"), &json)?;
    if let Some(mutant) = &request.mutant {
        // Bugs of the client are planted here. The nodes get theirs by their environment.
        polybolos_model::simulation::plant(mutant.clone());
    }
    let stage = Stage { request, folder, machine, links };
    let played = stage.play().await;
    let Stage { folder, .. } = stage;
    played?;
    let verdict = judge::judge(&folder).map_err(RunError::Judge)?;
    if verdict.is_pass() {
        // What is of no use any more; logs and histories stay.
        for gone in ["nodes", "shared", "shim"] {
            let path = folder.join(gone);
            if path.exists() {
                fs::remove_dir_all(&path).map_err(OsError::file("removing", &path))?;
            }
        }
    }
    Ok(verdict)
}

fn fresh(folder: &Path) -> Result<PathBuf, RunError> {
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(RunError::Taken(folder.to_owned()));
    }
    for inner in ["logs", "nodes", "shared"] {
        let path = folder.join(inner);
        fs::create_dir_all(&path).map_err(OsError::file("making", &path))?;
    }
    Ok(fs::canonicalize(folder).map_err(OsError::file("finding", folder))?)
}

fn write(path: &Path, text: &str) -> Result<(), RunError> {
    Ok(fs::write(path, text).map_err(OsError::file("writing", path))?)
}

/// Namespaces where they can be had, unless a fault needs what only relays can do.
fn choose(schedule: &Schedule, machine: &Machine) -> Links {
    let needs_relays = schedule.has(|fault| match fault {
        Fault::SlowLink { .. } => machine.netem.is_err(),
        Fault::Bandwidth { .. } => machine.netem.is_err() && machine.tbf.is_err(),
        Fault::CutStreams { .. } => true,
        _ => false,
    });
    if machine.namespaces.is_ok() && !needs_relays { Links::Namespaces } else { Links::Proxies }
}

/// All that a run needs, before it begins.
struct Stage {
    request: Request,
    folder: PathBuf,
    machine: Machine,
    links: Links,
}

impl Stage {
    /// Whatever happens, nothing that was started or made is left.
    async fn play(&self) -> Result<(), RunError> {
        let clock = Clock::default();
        let journal =
            Arc::new(Journal::open(&self.folder.join("events.jsonl"), clock.clone(), self.request.quiet)?);
        let env = Env::production(1).map_err(OsError::file("starting threads of", &self.folder))?;
        let (healed, is_healed) = watch::channel(false);
        let site = match &self.request.theirs {
            Some(theirs) => Site::Theirs(theirs.clone()),
            None => Site::Own(Fleet::start(&self.plan(), Arc::clone(&journal)).await?),
        };
        let addresses = addresses(&site).await;
        let client = Client::connect(addresses.clone(), env.clone());
        let observer = Arc::new(Observer::new(env.clone(), Arc::clone(&journal)));
        if let Site::Own(fleet) = &site {
            for node in fleet.nodes() {
                let node = node.lock().await;
                observer.is_called(&fleet.address(&node).await, &node.name);
            }
        }
        let nemesis = Arc::new(Nemesis {
            site,
            observer,
            journal,
            client: client?,
            seed: self.request.schedule.seed,
            healed: is_healed,
        });
        let acts = self.acts(&nemesis, healed, clock, addresses, env);
        let done = tokio::select! {
            done = acts => done,
            () = interrupted() => Err(RunError::Interrupted),
        };
        if let Site::Own(fleet) = &nemesis.site {
            fleet.end().await;
        }
        done
    }

    fn plan(&self) -> Plan<'_> {
        let schedule = &self.request.schedule;
        Plan {
            binary: &self.request.binary,
            folder: &self.folder,
            prefix: self.prefix(),
            cluster: &schedule.cluster,
            links: self.links,
            machine: &self.machine,
            seed: schedule.seed,
            mutant: self.request.mutant.as_deref(),
            small_disks: self.machine.mounts.is_ok()
                && schedule.has(|fault| matches!(fault, Fault::DiskFull { .. })),
            memory_groups: schedule.has(|fault| matches!(fault, Fault::MemoryKill { .. })),
            shuffle_files: schedule
                .has(|fault| matches!(fault, Fault::CorruptShuffle { .. } | Fault::DeleteShuffle { .. })),
            shim: self.machine.shim.as_deref().ok().filter(|_| schedule.has(Fault::is_of_the_shim)),
        }
    }

    fn prefix(&self) -> &'static str {
        static PREFIX: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        PREFIX.get_or_init(prefix)
    }

    async fn acts(
        &self,
        nemesis: &Arc<Nemesis>,
        healed: watch::Sender<bool>,
        clock: Clock,
        addresses: Vec<String>,
        env: Env,
    ) -> Result<(), RunError> {
        let schedule = &self.request.schedule;
        // Aborted with this set, whatever way this function ends.
        let mut background = JoinSet::new();
        let watching = Arc::clone(nemesis);
        background.spawn(async move { look(&watching).await });
        self.ready(nemesis).await?;
        let (stop, is_stopped) = watch::channel(false);
        let scene = self.scene(addresses, env, clock.clone(), is_stopped).await?;
        let workload = &schedule.chaos.workload;
        workload::prepare(&scene, workload).await?;
        clock.begin();
        let watching = Arc::clone(nemesis);
        background.spawn(async move {
            if let Site::Own(fleet) = &watching.site {
                fleet.watch().await;
            }
        });
        let mut clients = workload::start(&scene, workload).await?;
        let (nemesis_, schedule_) = (Arc::clone(nemesis), schedule.clone());
        let mut faults = JoinSet::new();
        faults.spawn(async move { nemesis_.run(&schedule_).await });
        sleep(Duration::from_millis(schedule.phases.heal_at_ms)).await;
        healed.send_replace(true);
        let violation = |what: String| nemesis.journal.note(What::Violation { what });
        if timeout(END_LIMIT, faults.join_next()).await.is_err() {
            violation(format!("faults were still under way {END_LIMIT:?} after the healing"));
        }
        nemesis.journal.note(What::Healed);
        let began = Instant::now();
        let liveness = Duration::from_millis(schedule.phases.liveness_ms);
        match well(nemesis, liveness).await {
            Ok(()) => {
                let after_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                nemesis.journal.note(What::Well { after_ms });
            }
            Err(reason) => violation(format!("not well within {liveness:?} after the healing: {reason}")),
        }
        sleep(AFTER).await;
        stop.send_replace(true);
        let all = async {
            while let Some(ended) = clients.all.join_next().await {
                if let Err(error) = ended {
                    violation(format!("a client of this program failed: {error}"));
                }
            }
        };
        if timeout(CLIENTS_LIMIT, all).await.is_err() {
            violation(format!(
                "{} clients still wait {CLIENTS_LIMIT:?} after all was well",
                clients.all.len()
            ));
            clients.all.abort_all();
        }
        clients.tell(&nemesis.journal);
        nemesis.journal.note(What::AtRest);
        if let Err(reason) = at_rest(nemesis, liveness).await {
            violation(format!("not at rest: {reason}"));
        }
        if !scene.recorder.finish() {
            return Err(RunError::Judge("the history could not be written".to_owned()));
        }
        Ok(())
    }

    /// Waits until somebody leads, all executors are live, and statements may write.
    async fn ready(&self, nemesis: &Nemesis) -> Result<(), RunError> {
        let began = Instant::now();
        let executors = match &nemesis.site {
            Site::Own(_) => self.request.schedule.cluster.slots.len(),
            Site::Theirs(_) => 1,
        };
        loop {
            let seen = nemesis.observer.seen();
            let live = seen.executors.values().filter(|state| *state == "live").count();
            if seen.leader.is_some() && live >= executors && seen.version >= WRITES_VERSION {
                return Ok(());
            }
            if began.elapsed() > START_LIMIT {
                let version = seen.version;
                let what = format!("leader {:?}, {live} executors live, version {version}", seen.leader);
                return Err(RunError::NotReady(what));
            }
            sleep(INTERVAL).await;
        }
    }

    async fn scene(
        &self,
        addresses: Vec<String>,
        env: Env,
        clock: Clock,
        stop: watch::Receiver<bool>,
    ) -> Result<Scene, RunError> {
        let workload = &self.request.schedule.chaos.workload;
        let shared = match (&self.request.theirs, &self.request.shared) {
            (None, _) => Some(self.folder.join("shared")),
            (Some(_), shared) => shared.clone(),
        };
        let answers = match shared.as_ref().filter(|_| workload.tpch > 0) {
            Some(shared) => Some(Arc::new(Answers::make(&self.request.binary, shared).await?)),
            None => None,
        };
        Ok(Scene {
            addresses,
            env,
            recorder: Recorder::open(&self.folder.join("history.jsonl"), clock.clone())?,
            clock,
            seed: self.request.schedule.seed,
            stop,
            pause_ms: workload.pause_ms,
            shared,
            answers,
        })
    }
}

/// Looks at the cluster and its processes for ever.
async fn look(nemesis: &Nemesis) {
    let mut watched = Watched::default();
    loop {
        let addresses = addresses(&nemesis.site).await;
        nemesis.observer.look(&addresses).await;
        if let Site::Own(fleet) = &nemesis.site {
            weigh(fleet, &nemesis.journal, &mut watched);
        }
        sleep(INTERVAL).await;
    }
}

/// Writes down what the processes have in memory, where that is news.
fn weigh(fleet: &Fleet, journal: &Journal, watched: &mut Watched) {
    for node in fleet.nodes() {
        // One that is busy is being killed or started.
        let Ok(node) = node.try_lock() else { continue };
        let Some(process) = node.process() else { continue };
        let Some(resident) = Resident::of(process) else { continue };
        if watched.is_news(&node.name, process, journal.clock.ms(), resident) {
            let (now_mib, peak_mib) = (resident.now_kib / 1_024, resident.peak_kib.div_ceil(1_024));
            journal.note(What::Memory { node: node.name.clone(), now_mib, peak_mib });
        }
    }
}

async fn addresses(site: &Site) -> Vec<String> {
    match site {
        Site::Own(fleet) => fleet.addresses().await,
        Site::Theirs(theirs) => theirs.schedulers.clone(),
    }
}

/// SIGINT or SIGTERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Then a signal ends this process at once, and the next run sweeps.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
