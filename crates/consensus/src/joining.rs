//! How a replica with a new data folder comes to take part: it forms a cluster with the others, or is entered into theirs.
//!
//! ```text
//!   Describe to all ──▶ verdict ──┬─▶ Form     all of them are as new, and were started with the same --cluster
//!                                 ├─▶ Ask      they have a cluster: its leader enters this folder under the id, or not
//!                                 └─▶ Wait     one does not answer, or nobody has added it yet
//! ```
//!
//! Until then it neither votes nor appends. A replica that lost its disk would otherwise come back with an empty log
//! under its old id, vote again, and so let acknowledged entries be lost. A new cluster needs all of its replicas once:
//! the one that does not answer may belong to a cluster already, which two newcomers must not take the place of.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use openraft::{
    BasicNode,
    error::{InitializeError, RaftError},
};
use polybolos_model::ReplicaId;
use polybolos_proto::v1::{DescribeRequest, DescribeResponse, admit_response::Outcome};
use tokio::time::sleep;

use crate::{node::Node, open, runtime, steward, store::identity::Identity};

const INTERVAL: Duration = Duration::from_millis(200);
const ASK_DEADLINE: Duration = Duration::from_millis(500);
/// How often a replica that waits says so.
const TELL_EVERY: u32 = 25;
/// How long a replica that takes part looks whether it does so in the right cluster, while it hears of no leader.
const BELONGING_INTERVAL: Duration = Duration::from_secs(1);

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Form,
    /// Ask these, the leader first.
    Ask(Vec<(ReplicaId, String)>),
    Wait(String),
}

type Answers = BTreeMap<ReplicaId, DescribeResponse>;

fn verdict(me: ReplicaId, bootstrap: &BTreeMap<ReplicaId, String>, answers: &Answers) -> Verdict {
    let mut belonging: Vec<_> = answers.iter().filter(|(_, answer)| !answer.cluster_id.is_empty()).collect();
    if !belonging.is_empty() {
        belonging.sort_by_key(|(_, answer)| answer.role != "leader");
        let address = |id: &ReplicaId| bootstrap.get(id).cloned().unwrap_or_default();
        return Verdict::Ask(belonging.into_iter().map(|(id, _)| (*id, address(id))).collect());
    }
    let named: BTreeMap<u64, &String> = bootstrap.iter().map(|(id, address)| (id.0, address)).collect();
    let agrees = |answer: &DescribeResponse| {
        answer.members.len() == named.len()
            && answer.members.iter().all(|(id, address)| named.get(id) == Some(&address))
    };
    if let Some((other, answer)) = answers.iter().find(|(_, answer)| !agrees(answer)) {
        let theirs: BTreeMap<_, _> =
            answer.members.iter().map(|(id, at)| (ReplicaId(*id), at.clone())).collect();
        let (ours, theirs) =
            (crate::open_error::cluster_text(bootstrap), crate::open_error::cluster_text(&theirs));
        return Verdict::Wait(format!(
            "replica {me} was started with --cluster {ours}, and replica {other} with {theirs}: they must be the same"
        ));
    }
    let present = 1 + answers.len();
    if present == bootstrap.len() {
        return Verdict::Form;
    }
    Verdict::Wait(format!(
        "{present} of {} replicas answer; a new cluster begins when all do",
        bootstrap.len()
    ))
}

/// Asks every other replica for what it is: those of the `--cluster`, and those of the log if it has any.
async fn ask_all(node: &Node) -> Answers {
    let mut others = node.bootstrap.clone();
    others.extend(node.members().into_iter().map(|member| (member.id, member.address)));
    others.remove(&node.id());
    let asked = others.into_iter().map(|(id, address)| async move {
        let request = DescribeRequest { sender: Some(node.member.sender()) };
        let described = node
            .peers
            .call((id, &address), ASK_DEADLINE, |mut peer| async move { peer.describe(request).await });
        described.await.ok().map(|answer| (id, answer))
    });
    // A reply under another id is a wrong address.
    join_all(asked).await.into_iter().flatten().filter(|(id, answer)| answer.replica == id.0).collect()
}

/// Runs until the replica takes part, or is refused for good.
pub(crate) async fn join(node: Arc<Node>, identity: Identity) {
    let mut round: u32 = 0;
    loop {
        let why = match verdict(node.id(), &node.bootstrap, &ask_all(&node).await) {
            Verdict::Form => return form(&node).await,
            Verdict::Ask(replicas) => match ask(&node, replicas).await {
                Asked::Entered(cluster_id) => return enter(&node, identity, cluster_id).await,
                Asked::Refused(reason) => return node.refuse(reason),
                Asked::Wait(why) => why,
            },
            Verdict::Wait(why) => why,
        };
        if round.is_multiple_of(TELL_EVERY) {
            tracing::info!(replica = %node.id(), why, "waiting to take part");
        }
        round = round.wrapping_add(1);
        sleep(INTERVAL).await;
    }
}

enum Asked {
    Entered(String),
    Refused(String),
    Wait(String),
}

async fn ask(node: &Node, replicas: Vec<(ReplicaId, String)>) -> Asked {
    let (me, address) = (node.id(), &node.member.address);
    let mut why = "no replica of the cluster leads it now".to_owned();
    for (id, at) in replicas {
        match steward::ask_admission(node, (id, &at)).await {
            Some(Outcome::ClusterId(cluster_id)) => return Asked::Entered(cluster_id),
            Some(Outcome::Refused(reason)) => return Asked::Refused(reason),
            Some(Outcome::NotAMember(_)) => {
                why = format!(
                    "replica {me} is not a member yet: `polybolos cluster add --id {me} --address {address}` makes it one"
                );
            }
            // The leader is asked in the next round, when it says that it is.
            Some(Outcome::Leader(_)) | None => {}
        }
    }
    Asked::Wait(why)
}

