//! The simulator's side of failpoints, marks and facts in the real code.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use polybolos_model::simulation::{self, Fact, Hold, Hooks};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    faults::Knobs,
    moment::What,
    schedule::{Failpoint, Schedule, Then},
    tape,
};

/// Points of which neither way is rare: each with the name of its fork, and how often it is taken, which a run draws.
const COINS: [(&str, &str, &[f64]); 3] = [
    // An executor lets rows of a small result be fetched: in a third of all runs none come along with their report, in
    // another one all, and in the rest each is decided by itself.
    ("executor.rows_kept_back", "rows-kept-back", &[0.0, 0.5, 1.0]),
    // A leader believes that the tasks of a stage need more memory than any executor has: its tables are too small for any
    // to wait by what they really need.
    ("scheduler.estimate_high", "estimate-high", &[0.0, 0.2]),
    // A leader has too much to plan, so that a replica plans that does not lead: nothing here takes long to plan.
    ("scheduler.plan_elsewhere", "plan-elsewhere", &[0.0, 0.6]),
];

/// What a failpoint asks of the run loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    PowerLoss { host: Arc<str>, down_ms: u64 },
}

struct Points {
    rules: Vec<Failpoint>,
    hits: BTreeMap<&'static str, u64>,
    requests: Vec<Request>,
    random: StdRng,
    knobs: Knobs,
    /// Apart from `random` and from each other, so that no point changes how others are decided.
    coins: BTreeMap<&'static str, Coin>,
}

/// Of [`COINS`].
struct Coin {
    random: StdRng,
    rate: f64,
}

impl Coin {
    fn draw(schedule: &Schedule, fork: &str, rates: &[f64]) -> Self {
        let mut random = StdRng::seed_from_u64(schedule.fork(fork));
        let rate = rates[random.random_range(0..rates.len())];
        Self { random, rate }
    }

    fn toss(&mut self) -> bool {
        self.random.random_bool(self.rate)
    }
}

impl Points {
    fn decide(&mut self, point: &'static str) -> bool {
        if let Some(coin) = self.coins.get_mut(point) {
            return coin.toss();
        }
        let rate = self.knobs.duplicate_rate();
        rate > 0.0 && self.random.random_bool(rate.min(1.0))
    }
}

/// The run loop's end.
pub(super) struct Hooked(Arc<Mutex<Points>>);

pub(super) fn install(schedule: &Schedule, knobs: Knobs) -> Hooked {
    let coin =
        |(point, fork, rates): (&'static str, &str, &[f64])| (point, Coin::draw(schedule, fork, rates));
    let points = Points {
        rules: schedule.failpoints.clone(),
        hits: BTreeMap::new(),
        requests: Vec::new(),
        random: StdRng::seed_from_u64(schedule.fork("buggify")),
        knobs,
        coins: COINS.into_iter().map(coin).collect(),
    };
    let points = Arc::new(Mutex::new(points));
    simulation::install(Box::new(SimHooks(Arc::clone(&points))));
    Hooked(points)
}

impl Hooked {
    pub(super) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut lock(&self.0).requests)
    }

    /// How often each failpoint was reached.
    pub(super) fn hits(&self) -> BTreeMap<String, u64> {
        lock(&self.0).hits.iter().map(|(point, hits)| ((*point).to_owned(), *hits)).collect()
    }
}

struct SimHooks(Arc<Mutex<Points>>);

fn lock(points: &Mutex<Points>) -> MutexGuard<'_, Points> {
    points.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hooks for SimHooks {
    fn reach(&self, point: &'static str) -> Hold {
        let mut points = lock(&self.0);
        let hits = points.hits.entry(point).or_default();
        *hits += 1;
        let hit = *hits;
        let then = points.rules.iter().find(|rule| rule.point == point && rule.hit == hit)?.then.clone();
        tape::record(What::Failpoint { point, hit, then: format!("{then:?}") });
        match then {
            Then::Hold { ms } => Some(Box::pin(tokio::time::sleep(Duration::from_millis(ms)))),
            Then::PowerLoss { down_ms } => {
                points.requests.push(Request::PowerLoss { host: tape::host(), down_ms });
                // The run loop cuts the power before the next tick.
                Some(Box::pin(std::future::pending()))
            }
        }
    }

    fn decide(&self, point: &'static str) -> bool {
        let mut points = lock(&self.0);
        let rare = points.decide(point);
        if rare {
            let hits = points.hits.entry(point).or_default();
            *hits += 1;
            let hit = *hits;
            tape::record(What::Failpoint { point, hit, then: "taken".to_owned() });
        }
        rare
    }

    fn mark(&self, mark: &'static str) {
        tape::record(What::Mark(mark));
    }

    fn report(&self, fact: Fact) {
        tape::record(What::Fact(fact));
    }
}
