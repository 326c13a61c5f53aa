//! All the nodes of a run and their network.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, time::sleep};

use super::{
    Group,
    disk::Disk,
    node::{Node, Parts, Role},
};
use crate::{
    journal::{Journal, What},
    net::{LinkFault, Namespaces, Network, Proxies, Toll, matrix},
    os::OsError,
    probe::{Links, Machine},
    schedule::Cluster,
    shim::Shim,
};

const POLL: Duration = Duration::from_millis(50);
/// Longest wait for a node to be ready.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Of the small disks. A scheduler keeps 64 MiB of it as a reserve.
const DISK_BYTES: u64 = 256 * 1024 * 1024;
/// Or next to nothing of the outputs would be in files, where they can be deleted and damaged.
const SHUFFLE_MEMORY: &str = "256KiB";

#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error(transparent)]
    Os(#[from] OsError),
    #[error("{node} was not ready within {waited:?}; its log is {log}")]
    NotReady { node: String, waited: Duration, log: PathBuf },
    #[error("{node} ended before it was ready; its log is {log}")]
    Ended { node: String, log: PathBuf },
}

/// What to start, and how.
pub struct Plan<'a> {
    pub binary: &'a Path,
    pub folder: &'a Path,
    pub prefix: &'a str,
    pub cluster: &'a Cluster,
    pub links: Links,
    pub machine: &'a Machine,
    pub seed: u64,
    /// A planted bug of a binary that has such.
    pub mutant: Option<&'a str>,
    pub small_disks: bool,
    pub memory_groups: bool,
    pub shuffle_files: bool,
    /// The library that nodes are started with.
    pub shim: Option<&'a Path>,
}

type Shared = Arc<Mutex<Node>>;

pub struct Fleet {
    // Dropped before the network that its nodes are in.
    nodes: RwLock<Vec<Shared>>,
    network: Mutex<Network>,
    /// By the fault's id.
    active: std::sync::Mutex<Vec<(u32, LinkFault)>>,
    journal: Arc<Journal>,
    binary: PathBuf,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    shim: Option<PathBuf>,
}

impl Fleet {
    /// Makes the network, the disks and the groups, and starts all nodes.
    ///
    /// # Errors
    /// The machine refuses, or a node does not become ready.
    pub async fn start(plan: &Plan<'_>, journal: Arc<Journal>) -> Result<Self, FleetError> {
        let schedulers = usize::try_from(plan.cluster.schedulers).unwrap_or(usize::MAX);
        let hosts = schedulers + plan.cluster.slots.len();
        let network = match plan.links {
            Links::Namespaces => {
                Network::Namespaces(Namespaces::make(plan.prefix, hosts, plan.machine.netem.is_ok()).await?)
            }
            Links::Proxies => Network::Proxies(Proxies::make(hosts, plan.seed).await?),
        };
        let mut environment = vec![("POLYBOLOS_LOG".to_owned(), "info,openraft=off".to_owned())];
        environment.extend(plan.mutant.map(|name| ("POLYBOLOS_MUTANT".to_owned(), name.to_owned())));
        let addresses: Vec<String> = (1..=schedulers).map(|host| network.address(host)).collect();
        let members: Vec<(u64, String)> = (1..).zip(addresses.iter().cloned()).collect();
        let fleet = Self {
            nodes: RwLock::new(Vec::new()),
            network: Mutex::new(network),
            active: std::sync::Mutex::new(Vec::new()),
            journal,
            binary: plan.binary.to_owned(),
            folder: plan.folder.to_owned(),
            environment,
            shim: plan.shim.map(Path::to_owned),
        };
        for (id, host) in (1..).zip(1..=schedulers) {
            let mut node = fleet.scheduler(id, host, &members).await?;
            if plan.small_disks {
                node.disk = Some(Disk::mount(plan.prefix, &node.folder, DISK_BYTES).await?);
            }
            fleet.add(node);
        }
        for (host, (number, slots)) in (schedulers + 1..).zip((1..).zip(&plan.cluster.slots)) {
            let mut node = fleet.executor(number, host, *slots, &addresses, plan).await?;
            if plan.small_disks {
                node.disk = Some(Disk::mount(plan.prefix, &node.folder, DISK_BYTES).await?);
            }
            if plan.memory_groups
                && let Ok(root) = &plan.machine.memory_groups
            {
                node.group = Some(Group::make(root, &format!("{}n{host}", plan.prefix))?);
            }
            fleet.add(node);
        }
        for node in fleet.nodes() {
            fleet.launch(&node).await?;
        }
        for node in fleet.nodes() {
            fleet.ready(&node).await?;
        }
        Ok(fleet)
    }

