//! What each fault does when it begins.

use rand::{Rng, SeedableRng, rngs::StdRng};
use turmoil::Sim;

use super::{
    Active, AdminCall, Aim, Effect, Injector,
    agenda::Step,
    aim::{is_executor, is_scheduler, scheduler_id},
    effect::LinkEffect,
};
use crate::{
    env::{Damage, DiskKnobs},
    fault::{Fault, Way},
    schedule::Planned,
};

/// Where replicas listen.
const SCHEDULER_PORT: u16 = 7701;
/// How often it is looked whether there are shuffle files.
const LOOK_MS: u64 = 2;

impl Injector {
    /// True if it lasts; what is done at once and for good doesn't.
    pub(super) fn act(&mut self, sim: &mut Sim<'_>, planned: &Planned, mut aim: Aim) -> bool {
        let id = planned.id;
        let host = aim.hosts.first().cloned().unwrap_or_default();
        match &planned.fault {
            Fault::Crash { power_loss, wipe, .. } => {
                self.fall(sim, &aim.hosts, *power_loss, id);
                if let Some(host) = self.hosts.get(&host).filter(|_| *wipe) {
                    host.disk().wipe();
                }
            }
            Fault::PowerCycle => self.fall(sim, &aim.hosts, true, id),
            Fault::RollingRestart { down_ms, gap_ms, .. } => {
                let roll = Step::Roll { id, hosts: aim.hosts, down_ms: *down_ms, gap_ms: *gap_ms };
                self.agenda.add(self.now_ms, roll);
            }
            Fault::CorruptDisk { bits, .. } => self.corrupt_disk(sim, id, &host, *bits, &mut aim),
            Fault::CorruptShuffle { bits, .. } => {
                self.agenda.add(self.now_ms, Step::Corrupt { id, host, bits: *bits });
            }
            Fault::ClockJump { by_ms, .. } => {
                if let Some(host) = self.hosts.get(&host) {
                    host.clock().jump(*by_ms);
                }
                return false;
            }
            Fault::ClientGone { .. } => {
                self.gone.insert(host);
                self.fall(sim, &aim.hosts, aim.random.random_bool(0.5), id);
                return false;
            }
            Fault::AddReplica => {
                if let (Some(added), Some(id)) = (self.hosts.get(&host), scheduler_id(&host)) {
                    added.set_started(true);
                    self.operator.push(AdminCall::Add { id, address: format!("{host}:{SCHEDULER_PORT}") });
                }
                return false;
            }
            Fault::RemoveReplica { .. } => {
                if let Some(id) = scheduler_id(&host) {
                    self.operator.push(AdminCall::Remove { id });
                }
                self.lost.insert(host);
                return false;
            }
            Fault::TransferLeadership => {
                self.operator.push(AdminCall::Transfer);
                return false;
            }
            Fault::DrainExecutor { deadline_ms, by_signal, .. } => {
                let deadline_ms = *deadline_ms;
                match self.hosts.get(&host).filter(|_| *by_signal) {
                    Some(host) => host.signal(deadline_ms),
                    None => self.operator.push(AdminCall::Drain { executor: host, deadline_ms }),
                }
                return false;
            }
            lasting => {
                let effects = self.effects(lasting, &host, aim);
                if let Some(Active { effects: present, .. }) = self.active.get_mut(&id) {
                    *present = effects;
                }
                if let Fault::Flap { period_ms, .. } = lasting {
                    let flip = Step::Flip { id, period_ms: *period_ms };
                    self.agenda.add(self.now_ms + (*period_ms).max(1), flip);
                }
            }
        }
        true
    }

    /// Waits until there is something to damage: shuffle files are short-lived.
    pub(super) fn corrupt_shuffle(&mut self, sim: &mut Sim<'_>, id: u32, name: String, bits: u32) {
        let Some(host) = self.hosts.get(&name).filter(|_| self.active.contains_key(&id)) else { return };
        let mut random = StdRng::seed_from_u64(self.schedule.fork(&format!("bits {id}")));
        if host.disk().flip_bits("/".as_ref(), Damage::Any, bits, &mut random).is_empty() {
            self.agenda.add(self.now_ms + LOOK_MS, Step::Corrupt { id, host: name, bits });
        } else {
            self.end(sim, id);
        }
    }

