//! Messages of those who are no members.

use polybolos_proto::v1::{
    AppendRequest, PreVoteRequest, RaftLogId, RaftVote, Sender, TakeOverRequest, VoteRequest,
    replica_service_client::ReplicaServiceClient,
};

use super::cluster::{Cluster, address};

/// Somebody who does not say of which cluster they are.
fn stranger() -> Option<Sender> {
    Some(Sender { cluster_id: String::new(), replica: 77, version: 3 })
}

#[tokio::test(start_paused = true)]
async fn a_stranger_s_term_unseats_nobody() {
    let cluster = Cluster::three().await;
    let leader = cluster.leader(&[1, 2, 3]).await;
    let term = cluster.term(leader);
    let vote = Some(RaftVote { term: u64::MAX, voted_for: Some(77), committed: true });
    let last = Some(RaftLogId { term: u64::MAX, index: u64::MAX });
    for id in 1..=3 {
        let net = cluster.net.host("h77:7600");
        let channel = polybolos_env::grpc::connect(&net, &address(id)).await.unwrap();
        let mut replica = ReplicaServiceClient::new(channel);
        let sender = stranger();
        let voted = replica.vote(VoteRequest { sender: sender.clone(), vote, last }).await;
        assert!(voted.unwrap_err().message().contains("no member"));
        let append = AppendRequest { sender: sender.clone(), vote, ..AppendRequest::default() };
        assert!(replica.append(append).await.is_err());
        let ask = PreVoteRequest { sender: sender.clone(), term: u64::MAX, last };
        assert!(replica.pre_vote(ask).await.is_err());
        assert!(replica.take_over(TakeOverRequest { sender, term: term.0 }).await.is_err());
    }
    let index = cluster.set(&[1, 2, 3], "as ever").await;
    cluster.agree(&[1, 2, 3], index).await;
    assert_eq!((cluster.leader(&[1, 2, 3]).await, cluster.term(leader)), (leader, term));
}