    async fn scheduler(&self, id: u64, host: usize, members: &[(u64, String)]) -> Result<Node, OsError> {
        let listen = self.network.lock().await.listen_address(host);
        let members: Vec<String> = members.iter().map(|(id, at)| format!("{id}={at}")).collect();
        let id_text = id.to_string();
        let args = ["scheduler", "--id", &id_text, "--listen", &listen, "--cluster", &members.join(",")];
        // What killed statements have staged is looked for within the run.
        let args = [&args[..], &["--sweep-grace", "10s"]].concat();
        self.node(format!("scheduler-{id}"), Role::Scheduler { id }, host, &args, "--data-dir").await
    }

    async fn executor(
        &self,
        number: usize,
        host: usize,
        slots: u32,
        schedulers: &[String],
        plan: &Plan<'_>,
    ) -> Result<Node, OsError> {
        let (listen, advertise) = {
            let network = self.network.lock().await;
            (network.listen_address(host), network.address(host))
        };
        let name = format!("executor-{number}");
        let (schedulers, slots) = (schedulers.join(","), slots.to_string());
        let memory = format!("{}MiB", plan.cluster.memory_mib);
        let mut args = vec!["executor", "--id", &name, "--schedulers", &schedulers, "--listen", &listen];
        args.extend(["--advertise", &advertise, "--slots", &slots, "--memory", &memory]);
        if plan.shuffle_files {
            args.extend(["--shuffle-memory", SHUFFLE_MEMORY]);
        }
        self.node(name.clone(), Role::Executor, host, &args, "--work-dir").await
    }

    async fn node(
        &self,
        name: String,
        role: Role,
        host: usize,
        args: &[&str],
        folder_flag: &str,
    ) -> Result<Node, OsError> {
        let folder = self.folder.join("nodes").join(&name);
        let mut command = Vec::new();
        if let Some(namespace) = self.network.lock().await.namespace(host) {
            command.extend(["ip", "netns", "exec", &namespace].map(str::to_owned));
        }
        command.push(self.binary.to_string_lossy().into_owned());
        command.extend(args.iter().copied().map(str::to_owned));
        let path = folder.to_string_lossy().into_owned();
        command.extend([folder_flag, &path, "--until-stdin-ends"].map(str::to_owned));
        let log = self.folder.join("logs").join(format!("{name}.log"));
        let environment = self.environment.clone();
        let at = self.folder.join("shim").join(&name);
        let shim = self.shim.as_ref().map(|library| Shim::make(library, &at, &folder)).transpose()?;
        let parts = Parts { name, role, host, folder, log, command, environment, shim };
        Ok(Node::new(parts, Arc::clone(&self.journal)))
    }

