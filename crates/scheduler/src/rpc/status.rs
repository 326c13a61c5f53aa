//! `QueryService.ClusterStatus`: the replicas as they describe themselves, the executors as the log knows them.

use arrow::temporal_conversions::timestamp_ms_to_datetime;
use polybolos_consensus::{DiskState, ReplicaInfo, Role};
use polybolos_proto::v1::{ClusterStatusRequest, ClusterStatusResponse, ExecutorStatus, ReplicaStatus};
use polybolos_state::{ClusterState, Dispatcher, Executor, ExecutorState};
use tonic::Status;

use super::show::count;
use crate::shared::Shared;

pub(crate) async fn cluster_status(
    shared: &Shared,
    request: &ClusterStatusRequest,
) -> Result<ClusterStatusResponse, Status> {
    let freshness = shared.fresh(request.stale).await?;
    let infos = shared.log.describe().await;
    let status = shared.read(|state| {
        let dispatcher = shared.dispatcher();
        let now_ms = shared.now_ms(state);
        ClusterStatusResponse {
            cluster_id: state.cluster_id().to_owned(),
            replicas: replicas(shared, infos),
            executors: state.executors().map(|one| executor(one, state, &dispatcher, now_ms)).collect(),
            active_jobs: count(state.active_job_count()),
            relations: count(state.catalogue().relations.len()),
            freshness: Some(freshness),
            version: state.version().into(),
            history: state.history().map(|(at_ms, note)| past(*at_ms, note)).collect(),
        }
    });
    Ok(status)
}

fn replicas(shared: &Shared, infos: Vec<ReplicaInfo>) -> Vec<ReplicaStatus> {
    // A leader that does not know of its fall yet still says that it leads.
    let leader = infos.iter().filter(|info| info.role == Role::Leader).max_by_key(|info| info.term);
    let leader = leader.map(|info| (info.id, info.committed_index));
    let me = shared.config.id;
    let status = infos.into_iter().map(|info| {
        let committed = leader.map_or(info.committed_index, |(_, committed)| committed);
        let lag = match info.role {
            Role::Unreachable => 0,
            Role::Leader | Role::Follower | Role::Candidate | Role::Learner | Role::Joining => {
                committed.saturating_sub(info.applied_index)
            }
        };
        let (disk, disk_free_bytes) = match info.disk {
            _ if info.role == Role::Unreachable => ("", 0),
            DiskState::Ok => ("ok", 0),
            DiskState::Full { free_bytes } => ("full", free_bytes),
        };
        ReplicaStatus {
            id: info.id.0,
            leader: leader.is_some_and(|(id, _)| id == info.id),
            term: info.term.0,
            applied_index: info.applied_index,
            state_hash: info.state_hash,
            role: info.role.to_string(),
            committed_index: info.committed_index,
            last_log_index: info.last_log_index,
            lag,
            snapshot_index: info.snapshot_index,
            snapshot_bytes: info.snapshot_bytes,
            disk: disk.to_owned(),
            disk_free_bytes,
            version: info.version.into(),
            refused_messages: info.refused_messages,
            // Nobody else counts for this one.
            refused_reports: if info.id == me { shared.refused_reports() } else { 0 },
            voter: info.is_voter,
            address: info.address,
        }
    });
    status.collect()
}

fn executor(
    executor: &Executor,
    state: &ClusterState,
    dispatcher: &Dispatcher,
    now_ms: u64,
) -> ExecutorStatus {
    let drain = state.drain_of(&executor.id).filter(|drain| !drain.left);
    ExecutorStatus {
        executor_id: executor.id.to_string(),
        address: executor.address.clone(),
        incarnation: executor.incarnation.0,
        state: standing(executor, state, dispatcher),
        slots: executor.slots,
        busy_slots: count(dispatcher.busy_slots(&executor.id)),
        memory_bytes: executor.memory_bytes,
        memory_used_bytes: executor.usage.memory_used_bytes,
        shuffle_bytes: executor.usage.shuffle_bytes,
        silent_ms: now_ms.saturating_sub(executor.last_beat_ms),
        refused_commands: state.refused_commands(&executor.id),
        drain_left_ms: drain.map_or(0, |drain| drain.until_ms.saturating_sub(now_ms)),
        drain_outputs: drain.map_or(0, |_| count(state.only_there(&executor.id, executor.incarnation).len())),
        drain_moved: drain.map_or(0, |drain| drain.moved),
        reason: executor.lost.as_ref().map(|loss| loss.reason.clone()).unwrap_or_default(),
    }
}

fn standing(executor: &Executor, state: &ClusterState, dispatcher: &Dispatcher) -> String {
    match executor.state {
        ExecutorState::Lost if state.has_left(executor) => "left".to_owned(),
        ExecutorState::Live if dispatcher.is_set_aside(&executor.id, executor.incarnation) => {
            "set aside".to_owned()
        }
        state @ (ExecutorState::Live | ExecutorState::Draining | ExecutorState::Lost) => state.to_string(),
    }
}

/// What happened when, for people.
fn past(at_ms: u64, note: &str) -> String {
    match i64::try_from(at_ms).ok().and_then(timestamp_ms_to_datetime) {
        Some(at) => format!("{} UTC: {note}", at.format("%Y-%m-%d %H:%M:%S")),
        None => note.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_has_a_date() {
        assert_eq!(past(1_700_000_000_123, "restored"), "2023-11-14 22:13:20 UTC: restored");
        assert_eq!(past(u64::MAX, "restored"), "restored");
    }
}
