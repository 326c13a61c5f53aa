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
}

/// The run loop's end.
pub(super) struct Hooked(Arc<Mutex<Points>>);

pub(super) fn install(schedule: &Schedule, knobs: Knobs) -> Hooked {
    let points = Points {
        rules: schedule.failpoints.clone(),
        hits: BTreeMap::new(),
        requests: Vec::new(),
        random: StdRng::seed_from_u64(schedule.fork("buggify")),
        knobs,
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
        let rate = points.knobs.duplicate_rate();
        let rare = rate > 0.0 && points.random.random_bool(rate.min(1.0));
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
