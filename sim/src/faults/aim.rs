//! Whom a fault hits, and whether it may: a schedule can't ask for the impossible.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::Injector;
use crate::{
    env::Damage,
    fault::{Fault, Target},
    schedule::Planned,
};

/// Voters that have to be left when one is removed.
const MIN_VOTERS: usize = 3;

/// A fault that may begin.
pub(super) struct Aim {
    /// For people.
    pub(super) target: String,
    pub(super) hosts: Vec<String>,
    /// Of this fault alone.
    pub(super) random: StdRng,
}

/// Why a fault may not begin.
type Reason = String;

pub(super) fn is_scheduler(name: &str) -> bool {
    name.starts_with("scheduler-")
}

pub(super) fn is_executor(name: &str) -> bool {
    name.starts_with("executor-")
}

pub(super) fn is_client(name: &str) -> bool {
    name.starts_with("client-")
}

pub(super) fn scheduler_id(name: &str) -> Option<u64> {
    name.strip_prefix("scheduler-")?.parse().ok()
}

impl Injector {
    pub(super) fn aim(&self, planned: &Planned) -> Result<Aim, Reason> {
        let seed = self.schedule.fork(&format!("fault {}", planned.id));
        let mut random = StdRng::seed_from_u64(seed);
        let hosts = self.choose(&planned.fault, &mut random)?;
        let target = if hosts.is_empty() { "all".to_owned() } else { hosts.join(" ") };
        Ok(Aim { target, hosts, random })
    }

    fn choose(&self, fault: &Fault, random: &mut StdRng) -> Result<Vec<String>, Reason> {
        let one = |host: String| Ok(vec![host]);
        match fault {
            Fault::Crash { target, wipe, .. } => {
                let host = self.running(target, random)?;
                if *wipe && !is_executor(&host) {
                    return Err(format!("{host} must not come back under its id with an empty disk"));
                }
                if is_client(&host) {
                    return Err(format!("{host} would not know any more what it had asked for"));
                }
                one(host)
            }
            Fault::PowerCycle => self.some(|name| is_scheduler(name) || is_executor(name)),
            Fault::RollingRestart { target, .. } => self.some(|name| match target.0.as_str() {
                "scheduler" => is_scheduler(name),
                "executor" => is_executor(name),
                other => name == other,
            }),
            Fault::LeaderInMinority => {
                let side = ["leader", "executor", "client"];
                side.iter().map(|role| self.resolve(&Target::new(*role), random)).collect()
            }
            Fault::Bridge { target } => {
                let host = self.resolve(target, random)?;
                let others = self.some(|name| is_scheduler(name) && name != host)?;
                if others.len() < 2 { Err("two other schedulers are needed".to_owned()) } else { one(host) }
            }
            Fault::DrainExecutor { target, .. } => {
                let host = self.executor(target, random)?;
                if self.is_up(&host) { one(host) } else { Err(format!("{host} is down already")) }
            }
            Fault::CorruptDisk { target, .. } => one(self.corruptible(target, random)?),
            Fault::CorruptShuffle { target, .. } | Fault::MemoryExhausted { target } => {
                one(self.executor(target, random)?)
            }
            Fault::ClientGone { target } => {
                let host = self.running(target, random)?;
                if is_client(&host) { one(host) } else { Err(format!("{host} is no client")) }
            }
            Fault::AddReplica => {
                let spare = self.hosts.iter().find(|(name, host)| is_scheduler(name) && !host.is_started());
                spare.map(|(name, _)| vec![name.clone()]).ok_or_else(|| "there is no spare host".to_owned())
            }
            Fault::RemoveReplica { target } => one(self.removable(target, random)?),
            Fault::StoreErrors { .. } | Fault::SlowStore { .. } | Fault::DuplicateDelivery { .. } => {
                Ok(Vec::new())
            }
            Fault::TransferLeadership => one(self.leader()?),
            Fault::Isolate { target, .. }
            | Fault::Flap { target, .. }
            | Fault::BlackHole { target }
            | Fault::SlowLink { target, .. }
            | Fault::LossyLink { target, .. }
            | Fault::CutStreams { target, .. }
            | Fault::DiskErrors { target, .. }
            | Fault::SlowDisk { target, .. }
            | Fault::DiskFull { target }
            | Fault::ClockJump { target, .. }
            | Fault::ClockDrift { target, .. }
            | Fault::Pause { target }
            | Fault::SlowCpu { target, .. } => one(self.resolve(target, random)?),
        }
    }

