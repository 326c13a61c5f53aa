//! A cluster whose nodes are child processes of this one.
//!
//! ```text
//!   Fleet ──▶ Node (scheduler or executor: `polybolos …` on a free port of loopback) ──▶ its log, in the folder
//! ```
//!
//! No child outlives this process: each stops when its standard input ends, and the other end of that is here. The
//! folder is removed with the [`Fleet`].

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use polybolos::free_addresses;
use polybolos_client::{Client, ReplicaStatus};
use polybolos_env::{Env, grpc};
use polybolos_proto::v1::{LeaderRequest, query_service_client::QueryServiceClient};
use polybolos_state::ENTRY_VERSION;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};

use super::{error::CliError, files};

/// Longest wait for a node, a leader, or for the replicas to agree.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
/// How long a replica may take to say who leads.
const LEADER_TIMEOUT: Duration = Duration::from_millis(200);
/// Lines of a dead node's log that an error shows.
const TAIL_LINES: usize = 20;
const ANY_PORT: &str = "127.0.0.1:0";

/// One node; not started at first.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: String,
    args: Vec<String>,
    /// What it keeps on disk.
    pub(crate) folder: PathBuf,
    log: PathBuf,
    /// `POLYBOLOS_LOG` of the process, if not this one's.
    pub(crate) filter: Option<&'static str>,
    child: Option<Child>,
}

impl Node {
    pub(crate) fn start(&mut self) -> Result<(), CliError> {
        let failed = |source| CliError::File { action: "starting", path: self.log.clone(), source };
        let program = std::env::current_exe().map_err(failed)?;
        let log = files::append(&self.log).map_err(failed)?;
        let mut command = Command::new(program);
        command.args(&self.args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        // A Ctrl-C is for this process, which then ends its children.
        command.kill_on_drop(true).process_group(0);
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("POLYBOLOS_") && name_text != "POLYBOLOS_LOG" {
                command.env_remove(&name);
            }
        }
        if let Some(filter) = self.filter {
            command.env("POLYBOLOS_LOG", filter);
        }
        self.child = Some(command.spawn().map_err(failed)?);
        Ok(())
    }

    /// More of its command line, before it is started.
    pub(crate) fn add_args(&mut self, args: &[&str]) {
        self.args.extend(args.iter().copied().map(str::to_owned));
    }

    /// Another value for an argument that it has, before it is started.
    pub(crate) fn set_arg(&mut self, name: &str, value: &str) {
        let mut after = self.args.iter_mut().skip_while(|arg| *arg != name).skip(1);
        if let Some(found) = after.next() {
            value.clone_into(found);
        }
    }

    /// The id of its process while it runs.
    pub(crate) fn process(&self) -> Option<u32> {
        self.child.as_ref()?.id()
    }

    /// What it has logged from `offset` on, in bytes, in all its lives.
    pub(crate) fn logged(&self, offset: u64) -> Result<String, CliError> {
        let reading = |source| CliError::File { action: "reading", path: self.log.clone(), source };
        files::read_from(&self.log, offset).map_err(reading)
    }

    /// How long its log is.
    pub(crate) fn log_length(&self) -> Result<u64, CliError> {
        let reading = |source| CliError::File { action: "reading", path: self.log.clone(), source };
        files::length(&self.log).map_err(reading)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// SIGKILL; dead when it returns.
    pub(crate) async fn kill(&mut self) -> Result<(), CliError> {
        let failed = |source| CliError::File { action: "killing", path: self.log.clone(), source };
        if let Some(mut child) = self.child.take() {
            child.start_kill().map_err(failed)?;
            child.wait().await.map_err(failed)?;
        }
        Ok(())
    }

    /// # Errors
    /// It has ended by itself.
    fn check(&mut self) -> Result<(), CliError> {
        let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) else { return Ok(()) };
        let log = files::tail(&self.log, TAIL_LINES);
        Err(CliError::Node { name: self.name.clone(), what: format!("ended by itself ({status})"), log })
    }
}

/// What a fleet is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) schedulers: u64,
    pub(crate) executors: u32,
    /// Of each executor.
    pub(crate) slots: u32,
}

/// A replica that leads, by its own word and a majority's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leading {
    /// Position among the schedulers.
    pub(crate) at: usize,
    pub(crate) term: u64,
}

