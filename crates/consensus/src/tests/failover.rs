//! Leaders die, are cut off and come back.
#![allow(clippy::disallowed_methods, reason = "measures pauses in simulated time")]

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    cluster::{Cluster, address},
    entry,
};
use crate::{ConfirmError, DiskState, ProposeError, read_with};

const ALL: [u64; 3] = [1, 2, 3];

fn others(id: u64) -> Vec<u64> {
    ALL.into_iter().filter(|other| *other != id).collect()
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_replaced_and_nothing_committed_is_lost() {
    let mut cluster = Cluster::three().await;
    for round in 0..5 {
        cluster.set(&ALL, &format!("before {round}")).await;
        let dead = cluster.leader(&ALL).await;
        let before = cluster.term(dead);
        cluster.kill(dead).await;
        let killed = Instant::now();
        let rest = others(dead);
        let next = cluster.leader(&rest).await;
        let pause = killed.elapsed();
        assert!(pause < Duration::from_secs(2), "round {round}: {pause:?}");
        assert!(cluster.term(next) > before);
        assert_eq!(cluster.value(next), Some(format!("before {round}")));
        cluster.set(&rest, &format!("without {dead}")).await;
        cluster.start(dead, &ALL).await.unwrap();
        let last = cluster.set(&ALL, &format!("after {round}")).await;
        cluster.agree(&ALL, last).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_returning_outcast_does_not_unseat_a_healthy_leader() {
    let cluster = Cluster::three().await;
    let leader = cluster.leader(&ALL).await;
    let outcast = others(leader)[0];
    let term = cluster.term(leader);
    let far: Vec<String> = others(outcast).into_iter().map(address).collect();
    let far: Vec<&str> = far.iter().map(String::as_str).collect();
    cluster.net.isolate(&address(outcast), &far);
    sleep(Duration::from_secs(10)).await;
    let last = cluster.set(&others(outcast), "meanwhile").await;
    cluster.net.mend();
    cluster.agree(&ALL, last).await;
    assert_eq!(cluster.leader(&ALL).await, leader);
    assert_eq!(cluster.term(leader), term);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_hears_nobody_but_is_heard_does_no_harm() {
    let cluster = Cluster::three().await;
    let leader = cluster.leader(&ALL).await;
    let deaf = others(leader)[0];
    let term = cluster.term(leader);
    for other in others(deaf) {
        cluster.net.cut(&address(other), &address(deaf));
    }
    sleep(Duration::from_secs(10)).await;
    assert_eq!(cluster.term(leader), term);
    assert!(cluster.leadership(leader).serves());
}

#[tokio::test(start_paused = true)]
async fn a_leader_in_the_minority_serves_no_more_and_follows_when_it_comes_back() {
    let cluster = Cluster::three().await;
    let old = cluster.leader(&ALL).await;
    let rest = others(old);
    let far: Vec<String> = rest.iter().copied().map(address).collect();
    let far: Vec<&str> = far.iter().map(String::as_str).collect();
    cluster.set(&ALL, "before").await;
    cluster.net.isolate(&address(old), &far);
    let new = cluster.leader(&rest).await;
    let last = cluster.set(&rest, "after").await;
    cluster.until("loss of quorum", || (!cluster.leadership(old).serves()).then_some(())).await;
    // It still believes to lead, and can neither commit nor confirm.
    let term = cluster.term(old);
    assert!(cluster.term(new) > term);
    let refused = cluster.log(old).confirm().await.unwrap_err();
    assert!(matches!(refused, ConfirmError::NoQuorum { .. }), "{refused}");
    let lost = cluster.log(old).propose(entry(term, "never")).await.unwrap_err();
    assert!(lost.may_be_committed(), "{lost}");
    assert!(cluster.log(old).age().unwrap() > Duration::from_secs(1));
    cluster.net.mend();
    cluster.agree(&ALL, last).await;
    assert_eq!(cluster.value(old).as_deref(), Some("after"));
    assert_eq!(cluster.log(new).confirm().await, Ok(()));
    let hint = cluster.log(old).confirm().await.unwrap_err();
    assert!(matches!(hint, ConfirmError::NotLeader { leader: Some(_) }), "{hint}");
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_nothing_is_committed_until_one_returns() {
    let mut cluster = Cluster::three().await;
    let leader = cluster.leader(&ALL).await;
    let rest = others(leader);
    cluster.set(&ALL, "before").await;
    cluster.kill(rest[0]).await;
    cluster.kill(rest[1]).await;
    let term = cluster.term(leader);
    let lost = cluster.log(leader).propose(entry(term, "alone")).await.unwrap_err();
    assert!(matches!(lost, ProposeError::Unknown { .. }), "{lost}");
    assert!(!cluster.leadership(leader).serves());
    let outline = cluster.log(leader).outline();
    assert!(outline.contains(&format!("replica {} at {}", rest[0], address(rest[0]))), "{outline}");
    assert!(outline.contains("last answered"), "{outline}");
    cluster.start(rest[0], &ALL).await.unwrap();
    let pair = [leader, rest[0]];
    let last = cluster.set(&pair, "two of three").await;
    cluster.agree(&pair, last).await;
}

#[tokio::test(start_paused = true)]
async fn reads_at_once_share_a_round_and_see_what_was_committed() {
    let cluster = Cluster::three().await;
    let leader = cluster.leader(&ALL).await;
    cluster.set(&ALL, "seen").await;
    let log = cluster.log(leader);
    let all = futures::future::join_all((0..50).map(|_| log.confirm())).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(cluster.value(leader).as_deref(), Some("seen"));
    let follower = others(leader)[0];
    sleep(Duration::from_millis(500)).await;
    assert!(cluster.log(follower).age().unwrap() < Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn a_long_absence_is_made_up_by_a_snapshot() {
    let mut cluster = Cluster::three().await;
    let leader = cluster.leader(&ALL).await;
    let away = others(leader)[0];
    cluster.kill(away).await;
    let rest = others(away);
    for i in 0..2_300 {
        cluster.set(&rest, &i.to_string()).await;
    }
    let first = cluster.log(leader).describe().await;
    assert!(first.iter().any(|replica| replica.snapshot_index > 1_000), "{first:#?}");
    let last = cluster.set(&rest, "last").await;
    cluster.start(away, &ALL).await.unwrap();
    cluster.agree(&ALL, last).await;
    let described = cluster.log(away).describe().await;
    let back = described.iter().find(|replica| replica.id.0 == away).unwrap();
    assert!(back.snapshot_index > 1_000 && back.snapshot_bytes > 0, "{back:#?}");
    assert_eq!(read_with(cluster.log(away), super::trace).as_deref(), Some("last"));
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_disk_is_full_does_not_campaign() {
    let mut cluster = Cluster::three().await;
    let leader = cluster.leader(&ALL).await;
    let full = others(leader)[0];
    let well = others(leader)[1];
    cluster.running[&full].disk.send_replace(DiskState::Full { free_bytes: 7 });
    cluster.kill(leader).await;
    let next = cluster.leader(&[well, full]).await;
    assert_eq!(next, well);
    let seen = cluster.log(well).describe().await;
    let disk = seen.iter().find(|replica| replica.id.0 == full).unwrap().disk;
    assert_eq!(disk, DiskState::Full { free_bytes: 7 });
}
