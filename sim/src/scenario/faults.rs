//! The faults and failpoints of a schedule: those with fixed times, and random ones by their mean gap.

use rand::{Rng, SeedableRng, rngs::StdRng};
use toml::{Table, Value};

use super::{Scenario, ScenarioError, draw};
use crate::{
    fault::Fault,
    schedule::{Failpoint, Planned, Then, fork},
};

/// The cluster forms before random faults begin.
const FROM_MS: u64 = 800;

/// Those of a seed, in the order of time.
pub(super) fn faults(scenario: &Scenario, seed: u64, heal_at_ms: u64) -> Result<Vec<Planned>, ScenarioError> {
    let intensity = intensity(scenario, seed)?;
    let max_faults = number(seed, "max_faults", scenario.max_faults.as_ref(), 64)?;
    let mut faults = Vec::new();
    for (index, item) in scenario.faults.iter().enumerate() {
        faults.extend(fixed(seed, intensity, &format!("fault {}", index + 1), item.clone())?);
    }
    for (index, item) in scenario.random_faults.iter().enumerate() {
        let name = format!("random-fault {}", named(item, index));
        faults.extend(random(seed, intensity, &name, item.clone(), heal_at_ms)?);
    }
    faults.retain(|planned| planned.at_ms < heal_at_ms);
    Ok(numbered(thinned(seed, faults, usize::try_from(max_faults).unwrap_or(usize::MAX))))
}

pub(super) fn failpoints(scenario: &Scenario, seed: u64) -> Result<Vec<Failpoint>, ScenarioError> {
    let intensity = intensity(scenario, seed)?;
    let mut failpoints = Vec::new();
    for (index, item) in scenario.failpoints.iter().enumerate() {
        let name = format!("failpoint {}", index + 1);
        if let Some(mut failpoint) = failpoint(seed, intensity, &name, item.clone())? {
            failpoint.id = u32::try_from(failpoints.len() + 1).unwrap_or(u32::MAX);
            failpoints.push(failpoint);
        }
    }
    Ok(failpoints)
}

fn intensity(scenario: &Scenario, seed: u64) -> Result<u64, ScenarioError> {
    number(seed, "intensity_percent", scenario.intensity_percent.as_ref(), 100)
}

fn number(seed: u64, key: &str, choice: Option<&Value>, default: u64) -> Result<u64, ScenarioError> {
    choice.map_or(Ok(default), |choice| draw::read(key, draw::value(seed, key, choice)?))
}

/// By its kind rather than by its place, so that an item taken out leaves the others as they are.
fn named(item: &Table, index: usize) -> String {
    let name = item.get("name").or_else(|| item.get("fault")).and_then(Value::as_str);
    name.map_or_else(|| (index + 1).to_string(), str::to_owned)
}

/// Whether this seed has the item.
fn takes_part(seed: u64, intensity: u64, name: &str, item: &mut Table) -> Result<bool, ScenarioError> {
    let percent = draw::take::<u64>(seed, name, item, "in_percent")?.unwrap_or(100);
    // What is always there is not thinned, but for seeds that have nothing at all.
    let percent = if percent >= 100 && intensity > 0 { 100 } else { percent * intensity / 100 };
    let drawn = StdRng::seed_from_u64(fork(seed, &format!("{name} takes part"))).random_range(0..100);
    Ok(drawn < percent)
}

fn fixed(seed: u64, intensity: u64, name: &str, mut item: Table) -> Result<Option<Planned>, ScenarioError> {
    if !takes_part(seed, intensity, name, &mut item)? {
        return Ok(None);
    }
    let missing = ScenarioError::MissingKey { item: name.to_owned(), key: "at_ms" };
    let at_ms = draw::take(seed, name, &mut item, "at_ms")?.ok_or(missing)?;
    let for_ms = draw::take(seed, name, &mut item, "for_ms")?;
    let mut moment = |key: &str| item.remove(key).map(|when| draw::read(name, when)).transpose();
    let (when, until) = (moment("when")?, moment("until")?);
    let fault: Fault = draw::read_exactly(name, draw::table(seed, name, &item)?)?;
    Ok(Some(Planned { id: 0, at_ms, for_ms, fault, when, until }))
}

/// Gaps are equally often anything up to twice their mean.
fn random(
    seed: u64,
    intensity: u64,
    name: &str,
    mut item: Table,
    heal_at_ms: u64,
) -> Result<Vec<Planned>, ScenarioError> {
    if !takes_part(seed, intensity, name, &mut item)? {
        return Ok(Vec::new());
    }
    item.remove("name");
    let missing = ScenarioError::MissingKey { item: name.to_owned(), key: "every_ms" };
    let every_ms: u64 = draw::take(seed, name, &mut item, "every_ms")?.ok_or(missing)?;
    let at_most = draw::take::<usize>(seed, name, &mut item, "at_most")?.unwrap_or(usize::MAX);
    let mut at_ms = draw::take(seed, name, &mut item, "from_ms")?.unwrap_or(FROM_MS);
    let mut gaps = StdRng::seed_from_u64(fork(seed, &format!("{name} gaps")));
    let mut faults = Vec::new();
    loop {
        at_ms += gaps.random_range(1..=every_ms.max(1) * 2);
        if faults.len() >= at_most || at_ms >= heal_at_ms {
            return Ok(faults);
        }
        let name = format!("{name}, {}", faults.len() + 1);
        let mut item = item.clone();
        let for_ms = draw::take(seed, &name, &mut item, "for_ms")?;
        let fault: Fault = draw::read_exactly(&name, draw::table(seed, &name, &item)?)?;
        faults.push(Planned::timed(0, at_ms, for_ms, fault));
    }
}

/// Drops a random choice of what is too much.
fn thinned(seed: u64, faults: Vec<Planned>, max: usize) -> Vec<Planned> {
    let mut ranked: Vec<(u64, Planned)> = faults
        .into_iter()
        .enumerate()
        .map(|(index, planned)| {
            (fork(seed, &format!("rank of {}, {}, {index}", planned.fault.name(), planned.at_ms)), planned)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.truncate(max);
    ranked.into_iter().map(|(_, planned)| planned).collect()
}

/// Ids in the order of time.
fn numbered(mut faults: Vec<Planned>) -> Vec<Planned> {
    faults.sort_by(|a, b| (a.at_ms, a.fault.name()).cmp(&(b.at_ms, b.fault.name())));
    for (index, planned) in faults.iter_mut().enumerate() {
        planned.id = u32::try_from(index + 1).unwrap_or(u32::MAX);
    }
    faults
}

fn failpoint(
    seed: u64,
    intensity: u64,
    name: &str,
    mut item: Table,
) -> Result<Option<Failpoint>, ScenarioError> {
    if !takes_part(seed, intensity, name, &mut item)? {
        return Ok(None);
    }
    let missing = |key| ScenarioError::MissingKey { item: name.to_owned(), key };
    let point = draw::take(seed, name, &mut item, "point")?.ok_or_else(|| missing("point"))?;
    let hit = draw::take(seed, name, &mut item, "hit")?.unwrap_or(1);
    let then: Then = draw::read_exactly(name, draw::table(seed, name, &item)?)?;
    Ok(Some(Failpoint { id: 0, point, hit, then }))
}
