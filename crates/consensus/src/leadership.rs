//! From openraft's metrics to who leads and whether the log is alive.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use openraft::{ServerState, error};
use polybolos_model::{ReplicaId, Term};
use tokio::{sync::watch, time::timeout};

use crate::{Fatal, Leadership, raft::Metrics};

/// A leader whom no majority has answered for this long can't commit.
pub(crate) const QUORUM_TIMEOUT_MS: u64 = 1_000;

/// How often it is looked whether a leader is still heard.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What openraft's metrics don't tell.
pub(crate) trait Around: Send + 'static {
    /// Whether a leader was heard lately. openraft goes on naming the last one, dead or not.
    fn hears_leader(&self) -> bool;

    /// What only a newer version can read, if such was met.
    fn too_new(&self) -> Option<String>;

    /// It leads, in a term in which it did not before.
    fn elected(&self, _term: u64) {}
}

/// Publishes every change until openraft ends.
pub(crate) async fn follow(
    mut metrics: watch::Receiver<Metrics>,
    leadership: watch::Sender<Leadership>,
    fatal: watch::Sender<Option<Fatal>>,
    stopping: Arc<AtomicBool>,
    around: impl Around,
) {
    let mut quiet = Duration::ZERO;
    let mut led = None;
    let reason = loop {
        // Asked first: it reads the metrics too, and a second reader behind a waiting writer would wait for itself.
        let hears_leader = around.hears_leader();
        let (now, leads, running) = {
            let metrics = metrics.borrow_and_update();
            let leads = (metrics.state == ServerState::Leader).then_some(metrics.current_term);
            (of(&metrics, hears_leader, quiet), leads, metrics.running_state.clone())
        };
        if let Err(stopped) = running {
            break stopped;
        }
        if let Some(term) = leads.filter(|_| led != leads) {
            led = leads;
            around.elected(term);
        }
        leadership.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
        match timeout(LOOK_INTERVAL, metrics.changed()).await {
            Ok(Ok(())) => quiet = Duration::ZERO,
            Ok(Err(_)) => {
                break metrics.borrow().running_state.clone().err().unwrap_or(error::Fatal::Panicked);
            }
            Err(_) => quiet += LOOK_INTERVAL,
        }
    };
    leadership.send_modify(|leadership| (leadership.leader, leadership.is_self) = (None, false));
    if stopping.load(Ordering::Relaxed) {
        return;
    }
    let failure = match around.too_new() {
        Some(what) => {
            let reason = format!("{what}; start a newer version of Polybolos, or one that is held back less");
            Fatal { reason: reason.into(), refused: true }
        }
        None => {
            let reason = format!(
                "the replicated log has failed ({reason}); this process must exit, and may be started again"
            );
            Fatal { reason: reason.into(), refused: false }
        }
    };
    tracing::error!(reason = %failure, "the replica stops");
    // A refusal that came first says more.
    fatal.send_if_modified(|known| known.is_none() && known.replace(failure).is_none());
}

