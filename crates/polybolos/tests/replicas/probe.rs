//! What a replica says of itself, asked over the wire.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use polybolos::Env;
use polybolos_proto::v1::{
    ClusterStatusRequest, ClusterStatusResponse, LeaderRequest, LeaderResponse, ReplicaStatus,
    query_service_client::QueryServiceClient,
};
use tokio::time::timeout;
use tonic::transport::Channel;

/// A replica that is paused does not answer at all.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// One for the whole process: it has threads.
pub(crate) fn env() -> Env {
    static ENV: LazyLock<Env> = LazyLock::new(|| Env::production(1).unwrap());
    ENV.clone()
}

async fn connect(address: &str) -> Option<QueryServiceClient<Channel>> {
    let channel = polybolos_env::grpc::connect(&env().net, address).await.ok()?;
    Some(QueryServiceClient::new(channel))
}

/// `None` if it does not answer in time.
pub(crate) async fn leadership(address: &str) -> Option<LeaderResponse> {
    let asked = async { connect(address).await?.leader(LeaderRequest {}).await.ok() };
    Some(timeout(PATIENCE, asked).await.ok()??.into_inner())
}

/// The status by this replica's own knowledge.
pub(crate) async fn stale_status(address: &str) -> Option<ClusterStatusResponse> {
    let request = ClusterStatusRequest { stale: true };
    let asked = async { connect(address).await?.cluster_status(request).await.ok() };
    Some(timeout(PATIENCE, asked).await.ok()??.into_inner())
}

/// What a replica says of itself in its own status.
pub(crate) async fn own_row(address: &str) -> Option<ReplicaStatus> {
    let status = stale_status(address).await?;
    status.replicas.into_iter().find(|replica| replica.address == address)
}

/// Hashes of the state, by applied index and replica.
#[derive(Debug, Default)]
pub(crate) struct Hashes(BTreeMap<u64, BTreeMap<u64, u64>>);

impl Hashes {
    /// Fails the test if another replica had another state at the same index.
    pub(crate) fn note(&mut self, row: &ReplicaStatus) {
        let at_index = self.0.entry(row.applied_index).or_default();
        at_index.insert(row.id, row.state_hash);
        let differ = at_index.values().any(|hash| *hash != row.state_hash);
        assert!(!differ, "the states differ at index {}: {at_index:x?}", row.applied_index);
    }

    /// The last index at which so many replicas were seen.
    pub(crate) fn common(&self, replicas: usize) -> Option<u64> {
        self.0
            .iter()
            .rev()
            .find(|(index, hashes)| **index > 0 && hashes.len() == replicas)
            .map(|(index, _)| *index)
    }
}

#[test]
fn different_states_at_one_index_are_noticed() {
    let row =
        |id, applied_index, state_hash| ReplicaStatus { id, applied_index, state_hash, ..Default::default() };
    let mut hashes = Hashes::default();
    for seen in [row(1, 7, 70), row(2, 6, 60), row(1, 8, 80), row(2, 7, 70)] {
        hashes.note(&seen);
    }
    assert_eq!((hashes.common(2), hashes.common(3)), (Some(7), None));
    let noticed = std::panic::catch_unwind(move || hashes.note(&row(2, 8, 81)));
    assert!(noticed.is_err());
}
