//! A data folder on a real disk: what it keeps, and whom it refuses.

#![allow(clippy::disallowed_methods, reason = "these tests damage real files")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use polybolos_model::{ReplicaId, Term};

use super::{ADDRESS, config, env, open_in, set, term, value};
use crate::{
    OpenError,
    kv::{
        Batch, Durability, Kv,
        sled::{SledKv, folder_in},
    },
    open, read_with,
    store::{self, Family},
};

async fn refusal(data_dir: &Path) -> OpenError {
    match open_in(data_dir).await {
        Ok(_) => panic!("the folder was opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_reopened_folder_holds_everything() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("made/on/demand");
    let (mut cluster, mut before) = (None, Term(0));
    for round in 0..5 {
        let log = open_in(&data_dir).await.unwrap();
        let present = read_with(log.as_ref(), |state| state.cluster_id().to_owned());
        assert_eq!(present.len(), 32);
        assert_eq!(cluster.get_or_insert_with(|| present.clone()), &present);
        assert_eq!(value(log.as_ref()), (round > 0).then(|| format!("{}", round - 1)));
        assert!(term(log.as_ref()) > before);
        before = term(log.as_ref());
        set(log.as_ref(), &round.to_string()).await;
        // Every other time without a clean shutdown.
        if round % 2 == 0 {
            log.shutdown().await;
        }
    }
}

#[tokio::test]
async fn another_clusters_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = open_in(folder.path()).await.unwrap();
    let error = refusal(folder.path()).await;
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    first.shutdown().await;
    drop(first);

    let elsewhere = BTreeMap::from([(ReplicaId(1), "127.0.0.1:9".to_owned())]);
    let moved = crate::ReplicaConfig { cluster: elsewhere, ..config(folder.path()) };
    let error = open(moved, &env()).await.err().unwrap();
    assert!(matches!(error, OpenError::OtherCluster { .. }), "{error}");
    assert!(error.to_string().contains("1=127.0.0.1:9"), "{error}");

    let cluster = BTreeMap::from([(ReplicaId(2), ADDRESS.to_owned())]);
    let other = crate::ReplicaConfig::new(ReplicaId(2), cluster, folder.path().to_owned());
    let error = open(other, &env()).await.err().unwrap();
    assert!(matches!(error, OpenError::OtherReplica { stored: ReplicaId(1), .. }), "{error}");

    // The refusals changed nothing.
    open_in(folder.path()).await.unwrap();
}

#[tokio::test]
async fn a_replica_outside_its_cluster_is_refused_before_a_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let mut two = config(&folder.path().join("data"));
    two.cluster.insert(ReplicaId(2), "127.0.0.1:7001".to_owned());
    two.id = ReplicaId(3);
    assert!(matches!(open(two, &env()).await, Err(OpenError::NotInCluster { .. })));
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[tokio::test]
async fn a_folder_of_a_layout_that_was_never_released_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    open_in(folder.path()).await.unwrap().shutdown().await;
    let kv = SledKv::open(&folder_in(folder.path())).await.unwrap();
    let mut batch = Batch::default();
    batch.put(vec![Family::Identity as u8], store::sealed(Family::Identity, 1, b"before the first release"));
    kv.write(batch, Durability::Flushed).await.unwrap();
    drop(kv);
    let error = refusal(folder.path()).await;
    assert!(matches!(error, OpenError::Newer { .. }), "{error}");
    assert!(error.to_string().contains("begin with an empty data folder"), "{error}");
}

#[tokio::test]
async fn a_folder_that_can_not_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let error = refusal(&file.join("data")).await;
    assert!(matches!(error, OpenError::Folder { .. }), "{error}");
}

/// Flips a bit in the first value of a family.
async fn damage(data_dir: &Path, family: Family) {
    let kv = SledKv::open(&folder_in(data_dir)).await.unwrap();
    let (key, mut value) = kv.range(&[family as u8], &[family as u8 + 1]).next().unwrap().unwrap();
    if let Some(byte) = value.last_mut() {
        *byte ^= 1;
    }
    let mut batch = Batch::default();
    batch.put(key, value);
    kv.write(batch, Durability::Flushed).await.unwrap();
}