    fn add(&self, node: Node) {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(Mutex::new(node)));
    }

    pub fn nodes(&self) -> Vec<Shared> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes and starts one more scheduler, with the next id, that waits to be entered.
    ///
    /// # Errors
    /// The machine refuses, or it does not become ready.
    pub async fn join(&self) -> Result<Shared, FleetError> {
        let mut members = Vec::new();
        let mut next = 1;
        for node in self.nodes() {
            let node = node.lock().await;
            if let Role::Scheduler { id } = node.role {
                next = next.max(id + 1);
                if !node.is_removed {
                    members.push((id, self.network.lock().await.address(node.host)));
                }
            }
        }
        let (host, address) = {
            let mut network = self.network.lock().await;
            let host = network.add_host().await?;
            (host, network.address(host))
        };
        members.push((next, address));
        let node = Arc::new(Mutex::new(self.scheduler(next, host, &members).await?));
        self.nodes.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&node));
        self.rewire().await?;
        self.launch(&node).await?;
        self.ready(&node).await?;
        Ok(node)
    }

    /// Where others reach a node.
    pub async fn address(&self, node: &Node) -> String {
        self.network.lock().await.address(node.host)
    }

    /// Addresses of all schedulers that are not removed.
    pub async fn addresses(&self) -> Vec<String> {
        let mut addresses = Vec::new();
        for node in self.nodes() {
            let node = node.lock().await;
            if matches!(node.role, Role::Scheduler { .. }) && !node.is_removed {
                addresses.push(self.address(&node).await);
            }
        }
        addresses
    }

    /// Starts a node if nothing speaks against it.
    ///
    /// # Errors
    /// The program can't be started.
    pub async fn launch(&self, node: &Shared) -> Result<(), OsError> {
        let mut node = node.lock().await;
        node.start_if_wanted().await?;
        self.tell(&node).await;
        Ok(())
    }

    /// A new life of a node has connections of its own.
    pub async fn tell(&self, node: &Node) {
        if let Some(process) = node.process() {
            self.network.lock().await.is_process(node.host, process);
        }
    }

    /// Waits until a node says that it listens.
    ///
    /// # Errors
    /// It ends, or takes too long.
    pub async fn ready(&self, node: &Shared) -> Result<(), FleetError> {
        let began = Instant::now();
        loop {
            let mut node = node.lock().await;
            if node.is_ready() {
                return Ok(());
            }
            let (name, log) = (node.name.clone(), node.log().to_owned());
            if node.process().is_none() || node.ended().is_some() {
                return Err(FleetError::Ended { node: name, log });
            }
            if began.elapsed() > READY_DEADLINE {
                return Err(FleetError::NotReady { node: name, waited: READY_DEADLINE, log });
            }
            drop(node);
            sleep(POLL).await;
        }
    }

    /// A fault of the network begins.
    ///
    /// # Errors
    /// The machine refuses.
    pub async fn cut(&self, id: u32, fault: LinkFault) -> Result<(), OsError> {
        self.links().push((id, fault));
        self.rewire().await
    }

    /// All faults of the network with this id end.
    ///
    /// # Errors
    /// The machine refuses.
    pub async fn mend(&self, id: u32) -> Result<(), OsError> {
        self.links().retain(|(of, _)| *of != id);
        self.rewire().await
    }

    fn links(&self) -> std::sync::MutexGuard<'_, Vec<(u32, LinkFault)>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn rewire(&self) -> Result<(), OsError> {
        let hosts: Vec<usize> = (0..=self.nodes().len()).collect();
        let mut network = self.network.lock().await;
        let matrix = matrix(&hosts, self.links().iter().map(|(_, fault)| fault));
        network.apply(&matrix).await
    }

    /// # Errors
    /// The machine does not tell.
    pub async fn toll(&self) -> Result<Toll, OsError> {
        self.network.lock().await.toll().await
    }

    /// Kills all processes and takes away what was made for them.
    pub async fn end(&self) {
        for node in self.nodes() {
            let mut node = node.lock().await;
            node.is_removed = true;
            if let Err(error) = node.kill().await {
                self.journal.note(What::Note { text: error.to_string() });
            }
            (node.disk, node.group) = (None, None);
        }
        self.network.lock().await.take_down();
    }

    /// Looks after processes that end by themselves: those that a fault explains are started again once it is over, the
    /// others at once, and count as broken promises. Never returns.
    pub async fn watch(&self) {
        loop {
            for node in self.nodes() {
                // One that is busy is being killed or started.
                let Ok(mut node) = node.try_lock() else { continue };
                let Some((status, excused)) = node.ended() else { continue };
                if excused {
                    continue;
                }
                let what =
                    format!("{} ended by itself ({status}); its log is {}", node.name, node.log().display());
                self.journal.note(What::Violation { what });
                if let Err(error) = node.start_if_wanted().await {
                    self.journal.note(What::Note { text: error.to_string() });
                }
                self.tell(&node).await;
            }
            sleep(POLL).await;
        }
    }
}
