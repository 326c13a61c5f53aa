//! The room as a whole: openraft's own storage suite, what a data folder keeps, and replicas that talk to each other.

mod cluster;
mod deposed;
mod failover;
mod folder;
mod full;
mod live;
mod membership;
mod net;
mod offline;
mod one_moment;
mod reopen;
mod strangers;
mod suite;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use polybolos_env::Env;
use polybolos_model::{ReplicaId, SessionId, Term};
use polybolos_state::{ClusterState, Command, Entry};
use tokio::time::timeout;

use crate::{Log, OpenError, ReplicaConfig, open, read_with};

pub(super) const ADDRESS: &str = "127.0.0.1:7000";
const LEAD_DEADLINE: Duration = Duration::from_secs(30);

pub(super) fn env() -> Env {
    Env::production(1).unwrap()
}

pub(super) fn config(data_dir: &Path) -> ReplicaConfig {
    let cluster = BTreeMap::from([(ReplicaId(1), ADDRESS.to_owned())]);
    ReplicaConfig::new(ReplicaId(1), cluster, data_dir.to_owned())
}

/// Opens a cluster of one and waits until it leads and has its name.
pub(super) async fn open_in(data_dir: &Path) -> Result<Arc<dyn Log>, OpenError> {
    let log = open(config(data_dir), &env()).await?.log;
    leads(log.as_ref()).await;
    Ok(log)
}

pub(super) async fn leads(log: &dyn Log) {
    let mut leadership = log.leadership();
    timeout(LEAD_DEADLINE, leadership.wait_for(crate::Leadership::serves)).await.unwrap().unwrap();
    let mut applied = log.applied();
    while read_with(log, |state| state.cluster_id().is_empty()) {
        timeout(LEAD_DEADLINE, applied.changed()).await.unwrap().unwrap();
    }
}

/// An entry that leaves a trace of `value` in the state.
pub(super) fn entry(term: Term, value: &str) -> Entry {
    let session = SessionId::new("session").unwrap();
    let set = Command::SetSession { session, key: "key".to_owned(), value: value.to_owned() };
    Entry::new(1, term, 1_000, vec![set])
}

pub(super) fn trace(state: &ClusterState) -> Option<String> {
    let session = SessionId::new("session").unwrap();
    state.session_options(&session).and_then(|options| options.get("key").cloned())
}

pub(super) fn value(log: &dyn Log) -> Option<String> {
    read_with(log, trace)
}

pub(super) fn term(log: &dyn Log) -> Term {
    log.leadership().borrow().term
}

/// Proposes `value` in the present term.
pub(super) async fn set(log: &dyn Log, value: &str) -> u64 {
    let committed = log.propose(entry(term(log), value)).await.unwrap();
    assert!(committed.applied.outcomes.iter().all(Result::is_ok), "{committed:?}");
    committed.index
}