pub(crate) struct Fleet {
    // Dropped before their folder.
    pub(crate) schedulers: Vec<Node>,
    pub(crate) executors: Vec<Node>,
    env: Env,
    folder: TempDir,
}

impl Fleet {
    /// Starts the nodes with a folder below `parent`, and waits until one leads and all executors are live.
    pub(crate) async fn start(env: &Env, parent: Option<&Path>, shape: Shape) -> Result<Self, CliError> {
        let mut fleet = Self::plan(env, parent, shape).await?;
        fleet.launch().await?;
        Ok(fleet)
    }

    /// Starts what was planned, and waits until it is ready.
    pub(crate) async fn launch(&mut self) -> Result<(), CliError> {
        for node in self.schedulers.iter_mut().chain(&mut self.executors) {
            node.start()?;
        }
        self.leader().await?;
        self.all_live().await
    }

    /// Waits until all executors are live.
    pub(crate) async fn all_live(&mut self) -> Result<(), CliError> {
        let (client, executors) = (self.client()?, self.executors.len());
        let what = format!("{executors} executors were not registered");
        self.until(&what, async || {
            let status = client.status().await?;
            let live = status.executors.iter().filter(|executor| executor.state == "live").count();
            Ok((live == executors).then_some(()))
        })
        .await
    }

    /// The nodes, none of them started.
    pub(crate) async fn plan(env: &Env, parent: Option<&Path>, shape: Shape) -> Result<Self, CliError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("polybolos-");
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let making = |source| CliError::File { action: "making a folder in", path: parent.clone(), source };
        let folder = builder.tempdir_in(&parent).map_err(making)?;
        let mut fleet = Self { schedulers: Vec::new(), executors: Vec::new(), env: env.clone(), folder };
        let addresses = free_addresses(env, shape.schedulers).await.map_err(making)?;
        let members: Vec<String> =
            (1..).zip(&addresses).map(|(id, at): (u64, _)| format!("{id}={at}")).collect();
        for (id, address) in (1..).zip(&addresses) {
            let id: u64 = id;
            let args =
                ["scheduler", "--id", &id.to_string(), "--listen", address, "--cluster", &members.join(",")];
            let node = fleet.node(&format!("scheduler-{id}"), address, &args, "--data-dir");
            fleet.schedulers.push(node);
        }
        for number in 1..=shape.executors {
            let (name, slots) = (format!("executor-{number}"), shape.slots.to_string());
            let args =
                ["executor", "--id", &name, "--schedulers", &addresses.join(","), "--listen", ANY_PORT];
            let args = [args.as_slice(), &["--slots", &slots, "--memory", "1GiB"]].concat();
            let node = fleet.node(&name, ANY_PORT, &args, "--work-dir");
            fleet.executors.push(node);
        }
        Ok(fleet)
    }

    fn node(&self, name: &str, address: &str, args: &[&str], folder_flag: &str) -> Node {
        let folder = self.folder.path().join(name);
        let path = folder.to_string_lossy().into_owned();
        let last = [folder_flag, &path, "--until-stdin-ends"];
        Node {
            name: name.to_owned(),
            address: address.to_owned(),
            args: args.iter().copied().chain(last).map(str::to_owned).collect(),
            folder,
            log: self.folder.path().join(format!("{name}.log")),
            filter: None,
            child: None,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.schedulers.iter().map(|node| node.address.clone()).collect()
    }

    pub(crate) fn client(&self) -> Result<Client, CliError> {
        Ok(Client::connect(self.addresses(), self.env.clone())?)
    }

    /// Waits until a replica leads.
    pub(crate) async fn leader(&mut self) -> Result<Leading, CliError> {
        let (env, addresses) = (self.env.clone(), self.running());
        self.until("no scheduler led", async || Ok(leading(&env, &addresses).await)).await
    }

    /// Positions and addresses of the schedulers that run.
    pub(crate) fn running(&self) -> Vec<(usize, String)> {
        let running = self.schedulers.iter().enumerate().filter(|(_, node)| node.is_running());
        running.map(|(at, node)| (at, node.address.clone())).collect()
    }

    /// Waits until the newest version of entries is in use, shortly after a cluster's start: settings count from then on.
    pub(crate) async fn settled(&mut self) -> Result<(), CliError> {
        let client = self.client()?;
        let newest = u32::from(ENTRY_VERSION);
        self.until("the newest version of entries was not in use", async || {
            Ok((client.status().await?.version == newest).then_some(()))
        })
        .await
    }

    /// Waits until all replicas have applied the same entry, and compares their states.
    pub(crate) async fn agree(&mut self) -> Result<ReplicaStatus, CliError> {
        let (client, count) = (self.client()?, self.schedulers.len());
        self.until("the replicas did not catch up", async || {
            let replicas = client.status().await?.replicas;
            agreement(&replicas, count)
        })
        .await
    }

    /// Asks `done` again and again until it has an answer.
    ///
    /// # Errors
    /// Its own, a node that died by itself, or `what` when [`DEADLINE`] has passed.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        done: impl AsyncFn() -> Result<Option<T>, CliError>,
    ) -> Result<T, CliError> {
        let started = self.env.clock.now();
        while self.env.clock.now() - started < DEADLINE {
            if let Some(answer) = done().await? {
                return Ok(answer);
            }
            for node in self.schedulers.iter_mut().chain(&mut self.executors) {
                node.check()?;
            }
            sleep(POLL).await;
        }
        Err(CliError::NotInTime { what: what.to_owned(), waited: DEADLINE })
    }
}

