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

/// Where an executor may let rows of a small result be fetched. Neither way is rare: in a third of all runs none come along
/// with their report, in another one all, and in the rest each is decided by itself.
const ROWS_KEPT_BACK: &str = "executor.rows_kept_back";
const RATES_KEPT_BACK: [f64; 3] = [0.0, 0.5, 1.0];

/// Where a leader may believe that the tasks of a stage need more memory than any executor has: its tables are too small for
/// any to wait by what they really need. In half of all runs it never does, and else of some stages.
const ESTIMATE_HIGH: &str = "scheduler.estimate_high";
const RATES_ESTIMATE_HIGH: [f64; 2] = [0.0, 0.2];

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
    /// Apart from `random`, so that other points are decided as they would be without it.
    kept_back: StdRng,
    kept_back_rate: f64,
    /// Likewise.
    estimate_high: StdRng,
    estimate_high_rate: f64,
}

impl Points {
    fn decide(&mut self, point: &'static str) -> bool {
        if point == ROWS_KEPT_BACK {
            return self.kept_back.random_bool(self.kept_back_rate);
        }
        if point == ESTIMATE_HIGH {
            return self.estimate_high.random_bool(self.estimate_high_rate);
        }
        let rate = self.knobs.duplicate_rate();
        rate > 0.0 && self.random.random_bool(rate.min(1.0))
    }
}

/// The run loop's end.
pub(super) struct Hooked(Arc<Mutex<Points>>);

pub(super) fn install(schedule: &Schedule, knobs: Knobs) -> Hooked {
    let mut kept_back = StdRng::seed_from_u64(schedule.fork("rows-kept-back"));
    let kept_back_rate = RATES_KEPT_BACK[kept_back.random_range(0..RATES_KEPT_BACK.len())];
    let mut estimate_high = StdRng::seed_from_u64(schedule.fork("estimate-high"));
    let estimate_high_rate = RATES_ESTIMATE_HIGH[estimate_high.random_range(0..RATES_ESTIMATE_HIGH.len())];
    let points = Points {
        rules: schedule.failpoints.clone(),
        hits: BTreeMap::new(),
        requests: Vec::new(),
        random: StdRng::seed_from_u64(schedule.fork("buggify")),
        knobs,
        kept_back,
        kept_back_rate,
        estimate_high,
        estimate_high_rate,
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
