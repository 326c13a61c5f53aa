//! Power cuts: processes die, and what they had not synced is lost.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::time::sleep;

use super::{Acted, Nemesis, Outcome, Shared, find, shimmed::shim, told};
use crate::{
    cluster::{Fleet, Node, Role},
    os::fork,
    schedule::Planned,
    shim::Undone,
};

/// The cut comes while something is being synced, if that happens within this time. Syncs begin a little later for as long.
const AIM_LIMIT: Duration = Duration::from_secs(3);
const AIM_POLL: Duration = Duration::from_millis(1);
const AIM_HOLD_MS: u64 = 100;

impl Nemesis {
    /// It has acted if something was lost of a file that the node syncs; an executor syncs none, so any will do there.
    pub(super) async fn power_loss(&self, fleet: &Fleet, planned: &Planned, target: &str) -> Acted {
        let node = find(fleet, target).await?;
        shim(&*self.alive(&node).await)?;
        let aimed = self.aim(std::slice::from_ref(&node)).await;
        let (died, is_executor, lost) = {
            let mut node = node.lock().await;
            let process = node.process();
            let died = node.down().await.map_err(told)?;
            let lost = cut_power(&node, self.seed_of(planned));
            (process.filter(|_| died), node.role == Role::Executor, lost)
        };
        self.hold(planned).await;
        let back = self.back(fleet, &node).await?;
        let lost = lost?;
        let died = died.map_or("it was dead already".to_owned(), |process| format!("process {process} died"));
        let aimed = if aimed { " in the middle of a sync" } else { "" };
        let kept = match shim(&*node.lock().await)?.counts().not_kept {
            0 => String::new(),
            count => format!("; {count} writes could not be noted, and stayed"),
        };
        let counts = lost.iter().any(|undone| undone.is_synced || is_executor);
        Ok(Outcome::if_acted(counts, format!("{died}{aimed}; {}{kept}; {back}", say(&lost))))
    }

    /// It has acted if processes died. What they lose depends on what they were doing.
    pub(super) async fn power_cycle(&self, fleet: &Fleet, planned: &Planned) -> Acted {
        let nodes = fleet.nodes();
        self.aim(&nodes).await;
        let kill = |node: &Shared| {
            let node = Arc::clone(node);
            async move { node.lock().await.down().await }
        };
        let killed = join_all(nodes.iter().map(kill)).await;
        let died = killed.into_iter().filter(|died| matches!(died, Ok(true))).count();
        let mut lost = Vec::new();
        for node in &nodes {
            let node = node.lock().await;
            if node.shim.is_some() {
                lost.push(cut_power(&node, fork(self.seed_of(planned), &node.name)));
            }
        }
        self.hold(planned).await;
        for node in &nodes {
            let mut node = node.lock().await;
            node.up().await.map_err(told)?;
            fleet.tell(&node).await;
        }
        let what = match lost.is_empty() {
            true => "what was not synced stayed, as nothing can be loaded into programs here".to_owned(),
            false => say(&lost.into_iter().collect::<Result<Vec<_>, _>>()?.concat()),
        };
        Ok(Outcome::if_acted(died > 0, format!("{died} processes died by SIGKILL at once; {what}")))
    }

    /// Waits until one of them is in the middle of a sync, and tells whether one is. Syncs take longer meanwhile, so that there
    /// is time to cut the power before they are done.
    async fn aim(&self, nodes: &[Shared]) -> bool {
        hold(nodes, AIM_HOLD_MS).await;
        let began = Instant::now();
        let mut found = false;
        while !found && began.elapsed() < AIM_LIMIT && !self.is_healed() {
            for node in nodes {
                let node = node.lock().await;
                found |= node.process().is_some() && node.shim.as_ref().is_some_and(|shim| shim.is_syncing());
            }
            if !found {
                sleep(AIM_POLL).await;
            }
        }
        // What is held now goes on being held, and is what the cut meets.
        hold(nodes, 0).await;
        found
    }
}

async fn hold(nodes: &[Shared], ms: u64) {
    for node in nodes {
        if let Some(shim) = &node.lock().await.shim {
            // If it can't be told, nothing is aimed at.
            let _told = shim.hold(ms);
        }
    }
}

/// Of a node that is dead.
fn cut_power(node: &Node, seed: u64) -> Result<Vec<Undone>, String> {
    if node.process().is_some() {
        return Err(format!("{} could not be killed", node.name));
    }
    let lost = shim(node)?.cut_power(Some(seed)).map_err(told)?;
    let name = &node.name;
    Ok(lost
        .into_iter()
        .map(|undone| Undone { file: [name.as_ref(), undone.file.as_path()].iter().collect(), ..undone })
        .collect())
}

fn say(lost: &[Undone]) -> String {
    match lost {
        [] => "nothing was lost: all was synced".to_owned(),
        lost => {
            let files: Vec<String> = lost.iter().map(ToString::to_string).collect();
            format!("lost: {}", files.join("; "))
        }
    }
}