    fn leader(&self) -> Result<String, Reason> {
        let leader = self.leader.clone().filter(|leader| self.is_up(leader));
        leader.ok_or_else(|| "nobody leads".to_owned())
    }

    /// The host that a target means now.
    fn resolve(&self, target: &Target, random: &mut StdRng) -> Result<String, Reason> {
        let found = match target.0.as_str() {
            "leader" => return self.leader(),
            "follower" => self.some(|name| self.is_voter(name) && self.leader.as_deref() != Some(name))?,
            "scheduler" => self.some(|name| self.is_voter(name))?,
            "executor" => self.some(is_executor)?,
            "client" => self.some(is_client)?,
            name if self.hosts.get(name).is_some_and(|host| host.is_started()) => {
                return if self.gone.contains(name) {
                    Err(format!("{name} is gone"))
                } else {
                    Ok(name.to_owned())
                };
            }
            name => return Err(format!("there is no host {name}")),
        };
        let at = random.random_range(0..found.len());
        found.into_iter().nth(at).ok_or_else(|| "there is none".to_owned())
    }

    /// Hosts that run, at least one.
    fn some(&self, wish: impl Fn(&str) -> bool) -> Result<Vec<String>, Reason> {
        let found: Vec<_> =
            self.hosts.keys().filter(|name| self.is_up(name) && wish(name)).cloned().collect();
        if found.is_empty() { Err("no such host is up".to_owned()) } else { Ok(found) }
    }

    fn running(&self, target: &Target, random: &mut StdRng) -> Result<String, Reason> {
        let host = self.resolve(target, random)?;
        if self.is_up(&host) { Ok(host) } else { Err(format!("{host} is down already")) }
    }

    fn executor(&self, target: &Target, random: &mut StdRng) -> Result<String, Reason> {
        let host = self.resolve(target, random)?;
        if is_executor(&host) { Ok(host) } else { Err(format!("{host} is no executor")) }
    }

    fn corruptible(&self, target: &Target, random: &mut StdRng) -> Result<String, Reason> {
        let host = self.running(target, random)?;
        if is_client(&host) {
            return Err(format!("{host} has no files"));
        }
        if is_scheduler(&host) {
            self.has_formed()?;
            let disk = self.hosts.get(&host).map(crate::env::Host::disk);
            if disk.is_none_or(|disk| disk.damageable_bytes("/".as_ref(), Damage::Synced) == 0) {
                return Err(format!("{host} has written nothing yet"));
            }
            if !self.is_majority(self.sound().iter().filter(|name| **name != host).count()) {
                return Err(format!("without {host} no majority would be left"));
            }
        }
        Ok(host)
    }

    /// A new cluster needs all of its replicas once.
    fn has_formed(&self) -> Result<(), Reason> {
        if self.has_formed { Ok(()) } else { Err("the cluster has not formed yet".to_owned()) }
    }

    fn removable(&self, target: &Target, random: &mut StdRng) -> Result<String, Reason> {
        self.has_formed()?;
        let host = self.resolve(target, random)?;
        let left = self.sound().iter().filter(|name| **name != host).count();
        if !self.is_voter(&host) {
            Err(format!("{host} is no voter"))
        } else if left < MIN_VOTERS || !self.is_majority(left) {
            Err(format!("without {host} fewer than {MIN_VOTERS} voters would be left"))
        } else {
            Ok(host)
        }
    }

    fn is_voter(&self, name: &str) -> bool {
        is_scheduler(name) && !self.lost.contains(name)
    }

    /// The first replicas that can be counted on. One that was added later may not be a voter yet.
    pub(super) fn sound(&self) -> Vec<String> {
        let first = |name: &str| scheduler_id(name).is_some_and(|id| id <= self.schedule.cluster.schedulers);
        self.hosts.keys().filter(|name| first(name) && self.is_voter(name)).cloned().collect()
    }

    /// Whether so many of the first replicas are enough, be those that were lost still voters or not.
    pub(super) fn is_majority(&self, sound: usize) -> bool {
        2 * sound as u64 > self.schedule.cluster.schedulers
    }
}