    fn corrupt_disk(&mut self, sim: &mut Sim<'_>, id: u32, name: &str, bits: u32, aim: &mut Aim) {
        self.fall(sim, &aim.hosts, false, id);
        // A replica may tear what was not synced; only what was must it keep.
        let damage = if is_executor(name) { Damage::Any } else { Damage::Synced };
        if let Some(host) = self.hosts.get(name) {
            host.disk().flip_bits("/".as_ref(), damage, bits, &mut aim.random);
        }
        if is_scheduler(name) {
            self.lost.insert(name.to_owned());
        }
    }

    /// What holds while a fault lasts that takes no host down.
    fn effects(&self, fault: &Fault, name: &str, aim: Aim) -> Vec<Effect> {
        let host = name.to_owned();
        let disk = |knobs| vec![Effect::Disk { host: host.clone(), knobs }];
        match fault {
            Fault::Isolate { way, .. } => {
                let [out, into] = self.isolated(name);
                match way {
                    Way::Both => vec![out, into],
                    Way::In => vec![into],
                    Way::Out => vec![out],
                }
            }
            Fault::Flap { .. } => self.isolated(name).into(),
            Fault::LeaderInMinority => {
                let others = self.hosts.keys().filter(|name| !aim.hosts.contains(name)).cloned().collect();
                LinkEffect::between(aim.hosts, others).into()
            }
            Fault::Bridge { .. } => {
                let others: Vec<_> = self
                    .hosts
                    .keys()
                    .filter(|other| is_scheduler(other) && *other != name)
                    .cloned()
                    .collect();
                let (one, other) = others.split_at(others.len() / 2);
                LinkEffect::between(one.to_vec(), other.to_vec()).into()
            }
            Fault::BlackHole { .. } => vec![Effect::Link(LinkEffect::Hold { host })],
            Fault::Pause { .. } => {
                vec![Effect::Link(LinkEffect::Hold { host: host.clone() }), Effect::Pause { host }]
            }
            Fault::SlowLink { latency_ms, .. } => {
                vec![Effect::Link(LinkEffect::Slow { host, latency_ms: *latency_ms })]
            }
            Fault::LossyLink { rate, .. } => vec![Effect::Link(LinkEffect::Lossy { host, rate: *rate })],
            Fault::CutStreams { rate, .. } => vec![Effect::CutStreams { host, rate: *rate }],
            Fault::DiskErrors { rate, .. } => disk(DiskKnobs { error_rate: *rate, ..DiskKnobs::default() }),
            Fault::SlowDisk { latency_ms, .. } => {
                disk(DiskKnobs { extra_ms: *latency_ms, ..DiskKnobs::default() })
            }
            Fault::DiskFull { .. } => disk(DiskKnobs { full: true, ..DiskKnobs::default() }),
            Fault::ClockDrift { ppm, .. } => vec![Effect::ClockDrift { host, ppm: *ppm }],
            Fault::SlowCpu { factor, .. } => vec![Effect::SlowCpu { host, factor: *factor }],
            Fault::MemoryExhausted { .. } => vec![Effect::NoMemory { host }],
            Fault::StoreErrors { rate } => vec![Effect::Store { error_rate: *rate, extra_ms: 0 }],
            Fault::SlowStore { latency_ms } => {
                vec![Effect::Store { error_rate: 0.0, extra_ms: *latency_ms }]
            }
            Fault::DuplicateDelivery { rate } => vec![Effect::Duplicates { rate: *rate }],
            Fault::Crash { .. }
            | Fault::PowerCycle
            | Fault::RollingRestart { .. }
            | Fault::CorruptDisk { .. }
            | Fault::CorruptShuffle { .. }
            | Fault::ClockJump { .. }
            | Fault::ClientGone { .. }
            | Fault::AddReplica
            | Fault::RemoveReplica { .. }
            | Fault::TransferLeadership
            | Fault::DrainExecutor { .. } => Vec::new(),
        }
    }
}
