//! The hosts of a run: which real code runs on which, and how a process that ends is told from one that refuses to run.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use polybolos_client::Client;
use polybolos_consensus::OpenError;
use polybolos_env::Env;
use polybolos_executor::{DurableMode, Executor, ExecutorConfig, ExecutorHandle, ShuffleDurable};
use polybolos_model::{ExecutorId, ReplicaId};
use polybolos_scheduler::{LogKind, Scheduler, SchedulerConfig, Snapshots, StartError, Store, Timing};
use turmoil::Sim;

use super::operator;
use crate::{
    env::{Host, TableStore},
    fault::Fault,
    faults::{Injector, Knobs, Operator},
    moment::What,
    oracles::Rest,
    schedule::{DurableShuffle, Schedule},
    tape,
    workload::{self, Answers},
};

pub(super) const OPERATOR: &str = "operator";
const SCHEDULER_PORT: u16 = 7701;
const EXECUTOR_PORT: u16 = 7711;
/// Longer than faults last: what an executor writes that was cut off is found by a sweep that comes after it.
const SWEEP_GRACE: Duration = Duration::from_secs(20);
/// How long a client looks for a leader before it gives up: longer than any run.
const REACH_DEADLINE: Duration = Duration::from_secs(10_000);

type BoxError = Box<dyn std::error::Error>;

pub(super) fn scheduler_name(id: u64) -> String {
    format!("scheduler-{id}")
}

pub(super) fn scheduler_address(id: u64) -> String {
    format!("scheduler-{id}:{SCHEDULER_PORT}")
}

/// What the hosts and the run loop share.
pub(super) struct Hosts {
    schedule: Arc<Schedule>,
    hosts: BTreeMap<String, Host>,
    store: TableStore,
    operator: Operator,
    knobs: Knobs,
    signals: Arc<Signals>,
}

/// What hosts tell the run loop.
#[derive(Default)]
pub(super) struct Signals {
    /// The tables are there.
    pub(super) ready: AtomicBool,
    clients_done: AtomicU32,
    /// Clients whose host died for good.
    exited: Mutex<VecDeque<String>>,
}

impl Hosts {
    pub(super) fn new(schedule: &Arc<Schedule>) -> Self {
        let cluster = &schedule.cluster;
        let spares =
            schedule.faults.iter().filter(|planned| matches!(planned.fault, Fault::AddReplica)).count();
        let schedulers = (1..=cluster.schedulers + spares as u64).map(scheduler_name);
        let executors = (1..=cluster.slots.len()).map(|number| format!("executor-{number}"));
        let clients = (1..=cluster.clients).map(|number| format!("client-{number}"));
        let names = schedulers.chain(executors).chain(clients).chain([OPERATOR.to_owned()]);
        Self {
            schedule: Arc::clone(schedule),
            hosts: names.map(|name| (name.clone(), Host::new(&name, schedule))).collect(),
            store: TableStore::new(schedule),
            operator: Operator::default(),
            knobs: Knobs::default(),
            signals: Arc::default(),
        }
    }

    pub(super) fn knobs(&self) -> Knobs {
        self.knobs.clone()
    }

    /// Registers every host with `sim`.
    pub(super) fn start(&self, sim: &mut Sim<'static>) -> Injector {
        for (path, bytes) in workload::write_tables(&self.schedule) {
            self.store.put(&path, bytes);
        }
        let cluster = &self.schedule.cluster;
        let all: Vec<String> = (1..)
            .take_while(|id| self.hosts.contains_key(&scheduler_name(*id)))
            .map(scheduler_address)
            .collect();
        for id in 1..=all.len() as u64 {
            self.start_scheduler(sim, id);
        }
        for (number, slots) in (1..).zip(&cluster.slots) {
            self.start_executor(sim, number, *slots, &all);
        }
        let answers = Arc::new(Answers::new(&self.schedule));
        for number in 1..=cluster.clients {
            self.start_client(sim, number, &all, &answers);
        }
        self.start_operator(sim, &all);
        Injector::new(
            &self.schedule,
            self.hosts.clone(),
            self.store.clone(),
            self.operator.clone(),
            self.knobs.clone(),
        )
    }

