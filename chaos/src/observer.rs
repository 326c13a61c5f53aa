//! Watches the cluster from outside: who leads, which executors are lost, and whether replicas that applied the same entry
//! hold the same state.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use polybolos_client::{Client, ClusterStatusResponse, Consistency, ReplicaStatus};
use polybolos_env::Env;
use tokio::time::timeout;

use crate::journal::{Journal, What};

/// Between two looks.
pub const INTERVAL: Duration = Duration::from_millis(250);
/// A replica that is paused or cut off does not answer.
const PATIENCE: Duration = Duration::from_millis(900);

/// What was seen last.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Address and term of the leader.
    pub leader: Option<(String, u64)>,
    /// State of each executor by its name, as the leader tells it.
    pub executors: BTreeMap<String, String>,
    /// What each replica that answers says of itself, by its address.
    pub replicas: BTreeMap<String, ReplicaStatus>,
    /// Version of entries in use.
    pub version: u32,
}

pub struct Observer {
    env: Env,
    journal: Arc<Journal>,
    /// Names of nodes by address, to tell.
    names: Mutex<BTreeMap<String, String>>,
    seen: Mutex<Seen>,
    hashes: Mutex<Hashes>,
}

/// Hashes of the state by applied index, with the replica that told it first.
#[derive(Debug, Default)]
struct Hashes(BTreeMap<u64, (u64, u64)>);

/// So many indices are remembered.
const HASHES: usize = 4_096;

impl Hashes {
    /// What differs, if something does.
    fn note(&mut self, row: &ReplicaStatus) -> Option<String> {
        let (id, hash) = *self.0.entry(row.applied_index).or_insert((row.id, row.state_hash));
        while self.0.len() > HASHES {
            self.0.pop_first();
        }
        (hash != row.state_hash).then(|| {
            format!(
                "replicas {id} and {} have different states at entry {}: {hash:016x} and {:016x}",
                row.id, row.applied_index, row.state_hash
            )
        })
    }
}

impl Observer {
    pub fn new(env: Env, journal: Arc<Journal>) -> Self {
        Self {
            env,
            journal,
            names: Mutex::new(BTreeMap::new()),
            seen: Mutex::new(Seen::default()),
            hashes: Mutex::new(Hashes::default()),
        }
    }

    pub fn is_called(&self, address: &str, name: &str) {
        lock(&self.names).insert(address.to_owned(), name.to_owned());
    }

    fn name(&self, address: &str) -> String {
        lock(&self.names).get(address).cloned().unwrap_or_else(|| address.to_owned())
    }

    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// Asks all of them once.
    pub async fn look(&self, addresses: &[String]) {
        let asked = addresses.iter().cloned().map(|address| ask(address, self.env.clone()));
        let told: Vec<(String, ClusterStatusResponse)> =
            join_all(asked).await.into_iter().flatten().collect();
        let before = self.seen();
        let mut now = Seen::default();
        for (address, status) in &told {
            let Some(own) = status.replicas.iter().find(|row| row.address == *address) else { continue };
            now.replicas.insert(address.clone(), own.clone());
            if own.applied_index > 0
                && let Some(what) = lock(&self.hashes).note(own)
            {
                self.journal.note(What::Violation { what });
            }
            let is_newer = now.leader.as_ref().is_none_or(|(_, term)| own.term > *term);
            if own.leader && is_newer {
                now.leader = Some((address.clone(), own.term));
                let states = status.executors.iter().map(|row| (row.executor_id.clone(), row.state.clone()));
                now.executors = states.collect();
                now.version = status.version;
                self.tell_executors(&before, status);
            }
        }
        if now.leader != before.leader {
            self.journal.note(match &now.leader {
                Some((address, term)) => What::Leads { node: self.name(address), term: *term },
                None => What::NoLeader,
            });
        }
        if now.leader.is_none() {
            now.executors = before.executors;
        }
        *lock(&self.seen) = now;
    }

    fn tell_executors(&self, before: &Seen, status: &ClusterStatusResponse) {
        for row in &status.executors {
            if before.executors.get(&row.executor_id) != Some(&row.state) {
                let (node, state, reason) = (row.executor_id.clone(), row.state.clone(), row.reason.clone());
                self.journal.note(What::Executor { node, state, reason });
            }
        }
    }
}

async fn ask(address: String, env: Env) -> Option<(String, ClusterStatusResponse)> {
    let client = Client::connect_within(vec![address.clone()], env, PATIENCE).ok()?;
    let status = timeout(PATIENCE, client.status_with(Consistency::Stale)).await.ok()?.ok()?;
    Some((address, status))
}

/// A panic elsewhere left the value as it was.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_states_at_one_entry_are_noticed() {
        let row = |id, applied_index, state_hash| ReplicaStatus {
            id,
            applied_index,
            state_hash,
            ..Default::default()
        };
        let mut hashes = Hashes::default();
        for well in [row(1, 7, 70), row(2, 6, 60), row(1, 8, 80), row(2, 7, 70)] {
            assert_eq!(hashes.note(&well), None);
        }
        assert!(hashes.note(&row(2, 8, 81)).unwrap().contains("replicas 1 and 2"));
    }
}
