//! Processes that die, stand still or restart.

use std::{
    os::unix::process::ExitStatusExt,
    time::{Duration, Instant},
};

use tokio::{sync::MutexGuard, time::sleep};

use super::{Acted, Nemesis, Outcome, Shared, find, of_role, told};
use crate::{
    cluster::{Fleet, Group, Node},
    schedule::Planned,
};

const POLL: Duration = Duration::from_millis(100);
/// How long an executor may take to hand over, and a node to be well after its restart.
pub(super) const LEAVE_LIMIT: Duration = Duration::from_secs(100);
const WELL_LIMIT: Duration = Duration::from_secs(60);
/// How long another fault may hold a node down that is to be hit.
const ALIVE_LIMIT: Duration = Duration::from_secs(15);
/// A limit is lowered as far as the kernel allows: to a share of what is used, or else to a little more than that.
const SQUEEZE_PERCENT: u64 = 95;
const SQUEEZE_SLACK_BYTES: u64 = 64 * 1024;
const SQUEEZE_INTERVAL: Duration = Duration::from_millis(20);
const SIGKILL: i32 = 9;

impl Nemesis {
    pub(super) async fn crash(&self, fleet: &Fleet, planned: &Planned, target: &str, wipe: bool) -> Acted {
        let node = find(fleet, target).await?;
        let died = {
            let mut node = self.alive(&node).await;
            let process = node.process();
            let died = node.down().await.map_err(told)?;
            if wipe {
                node.wipe().map_err(told)?;
            }
            process.filter(|_| died)
        };
        self.hold(planned).await;
        let back = self.back(fleet, &node).await?;
        Ok(match died {
            Some(process) => Outcome::acted(format!("process {process} died by SIGKILL, {back}")),
            None => Outcome::not("it was dead already"),
        })
    }