    fn start_scheduler(&self, sim: &mut Sim<'static>, id: u64) {
        let name = scheduler_name(id);
        let Some(host) = self.hosts.get(&name).cloned() else { return };
        let first = self.schedule.cluster.schedulers;
        host.set_started(id <= first);
        // A replica that comes later is told of the first ones and of itself.
        let members = (1..=first).chain((id > first).then_some(id));
        let members: BTreeMap<_, _> = members.map(|id| (ReplicaId(id), scheduler_address(id))).collect();
        let (schedule, store, signals) =
            (Arc::clone(&self.schedule), self.store.clone(), Arc::clone(&self.signals));
        sim.host(name, move || {
            let (host, members, store) = (host.clone(), members.clone(), store.clone());
            let (schedule, signals) = (Arc::clone(&schedule), Arc::clone(&signals));
            async move {
                host.wait_until_started().await;
                let env = enter(&host);
                let config = scheduler_config(id, members, &schedule);
                let end = match Scheduler::start(config, env, store.extensions()).await {
                    Ok(running) => {
                        let fatal = running.failed().await;
                        End { refused: fatal.refused, reason: fatal.to_string() }
                    }
                    Err(error) => End { refused: is_refusal(&error), reason: error.to_string() },
                };
                signals.end(&host, end).await
            }
        });
    }

    fn start_executor(&self, sim: &mut Sim<'static>, number: usize, slots: u32, schedulers: &[String]) {
        let name = format!("executor-{number}");
        let Some(host) = self.hosts.get(&name).cloned() else { return };
        let (schedulers, memory_mib) = (schedulers.to_vec(), self.schedule.cluster.memory_mib);
        let durable = self.schedule.cluster.durable_shuffle;
        let (store, signals) = (self.store.clone(), Arc::clone(&self.signals));
        sim.host(name, move || {
            let (host, schedulers) = (host.clone(), schedulers.clone());
            let (store, signals) = (store.clone(), Arc::clone(&signals));
            async move {
                let env = enter(&host);
                let id = ExecutorId::new(host.name())?;
                let mut config = ExecutorConfig::new(id, schedulers, PathBuf::from("/work"));
                config.listen = format!("{}:{EXECUTOR_PORT}", host.name());
                config.slots = slots;
                config.shuffle_durable = shuffle_durable(durable)?;
                config.memory_bytes = memory_mib * 1024 * 1024;
                config.spill = host.spill();
                host.limit_memory(&mut config);
                let end = match Executor::start(config, env, store.extensions()).await {
                    Ok(running) => executor_end(&host, running).await,
                    Err(error) => error.to_string(),
                };
                signals.end(&host, End { refused: false, reason: end }).await
            }
        });
    }

    fn start_client(
        &self,
        sim: &mut Sim<'static>,
        number: u32,
        schedulers: &[String],
        answers: &Arc<Answers>,
    ) {
        let name = format!("client-{number}");
        let Some(host) = self.hosts.get(&name).cloned() else { return };
        let (schedulers, answers) = (schedulers.to_vec(), Arc::clone(answers));
        let (schedule, signals) = (Arc::clone(&self.schedule), Arc::clone(&self.signals));
        sim.host(name, move || {
            let (host, schedulers, answers) = (host.clone(), schedulers.clone(), Arc::clone(&answers));
            let (schedule, signals) = (Arc::clone(&schedule), Arc::clone(&signals));
            async move {
                let client = Client::connect_within(schedulers, enter(&host), REACH_DEADLINE)?;
                while !signals.ready.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                workload::run_client(number, client, schedule, answers).await;
                signals.clients_done.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            }
        });
    }

    fn start_operator(&self, sim: &mut Sim<'static>, schedulers: &[String]) {
        let Some(host) = self.hosts.get(OPERATOR).cloned() else { return };
        let (schedulers, operator) = (schedulers.to_vec(), self.operator.clone());
        let (schedule, signals) = (Arc::clone(&self.schedule), Arc::clone(&self.signals));
        sim.host(OPERATOR, move || {
            let (host, schedulers, operator) = (host.clone(), schedulers.clone(), operator.clone());
            let (schedule, signals) = (Arc::clone(&schedule), Arc::clone(&signals));
            async move {
                let client = Client::connect_within(schedulers, enter(&host), REACH_DEADLINE)?;
                operator::work(&client, &schedule, &operator, &signals).await
            }
        });
    }

