//! Hosts that go down and come up.

use turmoil::Sim;

use super::{Injector, UNPLANNED, agenda::Step};
use crate::{moment::What, tape};

/// Longest outage by a failpoint once all is healed: the caller waits there for its host's end.
const CALM_DOWN_MS: u64 = 200;

impl Injector {
    /// Takes hosts down together, until what `by` names ends.
    ///
    /// turmoil runs the destructors of what it crashes. After a power cut nobody must hear of them, so the links are cut
    /// before, and whoever connects then hears nothing. After the end of a process its peers do, and then, once that is
    /// delivered, the machine refuses connections.
    pub(super) fn fall(&mut self, sim: &mut Sim<'_>, hosts: &[String], power_loss: bool, by: u32) {
        if power_loss {
            self.refusing.extend(hosts.iter().cloned());
            self.settle(sim);
        }
        for host in hosts {
            sim.crash(host.as_str());
            tape::record_of(host.as_str(), What::Down { power_loss });
            if let Some(host) = self.hosts.get(host) {
                if power_loss { host.disk().power_loss() } else { host.disk().kill() }
            }
            self.down.insert(host.clone(), by);
            self.refusing.remove(host);
            if !power_loss {
                let delivered_ms = self.schedule.cluster.max_latency_us.div_ceil(1_000) + 2;
                let refuse = Step::Refuse { host: host.clone(), by };
                self.agenda.add(self.now_ms + delivered_ms, refuse);
            }
        }
        self.settle(sim);
    }

    pub(super) fn rise(&mut self, sim: &mut Sim<'_>, host: &str, by: u32) {
        if self.down.get(host) != Some(&by) || self.left.contains(host) || self.gone.contains(host) {
            return;
        }
        self.down.remove(host);
        self.refusing.remove(host);
        self.settle(sim);
        sim.bounce(host);
    }

    /// Takes down a host for some time, for a reason that is not in the schedule.
    pub(super) fn outage(&mut self, sim: &mut Sim<'_>, host: &str, power_loss: bool, down_ms: u64) {
        self.look(sim, self.now_ms);
        if !self.is_up(host) {
            let (name, reason) = ("outage", format!("{host} is down already"));
            return tape::record_of(tape::WORLD, What::FaultSkipped { id: UNPLANNED, name, reason });
        }
        let by = self.next_unplanned;
        self.next_unplanned -= 1;
        self.fall(sim, &[host.to_owned()], power_loss, by);
        let down_ms = if self.healed && power_loss { down_ms.min(CALM_DOWN_MS) } else { down_ms };
        self.agenda.add(self.now_ms + down_ms.max(1), Step::Rise { host: host.to_owned(), by });
    }

    pub(super) fn carry_out(&mut self, sim: &mut Sim<'_>, step: Step) {
        match step {
            Step::Begin(planned) => self.begin(sim, &planned),
            Step::End { id } => self.end(sim, id),
            Step::Rise { host, by } => self.rise(sim, &host, by),
            Step::Refuse { host, by } => {
                if self.down.get(&host) == Some(&by) {
                    self.refusing.insert(host);
                    self.settle(sim);
                }
            }
            Step::Corrupt { id, host, bits } => self.corrupt_shuffle(sim, id, host, bits),
            Step::Flip { id, period_ms } => {
                if let Some(active) = self.active.get_mut(&id) {
                    std::mem::swap(&mut active.effects, &mut active.off);
                    self.agenda.add(self.now_ms + period_ms.max(1), Step::Flip { id, period_ms });
                    self.settle(sim);
                }
            }
            Step::Roll { id, hosts, down_ms, gap_ms } => self.roll(sim, id, hosts, (down_ms, gap_ms)),
        }
    }

    fn roll(&mut self, sim: &mut Sim<'_>, id: u32, mut hosts: Vec<String>, (down_ms, gap_ms): (u64, u64)) {
        if !self.active.contains_key(&id) {
            return;
        }
        if hosts.is_empty() {
            return self.end(sim, id);
        }
        let host = hosts.remove(0);
        if self.is_up(&host) {
            self.fall(sim, std::slice::from_ref(&host), false, id);
            self.agenda.add(self.now_ms + down_ms.max(1), Step::Rise { host, by: id });
        }
        let next_ms = self.now_ms + down_ms.max(1) + gap_ms;
        self.agenda.add(next_ms, Step::Roll { id, hosts, down_ms, gap_ms });
    }
}
