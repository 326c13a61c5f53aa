//! The end of all faults: a random quorum is healed, and the rest may stay broken.

use rand::{Rng, SeedableRng, rngs::StdRng};
use turmoil::Sim;

use super::{Injector, UNPLANNED, aim::is_executor};
use crate::{moment::What, tape};

/// Executors or schedulers of which one may be left out: fewer are all needed.
const MIN_EXECUTORS: usize = 2;
const MIN_SCHEDULERS: usize = 3;

/// What is not healed.
#[derive(Debug, Default)]
struct LeftOut {
    scheduler: Option<String>,
    /// The scheduler is cut off, and not down.
    is_isolated: bool,
    executor: Option<String>,
}

impl Injector {
    /// Ends everything. Returns the hosts that are promised to work from now on.
    pub fn heal(&mut self, sim: &mut Sim<'_>) -> Vec<String> {
        self.look(sim, self.now_ms);
        self.healed = true;
        self.agenda.calm();
        self.give_up_anchored();
        self.leave_out(sim);
        let active: Vec<u32> = self.active.keys().copied().collect();
        for id in active {
            self.end(sim, id);
        }
        let down: Vec<(String, u32)> = self.down.iter().map(|(host, by)| (host.clone(), *by)).collect();
        for (host, by) in down {
            self.rise(sim, &host, by);
        }
        self.settle(sim);
        self.healthy()
    }

    fn leave_out(&mut self, sim: &mut Sim<'_>) {
        let LeftOut { scheduler, is_isolated, executor } = self.draw_left_out();
        for (host, isolated) in [(scheduler, is_isolated), (executor, false)] {
            let Some(host) = host else { continue };
            let name = if isolated { "left-isolated" } else { "left-down" };
            let begins = What::FaultBegins { id: UNPLANNED, name, target: host.clone() };
            tape::record_of(tape::WORLD, begins);
            if isolated {
                self.left_isolated.extend(self.isolated(&host));
            } else if self.is_up(&host) {
                self.fall(sim, std::slice::from_ref(&host), false, UNPLANNED);
            }
            // An isolated one that is down comes up all the same.
            if isolated && let Some(by) = self.down.get(&host).copied() {
                self.rise(sim, &host, by);
            }
            self.left.insert(host);
        }
    }

    /// Half of the runs that have faults heal all. A run without any stays as it is.
    fn draw_left_out(&self) -> LeftOut {
        let mut random = StdRng::seed_from_u64(self.schedule.fork("heal"));
        let (leave, scheduler, is_isolated, executor) = (
            random.random_bool(0.5),
            random.random_bool(0.7),
            random.random_bool(0.5),
            random.random_bool(0.5),
        );
        let (which, which_executor) = (random.random::<u64>(), random.random::<u64>());
        if !leave || self.schedule.faults.is_empty() {
            return LeftOut::default();
        }
        let pick = |names: Vec<String>, drawn: u64| {
            let at = (drawn % names.len().max(1) as u64) as usize;
            names.into_iter().nth(at)
        };
        let sound = self.sound();
        let spare = sound.len() >= MIN_SCHEDULERS && self.is_majority(sound.len() - 1);
        let executors: Vec<_> = self.hosts.keys().filter(|name| is_executor(name)).cloned().collect();
        let spare_executor = executors.len() >= MIN_EXECUTORS;
        LeftOut {
            scheduler: if spare && scheduler { pick(sound, which) } else { None },
            is_isolated,
            executor: if spare_executor && executor { pick(executors, which_executor) } else { None },
        }
    }
}
