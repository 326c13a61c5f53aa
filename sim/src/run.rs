//! One run of a schedule: hosts on turmoil, faults, oracles, and what came of it.
//!
//! ```text
//!   Schedule ─▶ hosts (run/hosts.rs) on turmoil ─▶ tape ─▶ Judge (oracles) ─▶ Summary
//!                        ▲      each tick            │
//!                        └── Injector (faults/) ◀────┴── leader, failpoints (run/hooks.rs)
//!
//!   safety: faults come and go ─▶ healed ─▶ liveness: clients end ─▶ at rest: nothing is left over
//! ```
//!
//! One process runs one schedule. Deliberately absent: any choice. The schedule and its seed have made them all.

mod hooks;
mod hosts;
mod operator;
mod summary;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use polybolos_model::{Term, simulation::Fact};
use turmoil::Sim;

pub use self::summary::{Broken, Summary};
use self::{
    hooks::{Hooked, Request},
    hosts::Hosts,
};
use crate::{
    coverage::Coverage,
    faults::Injector,
    moment::{Moment, What},
    oracles::{self, Judge, Violation},
    schedule::Schedule,
    tape,
};

/// Wall clocks of a simulation start at this time since the Unix epoch.
const EPOCH_S: u64 = 1_000_000_000;
const TICK: Duration = Duration::from_millis(1);
/// How often it is looked whether everything is at rest.
const REST_INTERVAL_MS: u64 = 100;
/// A process that has exited is started again after so long, as a supervisor would.
const RESTART_MS: u64 = 500;
/// Beyond every phase, so that turmoil's own limit is never met.
const ENDLESS: Duration = Duration::from_secs(100_000);

/// Where a panic of the real code is put down.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Runs a schedule to its end, or to the first promise that is broken. `sink` gets every moment in order.
///
/// Once a process: the tape, the hooks and libc's clocks are the process's.
pub fn run(schedule: &Schedule, sink: &mut dyn FnMut(&Moment)) -> Summary {
    note_panics();
    let schedule = Arc::new(schedule.clone());
    let mut summary = Summary::new(&schedule);
    let mut sim = build(&schedule);
    let hosts = Hosts::new(&schedule);
    let hooked = hooks::install(&schedule, hosts.knobs());
    let injector = hosts.start(&mut sim);
    let mut run = Run {
        judge: Judge::new(&schedule),
        coverage: Coverage::new(&schedule),
        schedule,
        hosts,
        hooked,
        injector,
        leader: None,
        healed_at_ms: None,
        rest_at_ms: 0,
        sink,
        summary: &mut summary,
    };
    let ended = run.play(&mut sim);
    let Run { coverage, hooked, judge, .. } = run;
    (summary.jobs, summary.jobs_hit) = judge.jobs_and_hit();
    summary.elapsed_ms = ms(sim.elapsed());
    summary.marks = coverage.into_counts();
    summary.failpoints = hooked.hits();
    summary.violation = ended.err().map(|violation| Broken {
        oracle: violation.oracle.to_owned(),
        what: violation.what,
        at_ms: summary.elapsed_ms,
    });
    // Dropping the hosts runs destructors of the real code, which have nothing more to say.
    std::mem::forget(sim);
    summary
}

fn build(schedule: &Schedule) -> Sim<'static> {
    let cluster = &schedule.cluster;
    turmoil::Builder::new()
        .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH_S))
        .simulation_duration(ENDLESS)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_micros(cluster.min_latency_us))
        .max_message_latency(Duration::from_micros(cluster.max_latency_us.max(cluster.min_latency_us)))
        .tcp_capacity(cluster.tcp_capacity)
        .rng_seed(schedule.fork("network"))
        .build()
}

struct Run<'a> {
    schedule: Arc<Schedule>,
    hosts: Hosts,
    hooked: Hooked,
    injector: Injector,
    judge: Judge,
    coverage: Coverage,
    /// The replica that was elected last, and its term.
    leader: Option<(Term, Arc<str>)>,
    healed_at_ms: Option<u64>,
    rest_at_ms: u64,
    sink: &'a mut dyn FnMut(&Moment),
    summary: &'a mut Summary,
}

impl Run<'_> {
    fn play(&mut self, sim: &mut Sim<'static>) -> Result<(), Violation> {
        loop {
            tape::set_now(sim.elapsed());
            let stepped = sim.step();
            tape::set_now(sim.elapsed());
            self.take_moments()?;
            if let Some(panic) = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Err(Violation { oracle: "no-panic", what: panic });
            }
            if let Err(error) = stepped {
                return Err(Violation { oracle: "no-panic", what: format!("a host ended: {error}") });
            }
            let now_ms = ms(sim.elapsed());
            self.serve_requests(sim);
            let leader = self.leader.as_ref().map(|(_, host)| Arc::clone(host));
            self.injector.step(sim, now_ms, leader.as_deref());
            self.injector.follow(sim, self.judge.reference().state());
            if self.is_over(sim, now_ms)? {
                return Ok(());
            }
        }
    }

    fn take_moments(&mut self) -> Result<(), Violation> {
        for moment in tape::take() {
            if let What::Fact(Fact::Elected { term, .. }) = &moment.what
                && self.leader.as_ref().is_none_or(|(known, _)| known < term)
            {
                self.leader = Some((*term, Arc::clone(&moment.host)));
            }
            self.summary.count(&moment);
            self.injector.on(&moment);
            self.coverage.on(&moment);
            (self.sink)(&moment);
            self.judge.on(&moment)?;
        }
        Ok(())
    }

    fn serve_requests(&mut self, sim: &mut Sim<'static>) {
        for request in self.hooked.requests() {
            match request {
                Request::PowerLoss { host, down_ms } => self.injector.power_loss(sim, &host, down_ms),
            }
        }
        for host in self.hosts.exited() {
            self.injector.restart(sim, &host, RESTART_MS);
        }
    }

    /// Goes from phase to phase.
    fn is_over(&mut self, sim: &mut Sim<'static>, now_ms: u64) -> Result<bool, Violation> {
        let done = self.hosts.clients_done(self.injector.clients_gone());
        let Some(healed_at_ms) = self.healed_at_ms else {
            if now_ms >= self.schedule.phases.heal_at_ms || done {
                self.summary.healthy = self.injector.heal(sim);
                self.healed_at_ms = Some(now_ms);
                tape::record_of(tape::WORLD, What::Phase("healed"));
            }
            return Ok(false);
        };
        let late = now_ms >= healed_at_ms + self.schedule.phases.liveness_ms;
        if !done {
            return if late { Err(self.stuck()) } else { Ok(false) };
        }
        if now_ms < self.rest_at_ms {
            return Ok(false);
        }
        self.rest_at_ms = now_ms + REST_INTERVAL_MS;
        let rest = self.hosts.rest(self.injector.healthy());
        match self.judge.at_rest(&rest) {
            Ok(()) => Ok(true),
            Err(left) if late => Err(left),
            Err(_) => Ok(false),
        }
    }

    fn stuck(&self) -> Violation {
        let liveness_ms = self.schedule.phases.liveness_ms;
        let pending = self.judge.pending();
        let what = format!("{liveness_ms} ms after the faults stopped, these are pending: {pending}");
        Violation { oracle: oracles::LIVENESS, what }
    }
}

/// A panic ends a task, whose caller may or may not notice; here it is always a violation.
fn note_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let mut noted = PANIC.lock().unwrap_or_else(PoisonError::into_inner);
        noted.get_or_insert_with(|| format!("{}: {panic}", tape::host()));
    }));
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
