//! What no cluster promises to survive (`docs/failure-contract.md`) is not asked of it.

use crate::{
    fault::{Fault, Target},
    schedule::Schedule,
};

/// Takes out of a schedule what would break a promise that was never given. Explicit schedules are not touched by it.
pub fn mend(schedule: &mut Schedule) {
    let schedulers = schedule.cluster.schedulers;
    schedule.faults.retain(|planned| is_possible(&planned.fault, schedulers));
    let mut left = spare_replicas(schedule);
    schedule.faults.retain(|planned| {
        if !loses_a_replica(&planned.fault) {
            return true;
        }
        let kept = left > 0;
        left = left.saturating_sub(1);
        kept
    });
}

/// Whether [`mend`] would leave it as it is. What `shrink` tries has to be, or it would find that a cluster of one
/// doesn't survive the loss of its disk.
pub fn is_tenable(schedule: &Schedule) -> bool {
    let lost = schedule.faults.iter().filter(|planned| loses_a_replica(&planned.fault)).count();
    lost as u64 <= spare_replicas(schedule)
        && schedule.faults.iter().all(|planned| is_possible(&planned.fault, schedule.cluster.schedulers))
}

/// Replicas that may be lost for good. One that joins needs all that it joins; one that leaves takes its vote along.
fn spare_replicas(schedule: &Schedule) -> u64 {
    let removed = |fault: &Fault| matches!(fault, Fault::RemoveReplica { .. });
    let removed = schedule.faults.iter().filter(|planned| removed(&planned.fault)).count() as u64;
    schedule.cluster.schedulers.saturating_sub(removed + 1) / 2
}

fn loses_a_replica(fault: &Fault) -> bool {
    matches!(fault, Fault::CorruptDisk { target, .. } if is_scheduler(target))
}

fn is_possible(fault: &Fault, schedulers: u64) -> bool {
    match fault {
        // A replica must not come back under its id without what it promised.
        Fault::Crash { target, wipe: true, .. } => !is_scheduler(target),
        Fault::LeaderInMinority
        | Fault::Bridge { .. }
        | Fault::TransferLeadership
        | Fault::AddReplica
        | Fault::RemoveReplica { .. } => schedulers >= 3,
        _ => true,
    }
}

fn is_scheduler(target: &Target) -> bool {
    ["scheduler", "leader", "follower"].iter().any(|role| target.0.starts_with(role))
}
