//! A replica whose disk is full reads only, and comes back by itself.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::time::sleep;

use crate::{alone, fleet::Fleet};

const DISK_BYTES: u64 = 96 * 1024 * 1024;
const DEADLINE: Duration = Duration::from_secs(30);

/// A small disk of its own; only root may mount one.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={DISK_BYTES}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then_some(Self(at))
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        let block = vec![7_u8; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily: the process that has files open there is killed a moment later.
        let _unmounted = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// Waits until the status shows this of replica 3.
async fn shows(fleet: &Fleet, what: &str, is: impl Fn(&Value) -> bool) {
    let started = Instant::now();
    loop {
        let status = fleet.run(&["cluster", "status", "--format", "json"]).exits(0).json();
        if status["replicas"].as_array().unwrap().iter().any(|row| row["id"] == 3 && is(row)) {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "replica 3 is not {what}: {status:#}");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn full(mut fleet: Fleet, disk: SmallDisk<'_>) {
    fleet.start_all().await;
    fleet.sql("CREATE VIEW v AS SELECT 42 AS a").exits(0);
    fleet.agree().await;
    disk.fill();
    // Enough to write that its own reserve does not last for ever.
    for number in 0..20 {
        fleet.sql(&format!("CREATE VIEW w{number} AS SELECT '{}' AS a", "x".repeat(50_000))).exits(0);
    }
    shows(&fleet, "full", |row| row["disk"] == "full").await;
    assert_eq!(fleet.sql("SELECT a FROM v").exits(0).stdout, "a\n42\n");
    assert!(fleet.run(&["cluster", "status"]).exits(0).stdout.contains("full"));
    disk.free();
    shows(&fleet, "well", |row| row["disk"] == "ok").await;
    fleet.agree().await;
    assert_eq!(fleet.sql("SELECT a FROM v").exits(0).stdout, "a\n42\n");
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let fleet = Fleet::plan(3, 1);
    let dir = fleet.schedulers[2].dir.clone();
    match SmallDisk::mount(&dir) {
        Some(disk) => alone(Duration::from_secs(150), full(fleet, disk)),
        None => eprintln!("skipped: no file system can be mounted here, which needs root"),
    }
}
