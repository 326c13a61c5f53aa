//! Who makes things go wrong, by the schedule, and says what shows that they did.
//!
//! ```text
//!   Schedule ──▶ Nemesis (a task a fault: wait, look its target up, begin, hold, end) ──▶ Fleet
//!                  └──▶ Journal: begin and end of each, with its evidence
//! ```
//!
//! A fault that could not act is told as one, and never counts. At the healing all of them end.

mod disks;
mod links;
mod members;
mod power;
mod processes;
mod shimmed;
mod target;

use std::{future::Future, sync::Arc, time::Duration};

use polybolos_client::Client;
use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
    time::sleep,
};

use crate::{
    cluster::{Fleet, Node, Role},
    fault::Fault,
    journal::{Journal, What},
    observer::Observer,
    os::fork,
    schedule::{Planned, Schedule},
    theirs::Theirs,
};

type Shared = Arc<Mutex<Node>>;

/// What came of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub acted: bool,
    /// What shows it, or why not.
    pub evidence: String,
}

impl Outcome {
    fn acted(evidence: impl Into<String>) -> Self {
        Self { acted: true, evidence: evidence.into() }
    }

    fn not(reason: impl Into<String>) -> Self {
        Self { acted: false, evidence: reason.into() }
    }

    fn if_acted(acted: bool, evidence: impl Into<String>) -> Self {
        Self { acted, evidence: evidence.into() }
    }
}

/// An error of the machine or the cluster is a reason why a fault could not act.
type Acted = Result<Outcome, String>;

fn told<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

/// What is broken.
pub enum Site {
    /// A cluster that this program has started.
    Own(Fleet),
    /// One that runs already.
    Theirs(Theirs),
}

pub struct Nemesis {
    pub site: Site,
    pub observer: Arc<Observer>,
    pub journal: Arc<Journal>,
    /// For what an operator does.
    pub client: Client,
    pub seed: u64,
    /// True from the healing on.
    pub healed: watch::Receiver<bool>,
}

impl Nemesis {
    /// Does all that the schedule says, until every fault has ended. The healing is told by `healed`.
    pub async fn run(self: &Arc<Self>, schedule: &Schedule) {
        let mut faults = JoinSet::new();
        for planned in schedule.faults.clone() {
            let nemesis = Arc::clone(self);
            faults.spawn(async move { nemesis.one(planned).await });
        }
        while faults.join_next().await.is_some() {}
    }

    async fn one(&self, planned: Planned) {
        let now = self.journal.clock.ms();
        let mut healed = self.healed.clone();
        let name = planned.fault.name().to_owned();
        let due = async {
            tokio::select! {
                () = sleep(Duration::from_millis(planned.at_ms.saturating_sub(now))) => true,
                // The sender outlives the faults.
                _ = healed.wait_for(|healed| *healed) => false,
            }
        };
        if !due.await {
            return;
        }
        let id = planned.id;
        let picked = self.pick(&planned).await;
        let target = picked.clone().unwrap_or_else(|_| {
            planned.fault.target().map(ToString::to_string).unwrap_or_else(|| "all".to_owned())
        });
        self.journal.note(What::FaultBegins { id, name: name.clone(), target: target.clone() });
        let outcome = match picked {
            Ok(target) => self.inflict(&planned, &target).await.unwrap_or_else(Outcome::not),
            Err(reason) => Outcome::not(reason),
        };
        let Outcome { acted, evidence } = outcome;
        self.journal.note(What::FaultEnds { id, name, target, acted, evidence });
    }

