//! What a leader's own replication tasks get to see when somebody knows a higher vote.

use std::sync::Arc;

use openraft::{
    BasicNode, Vote,
    error::RPCError,
    network::{RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::AppendEntriesRequest,
};
use polybolos_env::Env;
use polybolos_model::ReplicaId;

use super::cluster::{Cluster, address};
use crate::{member::Member, network::Network, peers::Peers, read_with};

const ALL: [u64; 3] = [1, 2, 3];

#[tokio::test(start_paused = true)]
async fn a_higher_vote_goes_to_the_core_and_ends_no_replication_task() {
    let cluster = Cluster::three().await;
    let leader = cluster.leader(&ALL).await;
    let deposed = leader % 3 + 1;
    let name = read_with(cluster.log(leader), |state| state.cluster_id().to_owned());
    let member = Member::new(ReplicaId(deposed), &address(deposed), 0, 1, name);
    let env = Env { net: cluster.net.host(&address(deposed)), ..super::env() };
    let (mut network, mut votes) = Network::new(Arc::new(member), Peers::new(&env));
    let mut peer = network.new_client(leader, &BasicNode { addr: address(leader) }).await;

    let stale = AppendEntriesRequest {
        vote: Vote::new_committed(0, deposed),
        prev_log_id: None,
        entries: vec![],
        leader_commit: None,
    };
    let core = async {
        let higher = votes.recv().await.unwrap();
        higher.heard.send(()).unwrap();
        higher.vote
    };
    let option = RPCOption::new(std::time::Duration::from_secs(1));
    let (answer, vote) = tokio::join!(peer.append_entries(stale, option), core);
    assert!(matches!(answer, Err(RPCError::Unreachable(_))), "{answer:?}");
    assert_eq!((vote.leader_id.term, vote.leader_id.voted_for()), (cluster.term(leader).0, Some(leader)));
}
