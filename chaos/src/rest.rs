//! Whether all is as it should be: after the healing, and when nobody wants anything any more.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::{
    cluster::Role,
    nemesis::{Nemesis, Site},
};

const POLL: Duration = Duration::from_millis(200);

/// Waits until somebody leads, all processes run, all executors are live, and a query is answered.
///
/// # Errors
/// What was still missing when the time was over.
pub(crate) async fn well(nemesis: &Nemesis, limit: Duration) -> Result<(), String> {
    until(limit, async || {
        is_whole(nemesis).await?;
        match nemesis.client.query("SELECT 1 AS one").await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("a query: {error}")),
        }
    })
    .await
}

/// Waits until no job is under way and all replicas have applied the same entry.
///
/// # Errors
/// What was still missing when the time was over.
pub(crate) async fn at_rest(nemesis: &Nemesis, limit: Duration) -> Result<(), String> {
    until(limit, async || {
        let status = nemesis.client.status().await.map_err(|error| format!("the status: {error}"))?;
        if status.active_jobs > 0 {
            return Err(format!("{} jobs have not ended", status.active_jobs));
        }
        let busy: u32 = status.executors.iter().map(|row| row.busy_slots).sum();
        if busy > 0 {
            return Err(format!("{busy} slots are busy though no job is under way"));
        }
        // Heartbeats are entries too, so that replicas are seldom seen at the very same one.
        let lags: Vec<String> = status
            .replicas
            .iter()
            .filter(|row| row.voter && (row.role == "unreachable" || row.lag > MAX_LAG))
            .map(|row| format!("replica {} is {} and {} entries behind", row.id, row.role, row.lag))
            .collect();
        if lags.is_empty() { Ok(()) } else { Err(lags.join(", ")) }
    })
    .await
}

const MAX_LAG: u64 = 20;

async fn is_whole(nemesis: &Nemesis) -> Result<(), String> {
    let seen = nemesis.observer.seen();
    if seen.leader.is_none() {
        return Err("nobody leads".to_owned());
    }
    let Site::Own(fleet) = &nemesis.site else { return Ok(()) };
    for node in fleet.nodes() {
        let node = node.lock().await;
        if node.is_removed {
            continue;
        }
        if !node.is_up() || !node.is_ready() {
            return Err(format!("{} does not run", node.name));
        }
        let address = fleet.address(&node).await;
        match node.role {
            Role::Executor if seen.executors.get(&node.name).is_none_or(|state| state != "live") => {
                return Err(format!("{} is {:?}", node.name, seen.executors.get(&node.name)));
            }
            Role::Scheduler { .. } if !seen.replicas.contains_key(&address) => {
                return Err(format!("{} does not answer", node.name));
            }
            _ => {}
        }
    }
    Ok(())
}

async fn until(limit: Duration, is: impl AsyncFn() -> Result<(), String>) -> Result<(), String> {
    let began = Instant::now();
    loop {
        match is().await {
            Ok(()) => return Ok(()),
            Err(reason) if began.elapsed() > limit => return Err(reason),
            Err(_) => sleep(POLL).await,
        }
    }
}
