//! A disk that is really full: a small file system in memory, which this test mounts where only it sees it.
//!
//! Mounting takes rights that not every machine gives: then the test says so and is skipped.

#![allow(clippy::disallowed_methods, reason = "these tests fill a real file system")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use openraft::{
    CommittedLeaderId, Entry, EntryPayload, LogId,
    storage::{RaftLogStorage, RaftLogStorageExt},
};
use polybolos_model::Term;
use polybolos_state::ENTRY_VERSION;
use tokio::time::timeout;

use super::env;
use crate::{
    DiskState,
    kv::{Durability, Kv, KvError, journal::JournalKv, patient::PatientKv, sled::SledKv},
    log_store::LogStore,
    raft::{Proposal, TypeConfig},
};

const FOLDER: &str = "POLYBOLOS_FULL_FOLDER";
const SIDE: &str = "POLYBOLOS_FULL_SIDE";
const MIB: u64 = 1024 * 1024;
const DISK_BYTES: u64 = 256 * MIB;
const RESERVE_BYTES: u64 = 64 * MIB;
/// What the shell ends with when the file system can't be mounted.
const NOT_MOUNTED: i32 = 77;

async fn open(side: &str, folder: &Path) -> Result<Arc<dyn Kv>, KvError> {
    match side {
        "sled" => Ok(Arc::new(SledKv::open(folder).await?)),
        "journal" => Ok(Arc::new(JournalKv::open(&env(), folder).await?)),
        other => panic!("no store is called {other}"),
    }
}

fn entry(index: u64, bytes: usize) -> Entry<TypeConfig> {
    let content = super::entry(Term(1), &"x".repeat(bytes)).encode().unwrap();
    let log_id = LogId::new(CommittedLeaderId::new(1, 0), index);
    Entry { log_id, payload: EntryPayload::Normal(Proposal(content)) }
}

/// Not a test of its own: what [`in_a_small_file_system`] runs in a process that sees the file system.
#[tokio::test]
async fn child_that_fills_the_disk() {
    let Some(disk) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let side = std::env::var(SIDE).unwrap();
    let folder = disk.join("log");
    let kv = open(&side, &folder).await.unwrap();
    assert!(kv.free_bytes().await.unwrap() <= DISK_BYTES, "the file system is not mounted here");
    let patient = Arc::new(PatientKv::with_reserve(kv, RESERVE_BYTES));
    let mut state = patient.state();
    let mut log = LogStore::open(Arc::clone(&patient) as Arc<dyn Kv>, ENTRY_VERSION).unwrap();
    // Somebody else takes all but a little more than the reserve.
    let other = disk.join("other");
    let left = RESERVE_BYTES + 24 * MIB;
    std::fs::write(&other, vec![1; (patient.free_bytes().await.unwrap() - left) as usize]).unwrap();

    let mut written = 0;
    let waiting = loop {
        let next = entry(written, [100, 20_000, 1_000_000][written as usize % 3]);
        let mut writer = log.clone();
        let write =
            tokio::spawn(async move { writer.blocking_append([next]).await.map_err(|e| e.to_string()) });
        tokio::select! {
            full = state.wait_for(|state| *state != DiskState::Ok) => {
                assert!(matches!(*full.unwrap(), DiskState::Full { free_bytes } if free_bytes > RESERVE_BYTES / 2));
                break write;
            }
            () = async { while !write.is_finished() { tokio::time::sleep(Duration::from_millis(1)).await } } => {
                write.await.unwrap().unwrap();
                written += 1;
            }
        }
    };
    println!("{side}: full after {written} entries");
    assert!(written > 3, "{written}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!waiting.is_finished());
    assert_eq!(log.get_log_state().await.unwrap().last_log_id.unwrap().index, written - 1);

    std::fs::remove_file(&other).unwrap();
    timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(*state.borrow(), DiskState::Ok);

    // A purge takes room as well, and waits for it.
    let free = patient.free_bytes().await.unwrap();
    std::fs::write(&other, vec![1; (free - RESERVE_BYTES - 6 * MIB) as usize]).unwrap();
    let mut purger = log.clone();
    let last = entry(written, 0).log_id;
    let purge = tokio::spawn(async move { purger.purge(last).await.map_err(|error| error.to_string()) });
    state.wait_for(|state| *state != DiskState::Ok).await.unwrap();
    assert!(patient.free_bytes().await.unwrap() > RESERVE_BYTES / 2);
    std::fs::remove_file(&other).unwrap();
    timeout(Duration::from_secs(10), purge).await.unwrap().unwrap().unwrap();
    log.blocking_append([entry(written + 1, 100)]).await.unwrap();
    drop((log, patient));

    // A full disk refuses to open, and harms nothing.
    let free = fs2::available_space(&disk).unwrap();
    std::fs::write(&other, vec![1; free as usize]).unwrap();
    assert!(matches!(open(&side, &folder).await, Err(KvError::Full { .. })));
    std::fs::remove_file(&other).unwrap();
    let kv = open(&side, &folder).await.unwrap();
    let mut log = LogStore::open(Arc::clone(&kv), u16::MAX).unwrap();
    assert_eq!(log.get_log_state().await.unwrap().last_log_id.unwrap().index, written + 1);
    kv.write(Default::default(), Durability::Flushed).await.unwrap();
    println!("{side}: passed");
}

/// Runs the child above in a mount namespace of its own, which goes with it.
fn in_a_small_file_system(side: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mount = format!(
        "mount -t tmpfs -o size={DISK_BYTES} polybolos-test \"$0\" || exit {NOT_MOUNTED}; exec \"$@\""
    );
    let child = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &mount])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "tests::full::child_that_fills_the_disk"])
        .env(FOLDER, folder.path())
        .env(SIDE, side)
        .output();
    let output = match child {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: `unshare` can't be run ({error})");
            return;
        }
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(NOT_MOUNTED) || errors.starts_with("unshare:") {
        println!("skipped: no file system can be mounted here ({})", errors.trim());
        return;
    }
    assert!(output.status.success() && said.contains(&format!("{side}: passed")), "{said}\n{errors}");
    println!("{said}");
}

#[test]
fn sled_waits_for_room() {
    in_a_small_file_system("sled");
}

#[test]
fn the_journal_waits_for_room() {
    in_a_small_file_system("journal");
}
