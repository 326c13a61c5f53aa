//! The library that nodes are started with, loaded into a real process: this program once more, which only writes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(
    unsafe_code,
    reason = "Rust's library has no sync_file_range, and that it is no sync has to be seen"
)]

use std::{
    fs::{self, File, OpenOptions},
    io::{IoSlice, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use polybolos_chaos::shim::{Shim, Undone, library};
use tempfile::TempDir;

/// What the program is to do, and where it says that it has done so.
const TASK: &str = "PBC_TEST_TASK";
const READY: &str = "PBC_TEST_READY";
const LIMIT: Duration = Duration::from_secs(60);
const JUMP_MS: i64 = -3_600_500;
const SLOW_MS: i64 = 500;
const THREADS: usize = 4;

/// A node's folders and its shim.
struct Node {
    folder: TempDir,
    shim: Shim,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = fs::canonicalize(folder.path()).unwrap();
        let library = library(Path::new(super::CHAOS)).expect("cargo builds it with the program");
        let shim = Shim::make(&library, &at.join("shim"), &at.join("data")).unwrap();
        Self { folder, shim }
    }

    fn data(&self) -> PathBuf {
        fs::canonicalize(self.folder.path()).unwrap().join("data")
    }

    fn start(&self, task: &str) -> Child {
        self.shim.begins().unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "shim::program"])
            .current_dir(self.data())
            .envs(self.shim.environment())
            .env(TASK, task)
            .env(READY, self.ready())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn ready(&self) -> PathBuf {
        self.folder.path().join("ready")
    }

    /// Lets the program do its task, and kills it then. What it has said.
    fn life(&self, task: &str) -> String {
        let mut child = self.start(task);
        let began = Instant::now();
        while !self.ready().exists() {
            assert!(began.elapsed() < LIMIT && child.try_wait().unwrap().is_none(), "{task} failed");
            sleep(Duration::from_millis(5));
        }
        assert!(self.shim.is_loaded(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        let said = fs::read_to_string(self.ready()).unwrap();
        fs::remove_file(self.ready()).unwrap();
        assert_eq!(self.shim.counts().not_kept, 0);
        said
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.data().join(name)).unwrap()
    }
}

#[test]
#[ignore = "a process that the other tests start"]
fn program() {
    let Some(task) = std::env::var_os(TASK) else { return };
    let said = match task.to_str().unwrap() {
        "write" => write(),
        "more" => more(false),
        "more, synced" => more(true),
        "sync" => format!("{:?}", synced("file", b"synced")),
        "threads" => threads(),
        "time" => time(),
        "slow" => slow(),
        other => panic!("what is {other}?"),
    };
    let ready = PathBuf::from(std::env::var_os(READY).unwrap());
    let aside = ready.with_extension("aside");
    fs::write(&aside, said).unwrap();
    fs::rename(aside, ready).unwrap();
    sleep(LIMIT);
}

fn synced(name: &str, bytes: &[u8]) -> File {
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(name).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
    file
}

/// Each name says what happens to it.
fn write() -> String {
    let file = synced("overwritten", &[1; 10_000]);
    file.write_all_at(&[2; 3_000], 500).unwrap();
    file.write_all_at(&[3; 3_000], 9_000).unwrap();
    // SAFETY: no pointers, and the descriptor is open.
    assert_eq!(unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, 7) }, 0);

    let file = File::create("by a second handle").unwrap();
    file.write_all_at(b"synced", 0).unwrap();
    OpenOptions::new().write(true).open("by a second handle").unwrap().sync_data().unwrap();
    file.write_all_at(b"lost!!", 0).unwrap();

    drop(synced("appended", b"synced"));
    let mut file = OpenOptions::new().append(true).open("appended").unwrap();
    let parts = [IoSlice::new(b" and"), IoSlice::new(b" lost")];
    assert_eq!(file.write_vectored(&parts).unwrap(), 9);

    synced("cut", &[4; 9_000]).set_len(100).unwrap();
    drop(synced("made anew", b"the old one"));
    fs::write("made anew", b"new").unwrap();

    let file = synced("aside", b"synced");
    file.write_all_at(b"SY", 0).unwrap();
    fs::rename("aside", "renamed").unwrap();
    file.write_all_at(b"NC", 2).unwrap();

    let mut file = OpenOptions::new().create_new(true).append(true).open("durable").unwrap();
    file.write_all(b"all of it").unwrap();
    file.sync_all().unwrap();
    drop(file);
    fs::copy("durable", "never synced").unwrap();

    // The number of the one goes over to the other.
    let number = synced("removed", &[5; 100]).metadata().unwrap().ino();
    OpenOptions::new().write(true).open("removed").unwrap().write_all(&[6; 100]).unwrap();
    fs::remove_file("removed").unwrap();
    let file = synced("born later", b"synced");
    let reused = file.metadata().unwrap().ino() == number;
    file.write_all_at(b"lost", 6).unwrap();
    format!("{reused}")
}

