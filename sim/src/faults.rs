//! Does what a schedule's faults say, at their times, and undoes it.
//!
//! ```text
//!   Planned ─▶ aim (whom, may it?) ─▶ act ─▶ effects ─▶ settle: links of turmoil, knobs of hosts and of the store
//!                    │ no                       ▲
//!                    └─▶ FaultSkipped           └── a fault that ends takes its effects away
//! ```
//!
//! Faults may overlap. Nothing is switched on and off one by one: what holds is computed anew from all effects that are
//! there. Which hosts run is kept beside it, each down for the fault that took it down.

mod act;
mod agenda;
mod aim;
mod anchored;
mod effect;
mod heal;
mod links;
mod lives;
mod operator;
mod settle;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use turmoil::Sim;

pub use self::operator::{AdminCall, Knobs, Operator};
use self::{agenda::Agenda, aim::Aim, anchored::Anchored, effect::Effect, links::Links};
use crate::{
    env::{Host, TableStore},
    moment::What,
    schedule::{Planned, Schedule},
    tape,
};

/// Ids of what no schedule planned: failpoints that cut the power, processes that ended, hosts left broken.
const UNPLANNED: u32 = 0;

/// See the module.
pub struct Injector {
    schedule: Schedule,
    hosts: BTreeMap<String, Host>,
    store: TableStore,
    operator: Operator,
    knobs: Knobs,
    links: Links,
    agenda: Agenda,
    /// What begins or ends by the progress of queries.
    anchored: Anchored,
    active: BTreeMap<u32, Active>,
    /// Hosts that are down, and the fault that took them down: what it did ends only with it.
    down: BTreeMap<String, u32>,
    /// Of those, which refuse connections. The others are silent.
    refusing: BTreeSet<String>,
    /// Schedulers that may not be counted on any more: damaged, or removed.
    lost: BTreeSet<String>,
    /// Clients that never come back.
    gone: BTreeSet<String>,
    /// What the healing left broken: hosts that are down or cut off.
    left: BTreeSet<String>,
    left_isolated: Vec<Effect>,
    now_ms: u64,
    /// Since the epoch, for clocks.
    now: Duration,
    leader: Option<String>,
    /// Somebody has led: the cluster is there.
    has_formed: bool,
    healed: bool,
    /// The next id of something that no schedule planned, descending.
    next_unplanned: u32,
}

/// A fault that has begun.
struct Active {
    name: &'static str,
    target: String,
    effects: Vec<Effect>,
    /// Effects of a flapping link that are off for now.
    off: Vec<Effect>,
}

impl Injector {
    /// `hosts` are all hosts of the simulation, each registered with turmoil as a host under its name (not as a client:
    /// turmoil can't crash those). Schedulers beyond the schedule's number are spare.
    pub fn new(
        schedule: &Schedule,
        hosts: BTreeMap<String, Host>,
        store: TableStore,
        operator: Operator,
        knobs: Knobs,
    ) -> Self {
        Self {
            links: Links::new(hosts.keys().cloned().collect()),
            agenda: Agenda::new(&schedule.faults, schedule.phases.heal_at_ms),
            anchored: Anchored::new(schedule),
            schedule: schedule.clone(),
            hosts,
            store,
            operator,
            knobs,
            active: BTreeMap::new(),
            down: BTreeMap::new(),
            refusing: BTreeSet::new(),
            lost: BTreeSet::new(),
            gone: BTreeSet::new(),
            left: BTreeSet::new(),
            left_isolated: Vec::new(),
            now_ms: 0,
            now: Duration::ZERO,
            leader: None,
            has_formed: false,
            healed: false,
            next_unplanned: u32::MAX,
        }
    }

    /// Begins and ends what is due. Called between two ticks.
    pub fn step(&mut self, sim: &mut Sim<'_>, now_ms: u64, leader: Option<&str>) {
        self.look(sim, now_ms);
        self.leader = leader.map(str::to_owned);
        self.has_formed |= leader.is_some();
        while let Some(step) = self.agenda.due(now_ms) {
            self.carry_out(sim, step);
        }
    }

    fn look(&mut self, sim: &Sim<'_>, now_ms: u64) {
        (self.now_ms, self.now) = (now_ms, sim.since_epoch());
    }

    /// Cuts a host's power at once, for a failpoint. A host that is down already stays so.
    pub fn power_loss(&mut self, sim: &mut Sim<'_>, host: &str, down_ms: u64) {
        self.outage(sim, host, true, down_ms);
    }

    /// Starts a host anew whose process has ended by itself, after some time.
    pub fn restart(&mut self, sim: &mut Sim<'_>, host: &str, after_ms: u64) {
        self.outage(sim, host, false, after_ms);
    }

    /// Whether a host's process runs, as far as faults go.
    pub fn is_up(&self, host: &str) -> bool {
        self.hosts.get(host).is_some_and(Host::is_started) && !self.down.contains_key(host)
    }

    /// Clients that died for good.
    pub fn clients_gone(&self) -> u32 {
        u32::try_from(self.gone.len()).unwrap_or(u32::MAX)
    }

    /// Hosts that are promised to work once all is healed.
    pub fn healthy(&self) -> Vec<String> {
        let broken = [&self.lost, &self.gone, &self.left];
        let sound =
            |name: &&String| self.is_up(name) && !broken.iter().any(|broken| broken.contains(name.as_str()));
        self.hosts.keys().filter(sound).cloned().collect()
    }

    fn begin(&mut self, sim: &mut Sim<'_>, planned: &Planned) {
        let (id, name) = (planned.id, planned.fault.name());
        let aim = match self.aim(planned) {
            Ok(aim) => aim,
            Err(reason) => {
                return tape::record_of(tape::WORLD, What::FaultSkipped { id, name, reason });
            }
        };
        let target = aim.target.clone();
        tape::record_of(tape::WORLD, What::FaultBegins { id, name, target: target.clone() });
        self.active.insert(id, Active { name, target, effects: Vec::new(), off: Vec::new() });
        let lasts = self.act(sim, planned, aim);
        self.settle(sim);
        match (lasts, planned.for_ms) {
            (false, _) => self.end(sim, id),
            (true, for_ms) if planned.until.is_some() => {
                self.anchored.ends_later(planned, self.now_ms + for_ms.unwrap_or(0));
            }
            (true, Some(for_ms)) => self.agenda.end(self.now_ms + for_ms, id),
            (true, None) => {}
        }
    }

    /// What it has jumped, damaged or removed stays so.
    fn end(&mut self, sim: &mut Sim<'_>, id: u32) {
        let Some(Active { name, target, .. }) = self.active.remove(&id) else { return };
        tape::record_of(tape::WORLD, What::FaultEnds { id, name, target });
        self.settle(sim);
        let down: Vec<String> =
            self.down.iter().filter(|(_, by)| **by == id).map(|(host, _)| host.clone()).collect();
        for host in down {
            self.rise(sim, &host, id);
        }
    }
}
