//! From openraft's metrics to who leads and whether the log is alive.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use openraft::{ServerState, error};
use polybolos_model::{ReplicaId, Term};
use tokio::sync::watch;

use crate::{Fatal, Leadership, raft::Metrics};

/// Publishes every change until openraft ends.
pub(crate) async fn follow(
    mut metrics: watch::Receiver<Metrics>,
    leadership: watch::Sender<Leadership>,
    fatal: watch::Sender<Option<Fatal>>,
    stopping: Arc<AtomicBool>,
) {
    let reason = loop {
        let (now, running) = {
            let metrics = metrics.borrow_and_update();
            (of(&metrics), metrics.running_state.clone())
        };
        if let Err(stopped) = running {
            break stopped;
        }
        leadership.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
        if metrics.changed().await.is_err() {
            break metrics.borrow().running_state.clone().err().unwrap_or(error::Fatal::Panicked);
        }
    };
    leadership.send_modify(|leadership| (leadership.leader, leadership.is_self) = (None, false));
    if !stopping.load(Ordering::Relaxed) {
        tracing::error!(%reason, "the replicated log has failed");
        fatal.send_replace(Some(Fatal { reason: reason.to_string().into() }));
    }
}

/// A new leader is not ready before it applied an entry of its own term: only then has it seen all that earlier leaders
/// committed.
fn of(metrics: &Metrics) -> Leadership {
    let term = metrics.current_term;
    let is_ready = metrics.last_applied.is_some_and(|id| id.leader_id.term == term);
    let leads = metrics.state == ServerState::Leader && metrics.current_leader == Some(metrics.id);
    let address = |id: u64| {
        let node = metrics.membership_config.nodes().find(|(member, _)| **member == id);
        node.map(|(_, node)| node.addr.clone()).unwrap_or_default()
    };
    let leader = metrics.current_leader.filter(|id| *id != metrics.id || (leads && is_ready));
    Leadership {
        term: Term(term),
        leader: leader.map(|id| (ReplicaId(id), address(id))),
        is_self: leads && is_ready,
    }
}

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, LogId};

    use super::*;

    fn leader_of_term_3(applied_term: u64) -> Metrics {
        let mut metrics = Metrics::new_initial(1);
        metrics.current_term = 3;
        metrics.state = ServerState::Leader;
        metrics.current_leader = Some(1);
        metrics.last_applied = Some(LogId::new(CommittedLeaderId::new(applied_term, 0), 9));
        metrics
    }

    #[test]
    fn a_leader_is_ready_once_it_applied_an_entry_of_its_own_term() {
        assert_eq!(of(&leader_of_term_3(2)), Leadership { term: Term(3), leader: None, is_self: false });
        assert!(of(&leader_of_term_3(3)).is_self);
    }

    #[tokio::test]
    async fn the_end_of_openraft_is_fatal_unless_it_was_asked_for() {
        for asked in [false, true] {
            let (sender, metrics) = watch::channel(leader_of_term_3(3));
            let (leadership, mut leads) = watch::channel(Leadership::default());
            let (fatal, failed) = watch::channel(None);
            let task = tokio::spawn(follow(metrics, leadership, fatal, Arc::new(AtomicBool::new(asked))));
            assert!(leads.wait_for(|leadership| leadership.is_self).await.is_ok());
            drop(sender);
            task.await.unwrap();
            assert!(!leads.borrow().is_self);
            assert_eq!(failed.borrow().is_some(), !asked);
        }
    }
}