/// A life after the first.
fn more(sync: bool) -> String {
    let file = OpenOptions::new().write(true).open("overwritten").unwrap();
    file.write_all_at(&[9; 10], 20).unwrap();
    if sync {
        file.sync_data().unwrap();
    }
    String::new()
}

/// Each thread counts in a place of its own of one file, and says elsewhere how far it has synced.
fn threads() -> String {
    let file = synced("counts", &[0; THREADS * 8]);
    let acks = File::create("../acks").unwrap();
    acks.write_all_at(&[0; THREADS * 8], 0).unwrap();
    for thread in 0..THREADS as u64 {
        let (file, acks) = (file.try_clone().unwrap(), acks.try_clone().unwrap());
        std::thread::spawn(move || {
            for count in 1_u64.. {
                file.write_all_at(&count.to_le_bytes(), thread * 8).unwrap();
                if count % (thread + 2) == 0 {
                    file.sync_data().unwrap();
                    acks.write_all_at(&count.to_le_bytes(), thread * 8).unwrap();
                }
            }
        });
    }
    sleep(Duration::from_millis(100));
    String::new()
}

fn time() -> String {
    let (began, wall) = (Instant::now(), SystemTime::now());
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    // Milliseconds since the epoch, and those that the two looks took.
    format!("{} {}", since.as_millis(), began.elapsed().as_millis())
}

fn slow() -> String {
    let began = Instant::now();
    fs::write("../elsewhere", b"x").unwrap();
    let elsewhere = began.elapsed();
    let began = Instant::now();
    drop(synced("file", b"x"));
    format!("{} {}", elsewhere.as_millis(), began.elapsed().as_millis())
}

#[test]
fn after_a_power_cut_a_file_is_as_it_was_synced() {
    let node = Node::new();
    let reused = node.life("write");
    assert_eq!(node.read("renamed"), b"SYNCed", "the kernel keeps all that a killed process wrote");
    assert_eq!(node.read("overwritten").len(), 12_000);
    let lost = node.shim.cut_power(None).unwrap();
    assert_eq!(node.read("overwritten"), [1; 10_000]);
    assert_eq!(node.read("by a second handle"), b"synced");
    assert_eq!(node.read("appended"), b"synced");
    assert_eq!(node.read("cut"), [4; 9_000]);
    assert_eq!(node.read("made anew"), b"the old one");
    assert_eq!(node.read("renamed"), b"synced");
    assert_eq!(node.read("durable"), b"all of it");
    assert_eq!(node.read("never synced"), b"");
    assert_eq!(node.read("born later"), b"synced", "its number was another file's: {reused}");
    let undone = |name: &str| lost.iter().find(|undone| undone.file == Path::new(name));
    let whole = Undone { file: "overwritten".into(), writes: 2, bytes: 3_000 + 3_000, is_synced: true };
    assert_eq!(undone("overwritten"), Some(&whole));
    assert_eq!(undone("never synced").map(|undone| undone.is_synced), Some(false));
    assert_eq!(undone("durable"), None);
    assert_eq!(node.shim.cut_power(None).unwrap(), [], "what was there is on the disk now");
}