/// The first voters all begin with the same entry, so each of them may write it.
async fn form(node: &Arc<Node>) {
    let members: BTreeMap<u64, BasicNode> =
        node.bootstrap.iter().map(|(id, addr)| (id.0, BasicNode { addr: addr.clone() })).collect();
    match runtime::within(&node.env, node.raft.initialize(members)).await {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
            tracing::info!(replica = %node.id(), "forming a cluster");
            node.member.admit();
        }
        Err(error) => node.refuse(format!("the cluster can't be formed: {error}")),
    }
}

async fn enter(node: &Node, identity: Identity, cluster_id: String) {
    let identity = Identity { cluster_id: cluster_id.clone(), ..identity };
    match open::write_identity(node.kv.as_ref(), &identity).await {
        Ok(()) => {
            tracing::info!(replica = %node.id(), cluster_id, "entered into the cluster");
            node.member.set_cluster_id(&cluster_id);
            node.member.admit();
        }
        Err(error) => node.refuse(format!("the cluster's id could not be written: {error}")),
    }
}

/// Looks whether the replica was removed, or stands in another cluster's place, while it hears of no leader.
pub(crate) async fn check_belonging(node: Arc<Node>) {
    let mut is_first = true;
    loop {
        let hears = node.hears_leader();
        let ours = node.member.cluster_id();
        // The first look is for a cluster of one that has its own leader at once.
        if node.member.is_admitted() && !ours.is_empty() && (is_first || !hears) {
            if let Some(reason) = misplaced(&node, &ours, &ask_all(&node).await) {
                return node.refuse(reason);
            }
            is_first = false;
        }
        sleep(BELONGING_INTERVAL).await;
    }
}

/// Why this replica is in the wrong place, if it is. One wrong replica must not stop the right ones, so a majority of
/// all must say so, or one of the same cluster in whose log it was removed.
fn misplaced(node: &Node, ours: &str, answers: &Answers) -> Option<String> {
    let me = node.id();
    let removed = answers.iter().find(|(_, answer)| answer.cluster_id == ours && answer.sender_removed);
    if let Some((other, _)) = removed {
        return Some(format!(
            "replica {me} was removed from its cluster, says replica {other}: start with another --id and an empty \
             --data-dir, and enter it by `polybolos cluster add`"
        ));
    }
    let mut others: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (id, answer) in answers.iter().filter(|(_, answer)| !answer.cluster_id.is_empty()) {
        others.entry(&answer.cluster_id).or_default().push(id.to_string());
    }
    others.into_iter().find_map(|(theirs, ids)| {
        let is_majority = ids.len() * 2 > node.bootstrap.len().max(node.members().len());
        (theirs != ours && is_majority).then(|| {
            format!(
                "the data folder belongs to another cluster: to cluster {ours}, while the replicas {} at the addresses \
                 of --cluster are of cluster {theirs} (start with the right --data-dir, or with an empty one and another --id)",
                ids.join(", ")
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrap() -> BTreeMap<ReplicaId, String> {
        (1..=3).map(|id| (ReplicaId(id), format!("h:{id}"))).collect()
    }

    fn is(role: &str, cluster_id: &str) -> DescribeResponse {
        let members = (1..=3).map(|id| (id, format!("h:{id}"))).collect();
        DescribeResponse {
            role: role.to_owned(),
            cluster_id: cluster_id.to_owned(),
            members,
            ..DescribeResponse::default()
        }
    }

    #[test]
    fn new_replicas_form_a_cluster_once_all_are_there_and_an_old_one_is_asked() {
        let judge = |answers: &[(u64, DescribeResponse)]| {
            let answers = answers.iter().map(|(id, answer)| (ReplicaId(*id), answer.clone())).collect();
            verdict(ReplicaId(1), &bootstrap(), &answers)
        };
        assert!(matches!(judge(&[]), Verdict::Wait(why) if why.contains("1 of 3")));
        assert!(matches!(judge(&[(2, is("joining", ""))]), Verdict::Wait(why) if why.contains("2 of 3")));
        assert_eq!(judge(&[(2, is("joining", "")), (3, is("candidate", ""))]), Verdict::Form);
        // As soon as one is of a cluster, this replica may be the one that lost its disk.
        let asked = vec![(ReplicaId(3), "h:3".to_owned()), (ReplicaId(2), "h:2".to_owned())];
        assert_eq!(judge(&[(2, is("follower", "x")), (3, is("leader", "x"))]), Verdict::Ask(asked));
        assert_eq!(
            judge(&[(2, is("joining", "")), (3, is("follower", "x"))]),
            Verdict::Ask(vec![(ReplicaId(3), "h:3".to_owned())])
        );
        let mut elsewhere = is("joining", "");
        elsewhere.members.remove(&3);
        assert!(matches!(judge(&[(2, elsewhere)]), Verdict::Wait(why) if why.contains("must be the same")));
        let alone = BTreeMap::from([(ReplicaId(1), "h:1".to_owned())]);
        assert_eq!(verdict(ReplicaId(1), &alone, &Answers::new()), Verdict::Form);
    }
}
