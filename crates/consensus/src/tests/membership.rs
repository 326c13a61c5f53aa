//! The set of replicas changes, leadership is handed over, and wrong replicas are refused.
#![allow(clippy::disallowed_methods, reason = "measures pauses in simulated time")]

use std::{sync::Arc, time::Duration};

use polybolos_model::ReplicaId;
use polybolos_state::ENTRY_VERSION;
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, address};
use crate::{ReplicaConfig, ReplicasError, kv::memory::MemoryKv, read_with};

const ALL: [u64; 3] = [1, 2, 3];
const FOUR: [u64; 4] = [1, 2, 3, 4];

#[tokio::test(start_paused = true)]
async fn leadership_moves_to_the_replica_that_is_named() {
    let cluster = Cluster::three().await;
    for round in 0..6 {
        let from = cluster.leader(&ALL).await;
        let to = ALL.into_iter().find(|id| *id != from && (round % 2 == 0) == (*id < 3)).unwrap_or(from);
        let began = Instant::now();
        let now = cluster.log(from).replicas().unwrap().transfer(Some(ReplicaId(to))).await.unwrap();
        assert_eq!(now.leader.unwrap().0, ReplicaId(to));
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(cluster.leader(&ALL).await, to);
        let last = cluster.set(&ALL, &round.to_string()).await;
        cluster.agree(&ALL, last).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopping_leader_hands_over_first() {
    let mut cluster = Cluster::three().await;
    let leader = cluster.leader(&ALL).await;
    let running = cluster.running.remove(&leader).unwrap();
    running.log.shutdown().await;
    let rest: Vec<u64> = ALL.into_iter().filter(|id| *id != leader).collect();
    // It is there already.
    assert!(
        rest.iter().any(|id| cluster.leadership(*id).is_self || cluster.leadership(*id).leader.is_some())
    );
    cluster.set(&rest, "on").await;
}

#[tokio::test(start_paused = true)]
async fn a_new_replica_catches_up_and_votes_and_an_old_one_leaves_for_good() {
    let mut cluster = Cluster::three().await;
    cluster.set(&ALL, "before").await;
    let leader = cluster.leader(&ALL).await;
    // It waits to be added.
    cluster.start(4, &FOUR).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert!(cluster.log(4).outline().contains("joining"));
    let replicas = cluster.log(leader).replicas().unwrap();
    replicas.add(ReplicaId(4), address(4)).await.unwrap();
    replicas.add(ReplicaId(4), address(4)).await.unwrap();
    let other = replicas.add(ReplicaId(4), "h9:1".to_owned()).await.unwrap_err();
    assert!(matches!(other, ReplicasError::OtherAddress { .. }), "{other}");
    let last = cluster.set(&FOUR, "with four").await;
    cluster.agree(&FOUR, last).await;
    let seen = cluster.log(leader).describe().await;
    assert!(seen.iter().any(|replica| replica.id.0 == 4 && replica.is_voter), "{seen:#?}");

    // The leader is removed: it hands over, and the next one does it.
    let moved = replicas.remove(ReplicaId(leader)).await.unwrap_err();
    assert!(matches!(moved, ReplicasError::NotLeader { leader: Some(_) }), "{moved}");
    let next = cluster.leader(&FOUR).await;
    assert_ne!(next, leader);
    cluster.log(next).replicas().unwrap().remove(ReplicaId(leader)).await.unwrap();
    let rest: Vec<u64> = FOUR.into_iter().filter(|id| *id != leader).collect();
    let reason = cluster.refusal(leader).await;
    assert!(reason.contains("was removed"), "{reason}");
    cluster.kill(leader).await;
    let last = cluster.set(&rest, "three again").await;
    cluster.agree(&rest, last).await;

    let next = cluster.leader(&rest).await;
    let replicas = cluster.log(next).replicas().unwrap();
    replicas.remove(ReplicaId(leader)).await.unwrap();
    let retired = replicas.add(ReplicaId(leader), address(leader)).await.unwrap_err();
    assert!(matches!(retired, ReplicasError::Retired { .. }), "{retired}");
    assert!(matches!(replicas.remove(ReplicaId(77)).await, Err(ReplicasError::NotAMember { .. })));
    // With its old folder, and with a new one.
    cluster.start(leader, &FOUR).await.unwrap();
    assert!(cluster.refusal(leader).await.contains("was removed"));
    cluster.kill(leader).await;
    cluster.disks.insert(leader, Arc::new(MemoryKv::default()));
    cluster.start(leader, &FOUR).await.unwrap();
    assert!(cluster.refusal(leader).await.contains("never used again"));
}

#[tokio::test(start_paused = true)]
async fn the_only_voter_stays() {
    let mut cluster = Cluster::new();
    cluster.start(1, &[1]).await.unwrap();
    cluster.settled(&[1]).await;
    let alone = cluster.log(1).replicas().unwrap();
    assert!(matches!(alone.remove(ReplicaId(1)).await, Err(ReplicasError::LastVoter { .. })));
    assert!(matches!(alone.transfer(Some(ReplicaId(2))).await, Err(ReplicasError::NotAMember { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_known_id_with_an_empty_disk_is_refused() {
    let mut cluster = Cluster::three().await;
    let leader = cluster.leader(&ALL).await;
    let lost = ALL.into_iter().find(|id| *id != leader).unwrap();
    cluster.kill(lost).await;
    cluster.disks.insert(lost, Arc::new(MemoryKv::default()));
    cluster.start(lost, &ALL).await.unwrap();
    let reason = cluster.refusal(lost).await;
    assert!(reason.contains("another data folder") && reason.contains("cluster remove"), "{reason}");
    // The rest goes on, and the way out works.
    let rest: Vec<u64> = ALL.into_iter().filter(|id| *id != lost).collect();
    cluster.kill(lost).await;
    let leader = cluster.leader(&rest).await;
    cluster.log(leader).replicas().unwrap().remove(ReplicaId(lost)).await.unwrap();
    cluster.start(4, &FOUR).await.unwrap();
    cluster.log(leader).replicas().unwrap().add(ReplicaId(4), address(4)).await.unwrap();
    let three = [rest[0], rest[1], 4];
    let last = cluster.set(&three, "whole again").await;
    cluster.agree(&three, last).await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_of_another_cluster_is_refused_and_harms_nobody() {
    let mut cluster = Cluster::three().await;
    let leader = cluster.leader(&ALL).await;
    let place = ALL.into_iter().find(|id| *id != leader).unwrap();
    cluster.kill(place).await;
    // A folder of its own cluster of one, at the same address.
    let right = cluster.disks.insert(place, Arc::new(MemoryKv::default())).unwrap();
    let net = std::mem::replace(&mut cluster.net, super::net::TestNet::new());
    cluster.start(place, &[place]).await.unwrap();
    cluster
        .until("a name", || {
            (!read_with(cluster.log(place), |state| state.cluster_id().is_empty())).then_some(())
        })
        .await;
    cluster.kill(place).await;
    cluster.net = net;
    cluster.start(place, &ALL).await.unwrap();
    let reason = cluster.refusal(place).await;
    assert!(reason.contains("belongs to another cluster"), "{reason}");
    cluster.kill(place).await;
    cluster.disks.insert(place, right);
    cluster.start(place, &ALL).await.unwrap();
    let last = cluster.set(&ALL, "the right one").await;
    cluster.agree(&ALL, last).await;
}

#[tokio::test(start_paused = true)]
async fn the_version_rises_once_every_replica_can_apply_it() {
    let mut cluster = Cluster::new();
    let held = |config: ReplicaConfig| ReplicaConfig { version: ENTRY_VERSION - 1, ..config };
    cluster.start(1, &ALL).await.unwrap();
    cluster.start(2, &ALL).await.unwrap();
    cluster.start_with(held(cluster.config(3, &ALL))).await.unwrap();
    cluster.settled(&ALL).await;
    let last = cluster.set(&ALL, "mixed").await;
    cluster.agree(&ALL, last).await;
    let version = |cluster: &Cluster, id| read_with(cluster.log(id), |state| state.version());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(ALL.map(|id| version(&cluster, id)), [ENTRY_VERSION - 1; 3]);

    cluster.kill(3).await;
    cluster.start(3, &ALL).await.unwrap();
    cluster
        .until("the new version", || {
            ALL.iter().all(|id| version(&cluster, *id) == ENTRY_VERSION).then_some(())
        })
        .await;
    let leader = cluster.leader(&ALL).await;
    let term = cluster.term(leader);
    let entry = polybolos_state::Entry { version: ENTRY_VERSION, ..super::entry(term, "new") };
    let last = cluster.log(leader).propose(entry).await.unwrap().index;
    cluster.agree(&ALL, last).await;

    // The way back is closed.
    cluster.kill(3).await;
    let refused = cluster.start_with(held(cluster.config(3, &ALL))).await.unwrap_err();
    assert!(refused.to_string().contains("version"), "{refused}");
}