/// One of them stands for all if they agree; `None` if some have applied less than others.
fn agreement(replicas: &[ReplicaStatus], count: usize) -> Result<Option<ReplicaStatus>, CliError> {
    let Some(first) = replicas.first() else { return Ok(None) };
    let same_entry = replicas.iter().all(|one| one.applied_index == first.applied_index);
    if replicas.len() != count || first.applied_index == 0 || !same_entry {
        return Ok(None);
    }
    if replicas.iter().any(|one| one.state_hash != first.state_hash) {
        let hashes: Vec<String> = replicas.iter().map(|one| format!("{:016x}", one.state_hash)).collect();
        return Err(CliError::StatesDiffer { index: first.applied_index, hashes: hashes.join(", ") });
    }
    Ok(Some(first.clone()))
}

/// The first of `replicas` that says that it leads.
pub(crate) async fn leading(env: &Env, replicas: &[(usize, String)]) -> Option<Leading> {
    let mut asked: FuturesUnordered<_> =
        replicas.iter().map(|(at, address)| ask(env, *at, address)).collect();
    while let Some(answer) = asked.next().await {
        if answer.is_some() {
            return answer;
        }
    }
    None
}

async fn ask(env: &Env, at: usize, address: &str) -> Option<Leading> {
    let asked = async {
        let channel = grpc::connect(&env.net, address).await.ok()?;
        let answer = QueryServiceClient::new(channel).leader(LeaderRequest {}).await.ok()?.into_inner();
        answer.is_self.then_some(Leading { at, term: answer.term })
    };
    timeout(LEADER_TIMEOUT, asked).await.ok()?
}

/// `work`, unless SIGINT or SIGTERM comes before its end: then it is dropped, with the children that it has started.
pub(crate) async fn unless_interrupted(
    work: impl Future<Output = Result<(), CliError>>,
) -> Result<(), CliError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Signals)?;
    tokio::select! {
        biased;
        _ = terminate.recv() => Err(CliError::InterruptedEarly),
        _ = interrupt.recv() => Err(CliError::InterruptedEarly),
        done = work => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_agree_only_at_one_entry_and_with_one_state() {
        let replica =
            |applied_index, state_hash| ReplicaStatus { applied_index, state_hash, ..Default::default() };
        let check = |replicas: &[ReplicaStatus]| {
            agreement(replicas, 2).map(|found| found.is_some()).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[replica(7, 1), replica(7, 1)]), Ok(true));
        assert_eq!(check(&[replica(7, 1), replica(6, 2)]), Ok(false));
        assert_eq!(check(&[replica(7, 1)]), Ok(false));
        // One that does not answer has zeros.
        assert_eq!(check(&[replica(0, 0), replica(0, 0)]), Ok(false));
        assert!(check(&[replica(7, 1), replica(7, 2)]).unwrap_err().contains("different states"));
    }
}