#[tokio::test]
async fn a_damaged_record_is_refused_and_named() {
    for (family, name) in [
        (Family::Identity, "the identity record"),
        (Family::Vote, "the vote record"),
        (Family::Committed, "the commit record"),
        (Family::Entry, "log entry 0"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let log = open_in(folder.path()).await.unwrap();
        set(log.as_ref(), "one").await;
        log.shutdown().await;
        drop(log);
        damage(folder.path(), family).await;
        let error = refusal(folder.path()).await;
        assert!(matches!(error, OpenError::Damaged { .. }), "{family:?}: {error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.to_string().contains("rejoin as a new one"), "{error}");
    }
}

#[tokio::test]
async fn a_hole_at_the_end_of_the_log_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_in(folder.path()).await.unwrap();
    let last = set(log.as_ref(), "one").await;
    log.shutdown().await;
    drop(log);
    let kv = SledKv::open(&folder_in(folder.path())).await.unwrap();
    let mut batch = Batch::default();
    crate::store::entry::remove(&mut batch, last, last);
    kv.write(batch, Durability::Flushed).await.unwrap();
    drop(kv);
    let error = refusal(folder.path()).await;
    assert!(error.to_string().contains(&format!("log entry {last} is missing")), "{error}");
}

#[tokio::test]
async fn large_values_make_no_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_in(folder.path()).await.unwrap();
    for round in 0..20 {
        let name = polybolos_state::RelationName { schema: "s".to_owned(), name: format!("t{round}") };
        let table = polybolos_state::TableDef { ddl: "x".to_owned(), provider: vec![round; 1_000_000] };
        let create =
            polybolos_state::Command::CreateTable { name, table, or_replace: false, if_not_exists: false };
        let entry = polybolos_state::Entry::new(1, term(log.as_ref()), 1, vec![create]);
        log.propose(entry).await.unwrap().applied.outcomes.remove(0).unwrap();
    }
    drop(log);
    open_in(folder.path()).await.unwrap();
    let blobs = std::fs::read_dir(folder_in(folder.path()).join("blobs")).unwrap().count();
    assert_eq!(blobs, 0);
}

const CHILD_FOLDER: &str = "POLYBOLOS_CONSENSUS_TEST_FOLDER";

/// Not a test of its own: what [`an_acknowledged_commit_survives_sigkill`] runs in another process.
#[tokio::test]
async fn child_that_commits_until_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER).map(PathBuf::from) else { return };
    let log = open_in(&folder).await.unwrap();
    let start = value(log.as_ref()).map_or(0, |value| value.parse::<u64>().unwrap());
    for number in start + 1.. {
        set(log.as_ref(), &number.to_string()).await;
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "acknowledged {number}").unwrap();
        stdout.flush().unwrap();
    }
}

/// Runs `work` and then drops all that it left running, as the end of a process would.
fn as_a_process<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn an_acknowledged_commit_survives_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "tests::folder::child_that_commits_until_killed"])
            .env(CHILD_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let numbers = lines.filter_map(|line| line.ok()?.rsplit_once("acknowledged ")?.1.parse::<u64>().ok());
        let mut last = acknowledged;
        for number in numbers {
            assert_eq!(number, last + 1);
            last = number;
            if number >= acknowledged + 30 + round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(last > acknowledged, "the child committed nothing");
        let kept = as_a_process(async { value(open_in(folder.path()).await.unwrap().as_ref()) });
        acknowledged = kept.unwrap().parse().unwrap();
        // The last one may have been committed without a word of it.
        assert!(acknowledged == last || acknowledged == last + 1, "{acknowledged} after {last}");
    }
}

/// A copy of a data folder, with `change` made to its database file.
fn damaged_copy(data_dir: &Path, change: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let (from, to) = (folder_in(data_dir), folder_in(copy.path()));
    std::fs::create_dir_all(&to).unwrap();
    for file in
        std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
    {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
    let mut bytes = std::fs::read(to.join("db")).unwrap();
    change(&mut bytes);
    std::fs::write(to.join("db"), bytes).unwrap();
    copy
}

/// What opening the folder gives: its value, or `None` for a refusal because of damage.
fn opened(data_dir: &Path) -> Option<String> {
    as_a_process(async {
        match open_in(data_dir).await {
            Ok(log) => Some(value(log.as_ref()).unwrap_or_default()),
            Err(OpenError::Damaged { .. }) => None,
            Err(other) => panic!("{other}"),
        }
    })
}

#[test]
fn damage_anywhere_in_the_file_never_loses_an_acknowledged_commit_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    // Opened twice, since sled writes a summary of its log when it opens.
    for opening in 1..=2 {
        as_a_process(async {
            let log = open_in(folder.path()).await.unwrap();
            for i in 0..=100 {
                set(log.as_ref(), &i.to_string()).await;
            }
            log.shutdown().await;
        });
        let bytes = std::fs::read(folder_in(folder.path()).join("db")).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let mut refused = 0;
        for at in (0..used).step_by(used / 40) {
            match opened(damaged_copy(folder.path(), |bytes| bytes[at] ^= 0x10).path()) {
                Some(value) => {
                    assert_eq!(value, "100", "a flipped bit in byte {at} of {used}, opening {opening}")
                }
                None => refused += 1,
            }
        }
        assert!(refused > 0);
        // sled panics on some of what such damage leads to.
        let flip = |bytes: &mut Vec<u8>| (0..used).step_by(used / 42).for_each(|at| bytes[at] ^= 0x10);
        assert_eq!(opened(damaged_copy(folder.path(), flip).path()), None, "many flipped bits");
        let cut = damaged_copy(folder.path(), |bytes| bytes.truncate(used / 2));
        assert_eq!(opened(cut.path()), None, "cut short");
        assert_eq!(opened(damaged_copy(folder.path(), |_| ()).path()).as_deref(), Some("100"));
    }
}

#[tokio::test]
async fn a_log_of_another_kind_is_not_taken_for_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    open_in(folder.path()).await.unwrap().shutdown().await;
    let journal = crate::ReplicaConfig { store: crate::Store::Journal, ..config(folder.path()) };
    let error = open(journal, &env()).await.err().unwrap();
    assert!(matches!(error, OpenError::OtherStore { .. }), "{error}");
}