    /// The node once its process is there: what another fault holds down is waited for, as long as there are faults and not for ever.
    pub(super) async fn alive<'a>(&self, node: &'a Shared) -> MutexGuard<'a, Node> {
        let began = Instant::now();
        loop {
            let locked = node.lock().await;
            if locked.process().is_some() || self.is_healed() || began.elapsed() > ALIVE_LIMIT {
                return locked;
            }
            drop(locked);
            sleep(POLL).await;
        }
    }

    /// A node that was held down may start again, and is waited for.
    pub(super) async fn back(&self, fleet: &Fleet, node: &Shared) -> Result<String, String> {
        let began = Instant::now();
        let started = {
            let mut node = node.lock().await;
            let started = node.up().await.map_err(told)?;
            fleet.tell(&node).await;
            started
        };
        if !started {
            return Ok("another fault holds it down".to_owned());
        }
        match fleet.ready(node).await {
            Ok(()) => Ok(format!("back after {} ms", began.elapsed().as_millis())),
            // Killed again by another fault, or wrong: the watchdog tells which.
            Err(error) => Ok(error.to_string()),
        }
    }

    pub(super) async fn pause(&self, fleet: &Fleet, planned: &Planned, target: &str) -> Acted {
        let node = find(fleet, target).await?;
        let stopped = self.alive(&node).await.stop().await;
        self.hold(planned).await;
        node.lock().await.resume().await.map_err(told)?;
        match stopped.map_err(told)? {
            true => Ok(Outcome::acted("the kernel showed the process as stopped")),
            false => Err("it did not run".to_owned()),
        }
    }

    pub(super) async fn rolling_restart(
        &self,
        fleet: &Fleet,
        role: &str,
        down_ms: u64,
        gap_ms: u64,
    ) -> Acted {
        let nodes = of_role(fleet, role == "scheduler").await;
        let (mut restarted, mut clean) = (0, 0);
        for node in &nodes {
            if self.is_healed() {
                break;
            }
            clean += usize::from(self.leave(node).await?);
            sleep(Duration::from_millis(down_ms)).await;
            self.return_of(fleet, node).await?;
            self.is_well(fleet, node).await?;
            restarted += 1;
            sleep(Duration::from_millis(gap_ms)).await;
        }
        let what = format!(
            "{restarted} of {} restarted one after the other, {clean} ended with code 0",
            nodes.len()
        );
        Ok(Outcome::if_acted(restarted > 0, what))
    }

    /// SIGTERM, and SIGKILL if that takes too long. Whether it ended with code 0.
    async fn leave(&self, node: &Shared) -> Result<bool, String> {
        {
            let mut node = node.lock().await;
            node.excuse(true);
            node.send("TERM").await.map_err(told)?;
        }
        let ended = ends(node, LEAVE_LIMIT).await;
        if ended.is_none() {
            node.lock().await.kill().await.map_err(told)?;
        }
        Ok(ended == Some(Some(0)))
    }

    /// Starts what has left.
    pub(super) async fn return_of(&self, fleet: &Fleet, node: &Shared) -> Result<(), String> {
        node.lock().await.excuse(false);
        fleet.launch(node).await.map_err(told)?;
        fleet.ready(node).await.map_err(told)
    }

    /// Waits until the cluster has it again.
    async fn is_well(&self, fleet: &Fleet, node: &Shared) -> Result<(), String> {
        let (name, address) = {
            let node = node.lock().await;
            (node.name.clone(), fleet.address(&node).await)
        };
        let began = Instant::now();
        while began.elapsed() < WELL_LIMIT {
            let seen = self.observer.seen();
            let lags = seen.replicas.get(&address).is_some_and(|row| row.role == "joining" || row.lag > 0);
            let knows = seen.replicas.contains_key(&address) && !lags;
            if knows || seen.executors.get(&name).is_some_and(|state| state == "live") {
                return Ok(());
            }
            sleep(POLL).await;
        }
        Err(format!("{name} was not well within {WELL_LIMIT:?} after its restart"))
    }

    /// Lowers the limit on what the executor may use, until the kernel kills it.
    pub(super) async fn memory_kill(&self, fleet: &Fleet, planned: &Planned, target: &str) -> Acted {
        let node = find(fleet, target).await?;
        let kills = {
            let mut node = node.lock().await;
            let kills = node.group.as_ref().map(Group::kills);
            let kills = kills.ok_or("there is no control group with a memory limit on this machine")?;
            node.excuse(true);
            kills
        };
        let hold = self.hold(planned);
        tokio::pin!(hold);
        let mut is_over = false;
        while !is_over && node.lock().await.process().is_some() {
            if let Some(group) = &node.lock().await.group {
                squeeze(group);
            }
            tokio::select! {
                () = &mut hold => is_over = true,
                () = sleep(SQUEEZE_INTERVAL) => {}
            }
        }
        if !is_over {
            hold.await;
        }
        let ended = node.lock().await.last_end();
        let mut node = node.lock().await;
        let group = node.group.as_ref();
        let by_kernel = group.map_or(0, Group::kills).saturating_sub(kills);
        if let Some(group) = group {
            group.limit(None).map_err(told)?;
        }
        node.excuse(false);
        node.start_if_wanted().await.map_err(told)?;
        fleet.tell(&node).await;
        let signal = ended.and_then(|status| status.signal());
        match signal {
            Some(SIGKILL) => {
                Ok(Outcome::acted(format!("the kernel counts {by_kernel} kills for want of memory")))
            }
            _ => Err("it lived with what it had".to_owned()),
        }
    }
}

/// Version 1 refuses a limit below what can't be given up; the next request of the process meets the one that it takes.
fn squeeze(group: &Group) {
    let used = group.used();
    if group.limit(Some(used * SQUEEZE_PERCENT / 100)).is_err() {
        // What is used may have changed meanwhile: it is tried again soon.
        let _taken = group.limit(Some(used + SQUEEZE_SLACK_BYTES));
    }
}

/// Waits until a process has ended by itself: its code, if it has one.
pub(super) async fn ends(node: &Shared, limit: Duration) -> Option<Option<i32>> {
    let began = Instant::now();
    while began.elapsed() < limit {
        {
            let mut node = node.lock().await;
            // Or the watchdog saw it first.
            node.ended();
            if let Some(status) = node.last_end() {
                return Some(status.code());
            }
            if node.process().is_none() {
                return Some(None);
            }
        }
        sleep(POLL).await;
    }
    None
}
