//! Replicas and executors, as tables or JSON.

use polybolos_client::{ClusterStatusResponse, ExecutorStatus, ReplicaStatus};
use serde_json::{Value, json};

use super::{super::text, freshness_json};

const REPLICAS: [&str; 12] = [
    "replica",
    "address",
    "role",
    "term",
    "committed",
    "applied",
    "lag",
    "snapshot",
    "disk",
    "version",
    "refused",
    "state hash",
];
const EXECUTORS: [&str; 8] =
    ["executor", "address", "state", "busy", "memory", "shuffle", "last heard", "refused"];

pub(super) fn status_table(status: &ClusterStatusResponse) -> String {
    let replicas: Vec<Vec<String>> = status.replicas.iter().map(replica_row).collect();
    let executors: Vec<Vec<String>> = status.executors.iter().map(executor_row).collect();
    let name = if status.cluster_id.is_empty() { "(being founded)" } else { &status.cluster_id };
    let mut shown = format!(
        "cluster {name}: {} active queries, {} tables and views, entries of version {}\n\n{}\n{}",
        status.active_jobs,
        status.relations,
        status.version,
        text::columns(&REPLICAS, &replicas),
        text::columns(&EXECUTORS, &executors),
    );
    if !status.history.is_empty() {
        shown.push_str("\nhistory\n");
        status.history.iter().for_each(|line| shown.push_str(&format!("  {line}\n")));
    }
    shown
}

fn role(replica: &ReplicaStatus) -> &str {
    match (replica.role.as_str(), replica.leader) {
        // A scheduler of a version that has no roles.
        ("", true) => "leader",
        ("", false) => "follower",
        (role, _) => role,
    }
}

/// Of one that does not answer only what the others know.
fn replica_row(replica: &ReplicaStatus) -> Vec<String> {
    let mut cells = vec![replica.id.to_string(), replica.address.clone(), role(replica).to_owned()];
    if role(replica) == "unreachable" {
        return cells;
    }
    let snapshot = match replica.snapshot_index {
        0 => "none".to_owned(),
        index => format!("{index} ({})", text::bytes(replica.snapshot_bytes)),
    };
    let disk = match replica.disk.as_str() {
        "full" => format!("full, {} free", text::bytes(replica.disk_free_bytes)),
        other => other.to_owned(),
    };
    cells.extend(
        [replica.term, replica.committed_index, replica.applied_index, replica.lag].map(|n| n.to_string()),
    );
    cells.extend([snapshot, disk, replica.version.to_string(), refused(replica).to_string()]);
    cells.push(format!("{:016x}", replica.state_hash));
    cells
}

/// By fencing: messages of deposed leaders and strangers, and reports of dead incarnations.
fn refused(replica: &ReplicaStatus) -> u64 {
    replica.refused_messages.saturating_add(replica.refused_reports)
}

/// One that drains says how far it is.
fn executor_state(executor: &ExecutorStatus) -> String {
    if executor.state != "draining" {
        return executor.state.clone();
    }
    let left = text::milliseconds(executor.drain_left_ms as f64);
    format!("draining, {} outputs and {left} left", executor.drain_outputs)
}

fn executor_row(executor: &ExecutorStatus) -> Vec<String> {
    vec![
        executor.executor_id.clone(),
        executor.address.clone(),
        executor_state(executor),
        format!("{}/{}", executor.busy_slots, executor.slots),
        format!("{} of {}", text::bytes(executor.memory_used_bytes), text::bytes(executor.memory_bytes)),
        text::bytes(executor.shuffle_bytes),
        text::milliseconds(executor.silent_ms as f64),
        executor.refused_commands.to_string(),
    ]
}

pub(super) fn status_json(status: &ClusterStatusResponse) -> Value {
    json!({
        "cluster_id": status.cluster_id,
        "version": status.version,
        "replicas": status.replicas.iter().map(replica_json).collect::<Value>(),
        "executors": status.executors.iter().map(executor_json).collect::<Value>(),
        "active_jobs": status.active_jobs,
        "relations": status.relations,
        "history": status.history,
        "freshness": freshness_json(status.freshness.as_ref()),
    })
}

