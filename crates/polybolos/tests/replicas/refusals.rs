//! Replicas that must not take part say why, and what to do.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{alone, fleet::Fleet};

fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// Flips bits all over the largest file.
fn damage(folder: &Path) {
    let files = files(folder);
    let largest = files.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(largest).unwrap();
    bytes.iter_mut().step_by(64).for_each(|byte| *byte ^= 0x10);
    fs::write(largest, bytes).unwrap();
}

async fn wrong_folders() {
    let mut fleet = Fleet::start(3, 1).await;
    fleet.sql("CREATE VIEW v AS SELECT 42 AS a").exits(0);
    fleet.agree().await;

    // The folder of replica 3 of another cluster.
    let mut other = Fleet::start(3, 0).await;
    other.sql("CREATE VIEW w AS SELECT 43 AS a").exits(0);
    other.agree().await;
    for node in &mut other.schedulers {
        node.stop().await;
    }
    fleet.schedulers[2].stop().await;
    let (own, foreign) = (fleet.schedulers[2].dir.clone(), other.schedulers[2].dir.clone());
    let aside = fleet.folder.path().join("aside");
    fs::rename(&own, &aside).unwrap();
    fs::rename(&foreign, &own).unwrap();
    fleet.schedulers[2].refuses(&["another cluster", own.to_str().unwrap()]).await;
    assert_eq!(fleet.sql("SELECT a FROM v").exits(0).stdout, "a\n42\n");

    // No folder at all: what it had voted for is forgotten, so it must not vote under its old id.
    fs::remove_dir_all(&own).unwrap();
    fleet.schedulers[2].refuses(&["replica 3", "cluster remove"]).await;

    // A damaged one.
    fs::remove_dir_all(&own).unwrap();
    fs::rename(&aside, &own).unwrap();
    let whole = fleet.folder.path().join("whole");
    copy(&own, &whole);
    damage(&own);
    fleet.schedulers[2].refuses(&[own.to_str().unwrap()]).await;

    // With its own folder it comes back.
    fs::remove_dir_all(&own).unwrap();
    fs::rename(&whole, &own).unwrap();
    fleet.schedulers[2].start().await;
    fleet.agree().await;
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

#[test]
fn a_wrong_an_empty_and_a_damaged_folder_are_refused() {
    alone(Duration::from_secs(150), wrong_folders());
}