#[test]
fn what_an_earlier_life_did_not_sync_is_lost_too_unless_a_later_one_syncs() {
    for (task, left) in [("more", [1; 40]), ("more, synced", [2; 40])] {
        let node = Node::new();
        node.life("write");
        node.life(task);
        node.shim.cut_power(None).unwrap();
        let bytes = node.read("overwritten");
        assert_eq!(bytes.get(500..540), Some(&left[..]), "{task}");
        assert_eq!(bytes.get(20), Some(if left[0] == 1 { &1 } else { &9 }), "{task}");
    }
}

#[test]
fn a_cut_that_comes_during_a_sync_is_one_before_it() {
    let node = Node::new();
    node.shim.hold(LIMIT.as_millis() as u64).unwrap();
    let mut child = node.start("sync");
    let began = Instant::now();
    while !node.shim.is_syncing() {
        assert!(began.elapsed() < LIMIT && child.try_wait().unwrap().is_none());
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(node.read("file"), b"synced");
    assert_eq!(node.shim.cut_power(None).unwrap().len(), 1);
    assert_eq!(node.read("file"), b"");
}

#[test]
fn a_torn_cut_leaves_only_what_was_there_at_some_time() {
    let mut torn = 0;
    for seed in 0..16 {
        let node = Node::new();
        node.life("write");
        node.shim.cut_power(Some(seed)).unwrap();
        let bytes = node.read("overwritten");
        assert!([10_000, 12_000].contains(&bytes.len()));
        let (mut before, mut after) = (0, 0);
        for byte in &bytes[500..3_500] {
            match byte {
                1 => before += 1,
                2 => after += 1,
                other => panic!("{other} was never there"),
            }
        }
        assert!(bytes[..500].iter().chain(&bytes[3_500..9_000]).all(|byte| *byte == 1));
        torn += usize::from(before > 0 && after > 0);
    }
    assert!(torn > 0, "none of the seeds tears");
}

#[test]
fn what_one_of_several_threads_has_synced_is_never_lost() {
    let counts = |bytes: &[u8]| -> Vec<u64> {
        bytes.chunks(8).map(|part| u64::from_le_bytes(part.try_into().unwrap())).collect()
    };
    let mut lost = 0;
    for seed in [None, None, Some(1), Some(2)] {
        let node = Node::new();
        node.shim.hold(2).unwrap();
        node.life("threads");
        let (written, acks) = (counts(&node.read("counts")), counts(&node.read("../acks")));
        node.shim.cut_power(seed).unwrap();
        let left = counts(&node.read("counts"));
        for thread in 0..THREADS {
            let range = acks[thread]..=written[thread];
            assert!(acks[thread] > 0 && range.contains(&left[thread]), "{range:?} {left:?}");
        }
        lost += usize::from(left != written);
    }
    assert!(lost > 0, "there was always nothing to lose");
}

#[test]
fn a_wall_clock_jumps_and_a_monotonic_one_does_not() {
    let node = Node::new();
    node.life("time");
    assert_eq!(node.shim.counts().reads, 0);
    node.shim.jump(JUMP_MS).unwrap();
    let said = node.life("time");
    let (wall, took) = said.split_once(' ').unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    let behind_ms = now - wall.parse::<i64>().unwrap();
    assert!((-JUMP_MS..-JUMP_MS + 60_000).contains(&behind_ms), "{behind_ms} ms behind");
    assert!(took.parse::<u64>().unwrap() < 10_000);
    assert!(node.shim.counts().reads > 0);
}

#[test]
fn only_calls_below_the_data_folder_take_longer() {
    let node = Node::new();
    node.shim.slow(SLOW_MS).unwrap();
    let said = node.life("slow");
    let times: Vec<i64> = said.split(' ').map(|ms| ms.parse().unwrap()).collect();
    assert!(times[0] < SLOW_MS && times[1] >= 2 * SLOW_MS, "{times:?}");
    // A write and a sync.
    assert_eq!(node.shim.counts().delayed, 2);
    node.shim.slow(-SLOW_MS).unwrap();
    fs::remove_file(node.data().join("file")).unwrap();
    node.life("slow");
    assert_eq!(node.shim.counts().delayed, 2);
}
