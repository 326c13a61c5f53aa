//! Makes the world as all present effects say.

use std::time::Duration;

use turmoil::Sim;

use super::{
    Injector,
    effect::{Effect, LinkEffect},
    links,
};
use crate::env::DiskKnobs;

/// All that is wrong with one host.
#[derive(Debug, Clone, Copy, Default)]
struct Wrong {
    disk: DiskKnobs,
    cut_rate: f64,
    ppm: i64,
    paused: bool,
    factor: u32,
    no_memory: bool,
}

impl Wrong {
    fn add(&mut self, effect: &Effect, name: &str) {
        match effect {
            Effect::Disk { host, knobs } if host == name => {
                self.disk.error_rate = self.disk.error_rate.max(knobs.error_rate.clamp(0.0, 1.0));
                self.disk.extra_ms = self.disk.extra_ms.max(knobs.extra_ms);
                self.disk.full |= knobs.full;
            }
            Effect::CutStreams { host, rate } if host == name => self.cut_rate = self.cut_rate.max(*rate),
            Effect::ClockDrift { host, ppm } if host == name => self.ppm += ppm,
            Effect::Pause { host } if host == name => self.paused = true,
            Effect::SlowCpu { host, factor } if host == name => self.factor = self.factor.max(*factor),
            Effect::NoMemory { host } if host == name => self.no_memory = true,
            Effect::Link(_)
            | Effect::Disk { .. }
            | Effect::CutStreams { .. }
            | Effect::ClockDrift { .. }
            | Effect::Pause { .. }
            | Effect::SlowCpu { .. }
            | Effect::NoMemory { .. }
            | Effect::Store { .. }
            | Effect::Duplicates { .. } => {}
        }
    }
}

impl Injector {
    pub(super) fn settle(&mut self, sim: &mut Sim<'_>) {
        let refusing = self.refusing.iter().flat_map(|host| self.isolated(host));
        let effects: Vec<Effect> = self
            .active
            .values()
            .flat_map(|active| active.effects.iter().cloned())
            .chain(self.left_isolated.iter().cloned())
            .chain(refusing)
            .collect();
        self.settle_links(sim, &effects);
        for (name, host) in &self.hosts {
            let mut wrong = Wrong::default();
            effects.iter().for_each(|effect| wrong.add(effect, name));
            host.disk().set_knobs(wrong.disk);
            host.net().set_cut_rate(wrong.cut_rate);
            host.clock().set_drift(wrong.ppm, self.now);
            host.pause().set(wrong.paused);
            host.cpu().set_factor(u64::from(wrong.factor));
            host.memory().set_exhausted(wrong.no_memory);
        }
        let (mut error_rate, mut extra_ms, mut duplicates) = (0.0_f64, 0, 0.0_f64);
        for effect in &effects {
            if let Effect::Store { error_rate: rate, extra_ms: ms } = effect {
                (error_rate, extra_ms) = (error_rate.max(*rate), extra_ms.max(*ms));
            } else if let Effect::Duplicates { rate } = effect {
                duplicates = duplicates.max(*rate);
            }
        }
        self.store.set_faults(error_rate, extra_ms);
        self.knobs.set_duplicate_rate(duplicates);
    }

    fn settle_links(&mut self, sim: &mut Sim<'_>, effects: &[Effect]) {
        let cluster = &self.schedule.cluster;
        let min = Duration::from_micros(cluster.min_latency_us);
        let max = Duration::from_micros(cluster.max_latency_us).max(min);
        let of_links = effects.iter().filter_map(|effect| match effect {
            Effect::Link(link) => Some(link),
            _ => None,
        });
        for change in self.links.settle(of_links) {
            links::apply(sim, &change, min, max);
        }
    }

    /// The effects that cut a host off from all others.
    pub(super) fn isolated(&self, host: &str) -> [Effect; 2] {
        LinkEffect::between(vec![host.to_owned()], self.others(host))
    }

    pub(super) fn others(&self, host: &str) -> Vec<String> {
        self.hosts.keys().filter(|name| *name != host).cloned().collect()
    }
}
