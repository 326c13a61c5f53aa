//! Whom a fault hits: names and roles are looked up when it begins.

use std::time::Duration;

use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::time::sleep;

use super::{Nemesis, Site};
use crate::{
    cluster::Role,
    fault::{Fault, Target},
    schedule::Planned,
};

/// So long a leader is waited for, at intervals of a poll.
const POLLS: u32 = 50;
const POLL: Duration = Duration::from_millis(100);

/// Names of whom there is.
#[derive(Debug, Clone, Default)]
struct Present {
    schedulers: Vec<String>,
    executors: Vec<String>,
    leader: Option<String>,
}

impl Nemesis {
    /// The name of the node that is hit, or what is hit instead of one.
    pub(super) async fn pick(&self, planned: &Planned) -> Result<String, String> {
        let leader = Target("leader".to_owned());
        let target = match (&planned.fault, planned.fault.target()) {
            // Looked up too: it is the side that is cut off.
            (Fault::LeaderInMinority | Fault::TransferLeadership, _) => &leader,
            // The role itself.
            (Fault::RollingRestart { target, .. }, _) => return Ok(target.to_string()),
            (_, Some(target)) => target,
            (_, None) => return Ok("all".to_owned()),
        };
        let mut polls = 0;
        loop {
            match pick(target, &self.present().await, self.seed_of(planned)) {
                Err(_) if polls < POLLS && !self.is_healed() => sleep(POLL).await,
                picked => return picked,
            }
            polls += 1;
        }
    }

    async fn present(&self) -> Present {
        let seen = self.observer.seen();
        let leader = seen.leader.map(|(address, _)| address);
        let mut present = Present::default();
        match &self.site {
            Site::Own(fleet) => {
                for node in fleet.nodes() {
                    let node = node.lock().await;
                    if node.is_removed {
                        continue;
                    }
                    match node.role {
                        Role::Scheduler { .. } => present.schedulers.push(node.name.clone()),
                        Role::Executor => present.executors.push(node.name.clone()),
                    }
                    if leader.as_ref() == Some(&fleet.address(&node).await) {
                        present.leader = Some(node.name.clone());
                    }
                }
            }
            Site::Theirs(theirs) => {
                present.schedulers = theirs.schedulers.clone();
                present.executors = seen.executors.into_keys().collect();
                present.leader = leader;
            }
        }
        present
    }
}

fn pick(target: &Target, present: &Present, seed: u64) -> Result<String, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut any = |of: &[String], what: &str| {
        of.choose(&mut random).cloned().ok_or_else(|| format!("there is no {what}"))
    };
    match target.0.as_str() {
        "leader" => present.leader.clone().ok_or_else(|| "nobody leads".to_owned()),
        "follower" => {
            let leader = present.leader.as_ref().ok_or("nobody leads, so nobody follows")?;
            let others: Vec<String> =
                present.schedulers.iter().filter(|name| *name != leader).cloned().collect();
            any(&others, "follower")
        }
        "scheduler" => any(&present.schedulers, "scheduler"),
        "executor" => any(&present.executors, "executor"),
        name => {
            let known = present.schedulers.iter().chain(&present.executors).find(|known| *known == name);
            known.cloned().ok_or_else(|| format!("there is no {name}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_names_are_found() {
        let names = |of: &[&str]| of.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let present = Present {
            schedulers: names(&["scheduler-1", "scheduler-2", "scheduler-3"]),
            executors: names(&["executor-1"]),
            leader: Some("scheduler-2".to_owned()),
        };
        let picked = |target: &str, seed| pick(&Target(target.to_owned()), &present, seed);
        assert_eq!(picked("leader", 1).unwrap(), "scheduler-2");
        assert_eq!(picked("executor", 1).unwrap(), "executor-1");
        assert_eq!(picked("scheduler-3", 1).unwrap(), "scheduler-3");
        let followers: std::collections::BTreeSet<String> =
            (0..50).map(|seed| picked("follower", seed).unwrap()).collect();
        assert_eq!(followers, ["scheduler-1", "scheduler-3"].map(str::to_owned).into());
        assert!(picked("client-1", 1).is_err());
        let nobody = pick(&Target("follower".to_owned()), &Present::default(), 1);
        assert!(nobody.unwrap_err().contains("nobody leads"));
    }
}
