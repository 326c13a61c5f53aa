//! Backups, and what is left when a majority's disks are lost.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::Value;

use crate::{
    alone,
    fleet::Fleet,
    support::{free_address, run},
};

/// The cluster's id and its history, as texts.
fn identity(fleet: &Fleet) -> (String, String) {
    let status = fleet.run(&["cluster", "status", "--format", "json"]).exits(0).json();
    (status["cluster_id"].as_str().unwrap().to_owned(), status["history"].to_string())
}

async fn backup() {
    let source = Fleet::start(3, 0).await;
    source.sql("CREATE VIEW v AS SELECT 42 AS a").exits(0);
    let file = source.folder.path().join("backup");
    let file = file.to_str().unwrap();
    source.run(&["cluster", "snapshot", "--out", file]).exits(0);
    // What came later is not in it.
    source.sql("CREATE VIEW w AS SELECT 43 AS a").exits(0);

    let mut target = Fleet::plan(1, 1);
    let (dir, address) = (target.schedulers[0].dir.clone(), target.schedulers[0].address.clone());
    let dir = dir.to_str().unwrap();
    let restore =
        ["cluster", "restore", "--from", file, "--data-dir", dir, "--id", "1", "--address", &address];
    run(&restore).exits(0);
    // Never over what is there.
    run(&restore).exits(2).says(dir);
    target.start_all().await;
    assert_eq!(target.sql("SELECT a FROM v").exits(0).stdout, "a\n42\n");
    target.sql("SELECT a FROM w").exits(1);
    let ((old, _), (new, history)) = (identity(&source), identity(&target));
    assert_ne!(old, new);
    assert!(history.contains("restored") && history.contains(&old), "{history}");

    // A damaged backup is refused.
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
    let other = target.folder.path().join("other");
    run(&[&restore[..5], &[other.to_str().unwrap()], &restore[6..]].concat()).exits(2).says(file);
}

#[test]
fn a_backup_becomes_another_cluster() {
    alone(Duration::from_secs(120), backup());
}

async fn recovery() {
    let mut fleet = Fleet::start(3, 1).await;
    fleet.sql("CREATE VIEW v AS SELECT 42 AS a").exits(0);
    fleet.agree().await;
    let (cluster, _) = identity(&fleet);
    for node in &mut fleet.schedulers {
        node.kill();
    }
    for lost in &fleet.schedulers[1..] {
        fs::remove_dir_all(&lost.dir).unwrap();
    }
    let dir = fleet.schedulers[0].dir.to_str().unwrap().to_owned();
    let recover = ["cluster", "recover", "--force-from", &dir];
    run(&recover).exits(2).says("--yes");
    let ended = run(&[&recover[..], &["--yes"]].concat()).exits(0);
    // It says what it does and what may be missing.
    assert!(
        ended.stderr.contains("lost") && ended.stderr.contains('2') && ended.stderr.contains('3'),
        "{ended:#?}"
    );

    fleet.schedulers[0].start().await;
    fleet.leader().await;
    assert_eq!(fleet.sql("SELECT a FROM v").exits(0).stdout, "a\n42\n");
    let (same, history) = identity(&fleet);
    assert_eq!(same, cluster);
    assert!(history.contains("recover"), "{history}");

    // Replicas with new ids make it three again.
    let mut members = BTreeMap::from([(1, fleet.schedulers[0].address.clone())]);
    members.extend([(4, free_address()), (5, free_address())]);
    fleet.schedulers.truncate(1);
    for id in [4, 5] {
        let mut node = fleet.scheduler(id, &members);
        node.start().await;
        fleet.schedulers.push(node);
        fleet.run(&["cluster", "add", "--id", &id.to_string(), "--address", &members[&id]]).exits(0);
    }
    fleet.agree().await;
    let status = fleet.run(&["cluster", "status", "--format", "json"]).exits(0).json();
    let voting = |row: &&Value| row["voter"] == Value::Bool(true);
    assert_eq!(status["replicas"].as_array().unwrap().iter().filter(voting).count(), 3, "{status:#}");
}

#[test]
fn one_folder_of_three_is_enough_when_somebody_insists() {
    alone(Duration::from_secs(120), recovery());
}