    /// Until the fault's time is over or all is healed.
    fn hold(&self, planned: &Planned) -> impl Future<Output = ()> {
        let mut healed = self.healed.clone();
        let lasts = planned.for_ms;
        async move {
            let over = async {
                match lasts {
                    Some(ms) => sleep(Duration::from_millis(ms)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => {}
                _ = healed.wait_for(|healed| *healed) => {}
            }
        }
    }

    fn is_healed(&self) -> bool {
        *self.healed.borrow()
    }

    async fn inflict(&self, planned: &Planned, target: &str) -> Acted {
        let fleet = match &self.site {
            Site::Own(fleet) => fleet,
            Site::Theirs(theirs) => return self.inflict_theirs(theirs, planned, target).await,
        };
        match &planned.fault {
            Fault::Crash { power_loss: true, wipe: false, .. } => {
                self.power_loss(fleet, planned, target).await
            }
            Fault::Crash { wipe, .. } => self.crash(fleet, planned, target, *wipe).await,
            Fault::PowerCycle => self.power_cycle(fleet, planned).await,
            Fault::RollingRestart { down_ms, gap_ms, .. } => {
                self.rolling_restart(fleet, target, *down_ms, *gap_ms).await
            }
            Fault::ClockJump { by_ms, .. } => self.clock_jump(fleet, target, *by_ms).await,
            Fault::SlowDisk { latency_ms, .. } => self.slow_disk(fleet, planned, target, *latency_ms).await,
            Fault::Pause { .. } => self.pause(fleet, planned, target).await,
            Fault::MemoryKill { .. } => self.memory_kill(fleet, planned, target).await,
            Fault::DiskFull { .. } => self.disk_full(fleet, planned, target).await,
            Fault::CorruptDisk { bits, .. } => self.corrupt_disk(fleet, planned, target, *bits).await,
            Fault::CorruptShuffle { bits, .. } => {
                self.corrupt_shuffle(fleet, planned, target, Some(*bits)).await
            }
            Fault::DeleteShuffle { .. } => self.corrupt_shuffle(fleet, planned, target, None).await,
            Fault::AddReplica => self.add_replica(fleet).await,
            Fault::RemoveReplica { .. } => self.remove_replica(fleet, target).await,
            Fault::TransferLeadership => self.transfer().await,
            Fault::DrainExecutor { deadline_ms, by_signal, .. } => {
                self.drain(fleet, target, Duration::from_millis(*deadline_ms), *by_signal).await
            }
            Fault::Isolate { .. }
            | Fault::LeaderInMinority
            | Fault::Bridge { .. }
            | Fault::Flap { .. }
            | Fault::BlackHole { .. }
            | Fault::SlowLink { .. }
            | Fault::LossyLink { .. }
            | Fault::CutStreams { .. }
            | Fault::Bandwidth { .. } => self.links(fleet, planned, target).await,
        }
    }

    /// Only what needs no more than the commands that stop and start a node.
    async fn inflict_theirs(&self, theirs: &Theirs, planned: &Planned, target: &str) -> Acted {
        match &planned.fault {
            Fault::Crash { power_loss: false, wipe: false, .. } => {
                theirs.stop(target).await?;
                self.hold(planned).await;
                theirs.start(target).await?;
                Ok(Outcome::acted("the stop and start commands succeeded"))
            }
            Fault::TransferLeadership => self.transfer().await,
            _ => Err("this needs a cluster that this program has started".to_owned()),
        }
    }

    /// A number of the fault's own.
    fn seed_of(&self, planned: &Planned) -> u64 {
        fork(self.seed, &format!("fault {}", planned.id))
    }
}

/// The node of this name.
async fn find(fleet: &Fleet, name: &str) -> Result<Shared, String> {
    for node in fleet.nodes() {
        if node.lock().await.name == name {
            return Ok(node);
        }
    }
    Err(format!("there is no {name}"))
}

async fn of_role(fleet: &Fleet, schedulers: bool) -> Vec<Shared> {
    let mut found = Vec::new();
    for node in fleet.nodes() {
        let is_one = {
            let node = node.lock().await;
            !node.is_removed && matches!(node.role, Role::Scheduler { .. }) == schedulers
        };
        if is_one {
            found.push(node);
        }
    }
    found
}
