//! What an operator does: replicas that come and go, leadership that is handed over, executors that leave.

use std::time::Duration;

use polybolos_model::{ExecutorId, ReplicaId};

use super::{
    Acted, Nemesis, Outcome, find, of_role,
    processes::{LEAVE_LIMIT, ends},
    told,
};
use crate::cluster::{Fleet, Role};

/// A replica that was removed ends by itself.
const REMOVED_LIMIT: Duration = Duration::from_secs(30);
/// Voters that have to be left.
const MIN_VOTERS: usize = 3;

impl Nemesis {
    pub(super) async fn add_replica(&self, fleet: &Fleet) -> Acted {
        let name = self.enter(fleet).await?;
        Ok(Outcome::acted(format!("{name} votes")))
    }

    /// Starts one more replica and enters it. Its name.
    pub(super) async fn enter(&self, fleet: &Fleet) -> Result<String, String> {
        let node = fleet.join().await.map_err(told)?;
        let (name, role, address) = {
            let node = node.lock().await;
            (node.name.clone(), node.role, fleet.address(&node).await)
        };
        self.observer.is_called(&address, &name);
        if let Role::Scheduler { id } = role {
            self.client.add_replica(ReplicaId(id), address).await.map_err(told)?;
        }
        Ok(name)
    }

    pub(super) async fn remove_replica(&self, fleet: &Fleet, target: &str) -> Acted {
        if of_role(fleet, true).await.len() <= MIN_VOTERS {
            return Err("three voters have to be left".to_owned());
        }
        let node = find(fleet, target).await?;
        let Role::Scheduler { id } = node.lock().await.role else {
            return Err("only schedulers can be removed".to_owned());
        };
        node.lock().await.excuse(true);
        let removed = self.client.remove_replica(ReplicaId(id)).await.map_err(told);
        if let Err(reason) = removed {
            node.lock().await.excuse(false);
            return Err(reason);
        }
        let ended = ends(&node, REMOVED_LIMIT).await;
        let mut node = node.lock().await;
        node.is_removed = true;
        if ended.is_none() {
            node.kill().await.map_err(told)?;
        }
        let how = match ended {
            Some(Some(code)) => format!("its process ended with code {code}"),
            Some(None) => "its process did not run".to_owned(),
            None => format!("its process still ran after {REMOVED_LIMIT:?} and was killed"),
        };
        Ok(Outcome::acted(format!("the cluster removed it; {how}")))
    }

    pub(super) async fn transfer(&self) -> Acted {
        let before = self.observer.seen().leader.map(|(_, term)| term).unwrap_or(0);
        let (leader, term) = self.client.transfer_leadership(None).await.map_err(told)?;
        Ok(Outcome::if_acted(term.0 > before, format!("replica {leader} leads in term {term}")))
    }

    pub(super) async fn drain(
        &self,
        fleet: &Fleet,
        target: &str,
        deadline: Duration,
        by_signal: bool,
    ) -> Acted {
        let node = find(fleet, target).await?;
        let name = {
            let mut node = node.lock().await;
            if !node.is_up() {
                return Err("it does not run".to_owned());
            }
            node.excuse(true);
            node.name.clone()
        };
        let asked = if by_signal {
            node.lock().await.send("TERM").await.map_err(told)
        } else {
            let executor = ExecutorId::new(name).map_err(told)?;
            self.client.drain_executor(&executor, deadline).await.map(drop).map_err(told)
        };
        let ended = match &asked {
            Ok(()) => ends(&node, deadline.max(LEAVE_LIMIT)).await,
            Err(_) => None,
        };
        if asked.is_ok() && ended.is_none() {
            node.lock().await.kill().await.map_err(told)?;
        }
        self.return_of(fleet, &node).await?;
        asked?;
        match ended {
            Some(Some(0)) => Ok(Outcome::acted("it handed over and ended with code 0")),
            Some(code) => Err(format!("it ended with code {code:?}")),
            None => Err("it did not end".to_owned()),
        }
    }
}