    /// Whether every client that lives has worked through its ops. `gone` clients never will.
    pub(super) fn clients_done(&self, gone: u32) -> bool {
        self.signals.clients_done.load(Ordering::Relaxed) + gone >= self.schedule.cluster.clients
    }

    /// Hosts whose process has ended by itself since the last call.
    pub(super) fn exited(&self) -> Vec<String> {
        self.signals.exited.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    pub(super) fn rest(&self, healthy: Vec<String>) -> Rest {
        let executors = healthy.iter().filter(|name| name.starts_with("executor-"));
        let executor_files = executors
            .filter_map(|name| Some((name, self.hosts.get(name)?)))
            .flat_map(|(name, host)| {
                host.disk().files().into_iter().map(move |file| format!("{name}: {}", file.display()))
            })
            .collect();
        let written = self.store.files_below(workload::WRITTEN);
        Rest { healthy, executor_files, durable_outputs: self.store.durable_outputs(), written }
    }
}

fn shuffle_durable(durable: DurableShuffle) -> Result<Option<ShuffleDurable>, BoxError> {
    let mode = match durable {
        DurableShuffle::Off => return Ok(None),
        DurableShuffle::Background => DurableMode::Background,
        DurableShuffle::Before => DurableMode::Before,
    };
    Ok(Some(ShuffleDurable { url: TableStore::SHUFFLE_URL.parse()?, mode }))
}

/// Waits until an executor's process ends, and tells it to if a signal comes.
async fn executor_end(host: &Host, running: ExecutorHandle) -> String {
    let signals = async {
        loop {
            running.drain(host.signalled().await);
        }
    };
    tokio::select! {
        biased;
        () = running.left() => {}
        failure = running.failed() => return failure.to_string(),
        () = signals => {}
    }
    running.shutdown().await;
    "it has left the cluster".to_owned()
}

/// How a process ended.
struct End {
    refused: bool,
    reason: String,
}

impl Signals {
    /// Waits until the run loop starts the host again, if ever.
    async fn end(&self, host: &Host, End { refused, reason }: End) -> Result<(), BoxError> {
        if refused {
            tape::record(What::Refused { reason });
        } else {
            tape::record(What::Exited { reason });
            self.exited.lock().unwrap_or_else(PoisonError::into_inner).push_back(host.name().to_owned());
        }
        std::future::pending().await
    }
}

/// Begins a life of a host.
fn enter(host: &Host) -> Env {
    let life = tape::enter(host.name());
    tape::record(What::Up { life });
    host.env(life)
}

fn scheduler_config(id: u64, members: BTreeMap<ReplicaId, String>, schedule: &Schedule) -> SchedulerConfig {
    let every_entries = schedule.cluster.snapshot_every;
    let log = LogKind::Durable {
        cluster: members,
        data_dir: PathBuf::from("/data"),
        // sled has threads of its own, which no simulation can order.
        store: Store::Journal,
        timing: Timing::default(),
        snapshots: Snapshots { every_entries, keep_entries: every_entries / 10 },
        version: polybolos_state::ENTRY_VERSION,
    };
    SchedulerConfig {
        sweep_grace: SWEEP_GRACE,
        ..SchedulerConfig::new(ReplicaId(id), scheduler_address(id), log)
    }
}

/// Whether starting again can't help.
fn is_refusal(error: &StartError) -> bool {
    match error {
        StartError::Log(error) => matches!(
            error,
            OpenError::NotInCluster { .. }
                | OpenError::OtherReplica { .. }
                | OpenError::OtherCluster { .. }
                | OpenError::Damaged { .. }
                | OpenError::Newer { .. }
                | OpenError::OtherStore { .. }
        ),
        StartError::Listen { .. } | StartError::Planning(_) | StartError::Times(_) => false,
    }
}
