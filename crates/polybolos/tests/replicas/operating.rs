//! Replicas are added, removed, and made to hand leadership over.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use crate::{alone, fleet::Fleet};

/// Longest time until a change of the members shows everywhere.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until the status shows exactly these voters.
async fn voters(fleet: &Fleet, expected: &[u64]) {
    let started = Instant::now();
    loop {
        let status = fleet.run(&["cluster", "status", "--format", "json"]).exits(0).json();
        let rows = status["replicas"].as_array().unwrap();
        let voters = rows.iter().filter(|row| row["voter"] == Value::Bool(true));
        let mut voters: Vec<u64> = voters.map(|row| row["id"].as_u64().unwrap()).collect();
        voters.sort_unstable();
        if voters == expected {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "the voters are not {expected:?}: {status:#}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn answers(fleet: &Fleet) {
    assert_eq!(fleet.sql("SELECT a FROM v").exits(0).stdout, "a\n42\n");
}

/// SIGTERM: the others don't have to wait until the leader is missed.
async fn leader_leaves(fleet: &mut Fleet) {
    let at = fleet.leader().await;
    let started = Instant::now();
    fleet.schedulers[at].stop().await;
    fleet.leader().await;
    eprintln!("another replica led {:?} after the SIGTERM of the leader", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(5));
    answers(fleet);
    fleet.schedulers[at].start().await;
    fleet.agree().await;
}

async fn change_of_members() {
    let mut fleet = Fleet::start(3, 1).await;
    fleet.sql("CREATE VIEW v AS SELECT 42 AS a").exits(0);
    leader_leaves(&mut fleet).await;

    // It waits for its admission, and gets the log once it is added.
    let mut members = fleet.members();
    members.insert(4, crate::support::free_address());
    let fourth = fleet.scheduler(4, &members);
    fleet.schedulers.push(fourth);
    fleet.schedulers[3].start().await;
    let address = members[&4].clone();
    fleet.run(&["cluster", "add", "--id", "4", "--address", &address]).exits(0);
    voters(&fleet, &[1, 2, 3, 4]).await;
    fleet.agree().await;
    // Safe to repeat; another address under a known id is a mistake.
    fleet.run(&["cluster", "add", "--id", "4", "--address", &address]).exits(0);
    fleet.run(&["cluster", "add", "--id", "4", "--address", "127.0.0.1:1"]).exits(1).says(&address);

    fleet.run(&["cluster", "transfer", "--to", "4"]).exits(0);
    assert_eq!(fleet.leader().await, 3);
    answers(&fleet);
    fleet.run(&["cluster", "transfer", "--to", "9"]).exits(1).says("replica 9 is not a member");

    // Removing the leader moves leadership first. The removed replica leaves, and does not come back.
    fleet.run(&["cluster", "remove", "--id", "4"]).exits(0);
    voters(&fleet, &[1, 2, 3]).await;
    assert_eq!(fleet.schedulers[3].ends(DEADLINE).await, Some(2));
    assert!(fleet.leader().await < 3);
    answers(&fleet);
    fleet.schedulers[3].refuses(&["removed"]).await;
    fleet.run(&["cluster", "add", "--id", "4", "--address", &address]).exits(1).says("removed");

    let follower = (fleet.leader().await + 1) % 3;
    let id = (follower + 1).to_string();
    fleet.run(&["cluster", "remove", "--id", &id]).exits(0);
    let left: Vec<u64> = (1..=3).filter(|number| number.to_string() != id).collect();
    voters(&fleet, &left).await;
    assert_eq!(fleet.schedulers[follower].ends(DEADLINE).await, Some(2));
    answers(&fleet);
    fleet.agree().await;
}

#[test]
fn replicas_come_and_go_and_leadership_moves() {
    alone(Duration::from_secs(180), change_of_members());
}
