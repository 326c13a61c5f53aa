//! Hosts: fewer schedulers, executors and clients. The last ones go, since they are known by their numbers.

use super::Shrink;
use crate::schedule::Schedule;

pub(super) fn all(shrink: &mut Shrink<'_, '_>) {
    for schedulers in [1, 3] {
        if schedulers < shrink.best.cluster.schedulers
            && shrink.attempt(|schedule| schedule.cluster.schedulers = schedulers)
        {
            break;
        }
    }
    executors(shrink);
    clients(shrink);
}

fn executors(shrink: &mut Shrink<'_, '_>) {
    while shrink.best.cluster.slots.len() > 1 {
        let few = shrink.attempt(|schedule| schedule.cluster.slots.truncate(1));
        if !few
            && !shrink.attempt(|schedule| schedule.cluster.slots.truncate(schedule.cluster.slots.len() - 1))
        {
            break;
        }
    }
}

/// All ops by one client, or all of the last client by the first, or the numbers that nobody uses taken out.
fn clients(shrink: &mut Shrink<'_, '_>) {
    let one = shrink.attempt(|schedule| {
        schedule.ops.iter_mut().for_each(|op| op.client = 1);
        schedule.cluster.clients = 1;
    });
    while !one && shrink.best.cluster.clients > 1 {
        let last = shrink.best.cluster.clients;
        let moved = shrink.attempt(|schedule| {
            schedule.ops.iter_mut().filter(|op| op.client == last).for_each(|op| op.client = 1);
            schedule.cluster.clients = last - 1;
        });
        if !moved {
            break;
        }
    }
    shrink.attempt(renumber);
}

fn renumber(schedule: &mut Schedule) {
    let mut used: Vec<u32> = schedule.ops.iter().map(|op| op.client).collect();
    used.sort_unstable();
    used.dedup();
    for op in &mut schedule.ops {
        let place = used.iter().position(|client| *client == op.client).unwrap_or(0);
        op.client = u32::try_from(place + 1).unwrap_or(1);
    }
    schedule.cluster.clients = u32::try_from(used.len()).unwrap_or(1).max(1);
}
