//! Replicas of different versions in one cluster.

use std::time::{Duration, Instant};

use polybolos_state::ENTRY_VERSION;
use serde_json::Value;
use tokio::time::sleep;

use crate::{alone, fleet::Fleet};

/// The flag that makes a replica speak no more than the first version.
const HELD: [&str; 2] = ["--hold-version", "1"];

/// The version that this program speaks.
pub(crate) const NEWEST: u64 = ENTRY_VERSION as u64;

pub(crate) async fn version_in_use(fleet: &Fleet, expected: u64) {
    let started = Instant::now();
    loop {
        let status = fleet.run(&["status", "--format", "json"]).exits(0).json();
        if status["version"] == expected {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "version {expected} is not in use: {status:#}");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn rolling() {
    let mut fleet = Fleet::plan(3, 1);
    let plain = fleet.schedulers[0].args.clone();
    fleet.schedulers[0].args.extend(HELD.map(str::to_owned));
    fleet.start_all().await;
    fleet.sql("CREATE VIEW v AS SELECT 42 AS a").exits(0);
    assert_eq!(fleet.sql("SELECT a FROM v").exits(0).stdout, "a\n42\n");
    // Long enough for a leader that would raise it too early.
    sleep(Duration::from_secs(2)).await;
    version_in_use(&fleet, 1).await;
    let status = fleet.run(&["status", "--format", "json"]).exits(0).json();
    let versions: Vec<&Value> =
        status["replicas"].as_array().unwrap().iter().map(|r| &r["version"]).collect();
    assert_eq!(versions, [&Value::from(1), &Value::from(NEWEST), &Value::from(NEWEST)], "{status:#}");
    fleet.agree().await;

    fleet.schedulers[0].stop().await;
    let held = std::mem::replace(&mut fleet.schedulers[0].args, plain);
    fleet.schedulers[0].start().await;
    version_in_use(&fleet, NEWEST).await;
    assert_eq!(fleet.sql("SELECT a FROM v").exits(0).stdout, "a\n42\n");
    fleet.agree().await;

    // No way back for a program that can't read what is written now.
    fleet.schedulers[0].stop().await;
    let plain = std::mem::replace(&mut fleet.schedulers[0].args, held);
    let newer = format!("has format {NEWEST}");
    fleet.schedulers[0].refuses(&[&newer, "only up to 1", "newer"]).await;
    fleet.schedulers[0].args = plain;
    fleet.schedulers[0].start().await;
    fleet.agree().await;
}

#[test]
fn the_newer_version_is_used_once_every_replica_has_it() {
    alone(Duration::from_secs(120), rolling());
}