fn replica_json(replica: &ReplicaStatus) -> Value {
    json!({
        "id": replica.id, "address": replica.address, "leader": replica.leader, "role": role(replica),
        "voter": replica.voter, "term": replica.term, "last_log_index": replica.last_log_index,
        "committed_index": replica.committed_index, "applied_index": replica.applied_index, "lag": replica.lag,
        // As text: JSON numbers lose the last bits of 64.
        "state_hash": format!("{:016x}", replica.state_hash),
        "snapshot_index": replica.snapshot_index, "snapshot_bytes": replica.snapshot_bytes,
        "disk": replica.disk, "disk_free_bytes": replica.disk_free_bytes, "version": replica.version,
        "refused_messages": replica.refused_messages, "refused_reports": replica.refused_reports,
    })
}

fn executor_json(executor: &ExecutorStatus) -> Value {
    json!({
        "executor_id": executor.executor_id, "address": executor.address, "state": executor.state,
        "incarnation": executor.incarnation, "slots": executor.slots, "busy_slots": executor.busy_slots,
        "memory_bytes": executor.memory_bytes, "memory_used_bytes": executor.memory_used_bytes,
        "shuffle_bytes": executor.shuffle_bytes, "silent_ms": executor.silent_ms,
        "refused_commands": executor.refused_commands, "drain_left_ms": executor.drain_left_ms,
        "drain_outputs": executor.drain_outputs, "drain_moved": executor.drain_moved, "reason": executor.reason,
    })
}

#[cfg(test)]
mod tests {
    use polybolos_client::Freshness;

    use super::*;

    fn status() -> ClusterStatusResponse {
        let leader = ReplicaStatus {
            id: 1,
            address: "h:1".into(),
            leader: true,
            role: "leader".into(),
            term: 7,
            committed_index: 120,
            applied_index: 119,
            snapshot_index: 100,
            snapshot_bytes: 2_500,
            disk: "full".into(),
            disk_free_bytes: 4_000,
            version: 2,
            refused_messages: 3,
            refused_reports: 4,
            state_hash: 0xab,
            voter: true,
            ..ReplicaStatus::default()
        };
        let lost =
            ReplicaStatus { id: 2, address: "h:2".into(), role: "unreachable".into(), ..Default::default() };
        let executor = ExecutorStatus { executor_id: "e1".into(), refused_commands: 9, ..Default::default() };
        ClusterStatusResponse {
            cluster_id: "c".into(),
            replicas: vec![leader, lost],
            executors: vec![executor],
            version: 2,
            history: vec!["restored from a backup".into()],
            freshness: Some(Freshness { linearizable: false, age_ms: u64::MAX, replica: 2 }),
            ..ClusterStatusResponse::default()
        }
    }

    #[test]
    fn a_table_tells_of_each_replica_what_it_knows() {
        let shown = status_table(&status());
        let line = |part: &str| shown.lines().find(|line| line.contains(part)).unwrap().to_owned();
        for part in ["leader", "120", "119", "100 (2.5 kB)", "full, 4.0 kB free", " 7 ", "00000000000000ab"] {
            assert!(line("h:1").contains(part), "{part}: {shown}");
        }
        assert!(line("h:2").trim_end().ends_with("unreachable"), "{shown}");
        assert!(line("e1").trim_end().ends_with('9'), "{shown}");
        assert!(shown.contains("history\n  restored from a backup\n"), "{shown}");
    }

    #[test]
    fn json_has_the_same_and_keeps_what_it_had() {
        let value = status_json(&status());
        let replica = &value["replicas"][0];
        for key in ["id", "address", "leader", "term", "applied_index", "state_hash", "voter", "lag", "disk"]
        {
            assert!(!replica[key].is_null(), "{key}: {value:#}");
        }
        assert_eq!((&replica["state_hash"], &value["version"]), (&json!("00000000000000ab"), &json!(2)));
        assert_eq!(value["executors"][0]["refused_commands"], 9);
        assert_eq!(value["freshness"], json!({"linearizable": false, "age_ms": null, "replica": 2}));
    }
}
