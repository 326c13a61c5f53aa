//! Heartbeats, campaigns and the end of a reign: carries what [`crate::election`], [`crate::heard`] and the network say to
//! openraft and the network.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use openraft::{CommittedLeaderId, LogId, ServerState, raft::VoteRequest};
use polybolos_proto::v1::PreVoteRequest;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    DiskState,
    election::{Election, Standing, Step},
    network::HigherVote,
    node::Node,
    runtime, wire,
};

/// A snapshot replaces the log after this many bytes of commands. Their number alone (openraft counts it) would let a
/// log of large plans grow to many times the state that it makes.
const SNAPSHOT_EVERY_BYTES: u64 = 256 * 1024 * 1024;

/// While this replica leads: lets hear of itself, unless it hands over. On every replica: asks for snapshots by size.
pub(crate) async fn beat(node: Arc<Node>) {
    let mut ticks = interval(node.timing.heartbeat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let leads = node.raft.metrics().borrow().state == ServerState::Leader;
        let beat =
            if leads && !*node.silent.borrow() { node.raft.trigger().heartbeat().await } else { Ok(()) };
        let is_due = node.shared.is_snapshot_due(SNAPSHOT_EVERY_BYTES);
        let cut = if is_due || polybolos_model::buggify!("consensus.snapshot_now") {
            node.raft.trigger().snapshot().await
        } else {
            Ok(())
        };
        if let Err(stopped) = beat.and(cut) {
            return tracing::debug!(%stopped, "no more heartbeats");
        }
    }
}

/// Campaigns whenever it is due, until openraft stops.
pub(crate) async fn campaign(node: Arc<Node>) {
    let mut draw = |bound| node.draw(bound);
    let mut election = Election::new(node.timing, node.env.clock.now(), &mut draw);
    loop {
        let now = node.env.clock.now();
        let heard = node.heard().at();
        let campaigned = match election.step(now, heard, standing(&node)) {
            Step::Sleep(pause) => {
                tokio::select! {
                    biased;
                    () = node.take_over.notified() => election.take_over(node.env.clock.now()),
                    () = sleep(pause) => {}
                }
                continue;
            }
            Step::Canvass if !canvass(&node).await => {
                election.refused(node.env.clock.now(), &mut draw);
                continue;
            }
            Step::Canvass | Step::Campaign => {
                election.campaigned(node.env.clock.now(), &mut draw);
                tracing::info!(replica = %node.id(), "campaigning");
                node.raft.trigger().elect().await
            }
        };
        if let Err(stopped) = campaigned {
            return tracing::debug!(%stopped, "no more campaigns");
        }
    }
}

/// Hands higher votes to openraft's core, until it stops. The core takes each as it takes one from its own replication
/// tasks (see [`crate::network`]): it keeps the vote and follows. Nobody is told that the vote was given. Within the lease
/// after its own election it refuses; whoever knows the vote answers with it again.
pub(crate) async fn step_down(node: Arc<Node>, mut votes: mpsc::Receiver<HigherVote>) {
    // Whoever holds a higher vote judged the candidate's log; this replica has nothing to compare.
    let any_log = LogId::new(CommittedLeaderId::new(u64::MAX, u64::MAX), u64::MAX);
    while let Some(HigherVote { vote, heard }) = votes.recv().await {
        let request = VoteRequest::new(vote, Some(any_log));
        if let Err(stopped) = runtime::within(&node.env, node.raft.vote(request)).await {
            return tracing::debug!(%stopped, "no more votes");
        }
        polybolos_model::sometimes!("a leader was told of a higher vote");
        let _nobody_waits = heard.send(());
    }
}

fn standing(node: &Node) -> Standing {
    let metrics = node.raft.metrics();
    let metrics = metrics.borrow();
    let me = node.id().0;
    let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
    let may_lead = node.member.is_admitted()
        && voters.contains(&me)
        && metrics.state != ServerState::Leader
        && *node.disk.borrow() == DiskState::Ok
        && !*node.silent.borrow();
    Standing { may_lead, is_alone: voters.len() == 1 }
}

/// Whether a majority consents to a campaign of this replica.
async fn canvass(node: &Arc<Node>) -> bool {
    let last = match node.last_log_id().await {
        Ok(last) => last,
        Err(error) => {
            tracing::warn!(%error, "the log can't be read");
            return false;
        }
    };
    node.heard().canvass(Some((last, node.id())));
    let granted = ask(node, last).await;
    let now = node.env.clock.now();
    let mut heard = node.heard();
    heard.canvass(None);
    // A leader or a better candidate may have turned up meanwhile.
    granted && heard.leader_within(node.timing.lease, now).is_none() && !heard.gave_way(&node.timing, now)
}

async fn ask(node: &Arc<Node>, last: Option<LogId<u64>>) -> bool {
    let mut granted = BTreeSet::from([node.id().0]);
    if node.is_majority(&granted) {
        return true;
    }
    let term = node.raft.metrics().borrow().current_term + 1;
    let deadline = deadline(node);
    let mut answers: FuturesUnordered<_> = node
        .others()
        .into_iter()
        .filter(|member| member.is_voter)
        .map(|voter| {
            let request =
                PreVoteRequest { sender: Some(node.member.sender()), term, last: last.map(wire::log_id) };
            async move {
                let asked = node.peers.call((voter.id, &voter.address), deadline, |mut peer| async move {
                    peer.pre_vote(request).await
                });
                (voter.id, asked.await)
            }
        })
        .collect();
    while let Some((id, answer)) = answers.next().await {
        match answer {
            Ok(answer) if answer.granted => {
                granted.insert(id.0);
            }
            Ok(answer) => tracing::debug!(replica = %id, reason = answer.reason, "no consent"),
            Err(error) => tracing::debug!(%error, "no consent"),
        }
        if node.is_majority(&granted) {
            return true;
        }
    }
    false
}

/// Long enough for a connection and an answer, short enough that the next try comes soon.
fn deadline(node: &Node) -> Duration {
    node.timing.lease / 2
}