/// A new leader is not ready before it applied an entry of its own term: only then has it seen all that earlier leaders
/// committed.
/// A leader's metrics change with each heartbeat; `quiet` is how long they have not, since openraft's core waits for a
/// full disk: what they say of the majority is that old.
fn of(metrics: &Metrics, hears_leader: bool, quiet: Duration) -> Leadership {
    let term = metrics.current_term;
    let is_ready = metrics.last_applied.is_some_and(|id| id.leader_id.term == term);
    let leads = metrics.state == ServerState::Leader && metrics.current_leader == Some(metrics.id);
    let address = |id: u64| {
        let node = metrics.membership_config.nodes().find(|(member, _)| **member == id);
        node.map(|(_, node)| node.addr.clone()).unwrap_or_default()
    };
    let leader =
        metrics.current_leader.filter(|id| if *id == metrics.id { leads && is_ready } else { hears_leader });
    let voters = metrics.membership_config.voter_ids().count();
    let answered = metrics.millis_since_quorum_ack.is_none_or(|ms| {
        Duration::from_millis(ms).saturating_add(quiet) < Duration::from_millis(QUORUM_TIMEOUT_MS)
    });
    Leadership {
        term: Term(term),
        leader: leader.map(|id| (ReplicaId(id), address(id))),
        is_self: leads && is_ready,
        has_quorum: leads && is_ready && (voters <= 1 || answered),
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
        assert_eq!(
            of(&leader_of_term_3(2), false, Duration::ZERO),
            Leadership { term: Term(3), ..Leadership::default() }
        );
        assert!(of(&leader_of_term_3(3), false, Duration::ZERO).serves());
    }

    #[test]
    fn a_leader_whom_no_majority_answers_leads_on_but_does_not_serve() {
        let mut metrics = leader_of_term_3(3);
        let voters = vec![[1, 2, 3].into_iter().collect()];
        let members = openraft::Membership::new(voters, None);
        metrics.membership_config = Arc::new(openraft::StoredMembership::new(None, members));
        assert!(of(&metrics, false, Duration::ZERO).serves());
        metrics.millis_since_quorum_ack = Some(50);
        assert!(of(&metrics, false, Duration::from_millis(900)).serves());
        assert!(!of(&metrics, false, Duration::from_millis(1_000)).serves());
        metrics.millis_since_quorum_ack = Some(QUORUM_TIMEOUT_MS);
        let alone = of(&metrics, false, Duration::ZERO);
        assert!(alone.is_self && !alone.serves());
    }

    #[test]
    fn a_leader_that_is_not_heard_is_not_named() {
        let mut metrics = leader_of_term_3(3);
        (metrics.state, metrics.current_leader) = (ServerState::Follower, Some(2));
        assert_eq!(of(&metrics, true, Duration::ZERO).leader, Some((ReplicaId(2), String::new())));
        assert_eq!(of(&metrics, false, Duration::ZERO).leader, None);
    }

    struct Quiet;

    impl Around for Quiet {
        fn hears_leader(&self) -> bool {
            false
        }

        fn too_new(&self) -> Option<String> {
            None
        }
    }

    #[tokio::test]
    async fn the_end_of_openraft_is_fatal_unless_it_was_asked_for() {
        for asked in [false, true] {
            let (sender, metrics) = watch::channel(leader_of_term_3(3));
            let (leadership, mut leads) = watch::channel(Leadership::default());
            let (fatal, failed) = watch::channel(None);
            let asked_for = Arc::new(AtomicBool::new(asked));
            let task = tokio::spawn(follow(metrics, leadership, fatal, asked_for, Quiet));
            assert!(leads.wait_for(|leadership| leadership.is_self).await.is_ok());
            drop(sender);
            task.await.unwrap();
            assert!(!leads.borrow().is_self);
            assert_eq!(failed.borrow().is_some(), !asked);
        }
    }

    /// Looks at the metrics itself, as a replica does.
    struct Looks(watch::Receiver<Metrics>);

    impl Around for Looks {
        fn hears_leader(&self) -> bool {
            self.0.borrow().current_leader.is_some()
        }

        fn too_new(&self) -> Option<String> {
            None
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn following_never_holds_up_openraft() {
        let (sender, metrics) = watch::channel(leader_of_term_3(3));
        let looks = Looks(metrics.clone());
        let (leadership, fatal) = (watch::Sender::default(), watch::Sender::default());
        let task = tokio::spawn(follow(metrics, leadership, fatal, Arc::default(), looks));
        let writes = tokio::spawn(async move {
            for term in 0..100_000 {
                sender.send_modify(|metrics| metrics.current_term = term);
                if term % 100 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
        timeout(Duration::from_secs(60), writes).await.expect("no deadlock").unwrap();
        task.await.unwrap();
    }
}
