//! Kill and reopen, again and again, under write load: nothing that was reported durable is lost.
//!
//! ```text
//!   this test ──▶ child: opens, checks everything, then several writers: batches, flushed or not, and trims
//!       ▲  │                      │
//!       │  └── SIGKILL, at random ─▶ the next child
//!       └── what it reported durable
//! ```
//!
//! `POLYBOLOS_REOPEN_ROUNDS` says how often. SIGKILL takes what the process has in memory and nothing that it handed
//! to the operating system: this says nothing of power cuts, for which there are the tests of the journal on a
//! simulated disk.

use std::{
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use polybolos_env::{Env, Random};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{ChildStdout, Command},
    time::{sleep, timeout},
};

use super::env;
use crate::kv::{Batch, Durability, Kv, journal::JournalKv, sled::SledKv};

const WRITERS: usize = 4;
/// How many pairs each writer keeps when it trims, and when it does.
const KEPT: u64 = 20;
const TRIMMED_ABOVE: u64 = 60;

const FOLDER: &str = "POLYBOLOS_REOPEN_FOLDER";
const SIDE: &str = "POLYBOLOS_REOPEN_SIDE";
const DURABLE: &str = "POLYBOLOS_REOPEN_DURABLE";
const ROUNDS: &str = "POLYBOLOS_REOPEN_ROUNDS";

/// Per writer, how many pairs it has put.
type Counts = [u64; WRITERS];

async fn open(side: &str, folder: &Path, env: &Env) -> Arc<dyn Kv> {
    match side {
        "sled" => Arc::new(SledKv::open(folder).await.unwrap()),
        "journal" => Arc::new(JournalKv::open(env, folder).await.unwrap()),
        other => panic!("no store is called {other}"),
    }
}

fn span_key(writer: usize) -> Vec<u8> {
    vec![b's', writer as u8]
}

fn pair_key(writer: usize, number: u64) -> Vec<u8> {
    [&[b'p', writer as u8][..], &number.to_be_bytes()].concat()
}

fn value(writer: usize, number: u64) -> Vec<u8> {
    let mixed = (number + writer as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // Mostly small, as log entries are, and now and then as large as a value can be.
    let bytes = if mixed.is_multiple_of(8) { mixed >> 52 } else { mixed >> 57 };
    vec![mixed as u8; bytes as usize + 1]
}

/// The first and the next pair of a writer.
fn span(kv: &dyn Kv, writer: usize) -> (u64, u64) {
    let Some(span) = kv.get(&span_key(writer)).unwrap() else { return (0, 0) };
    let (first, next) = span.split_at(8);
    (u64::from_be_bytes(first.try_into().unwrap()), u64::from_be_bytes(next.try_into().unwrap()))
}

/// What `durable` counts is there, every batch is there whole, and none is there without those before it.
fn check(kv: &dyn Kv, durable: &Counts) {
    for (writer, durable) in durable.iter().enumerate() {
        let (first, next) = span(kv, writer);
        assert!(next >= *durable, "writer {writer}: {next} pairs of {durable}");
        let pairs = kv.range(&pair_key(writer, 0), &pair_key(writer, u64::MAX));
        let expected = (first..next).map(|number| (pair_key(writer, number), value(writer, number)));
        assert!(pairs.map(Result::unwrap).eq(expected), "writer {writer}: from {first} to {next}");
    }
}

/// Writes batches until the process is killed. `done` counts what is written, flushed or not, by all the writers.
async fn write(kv: Arc<dyn Kv>, random: Arc<dyn Random>, writer: usize, done: Arc<[AtomicU64; WRITERS]>) {
    let (mut first, mut next) = span(kv.as_ref(), writer);
    loop {
        let mut batch = Batch::default();
        if next - first > TRIMMED_ABOVE && random.below(4) == 0 {
            batch.remove(pair_key(writer, first), pair_key(writer, next - KEPT));
            first = next - KEPT;
        }
        for _ in 0..1 + random.below(8) {
            batch.put(pair_key(writer, next), value(writer, next));
            next += 1;
        }
        batch.put(span_key(writer), [first.to_be_bytes(), next.to_be_bytes()].concat());
        if random.below(2) == 0 {
            kv.write(batch, Durability::Buffered).await.unwrap();
            done[writer].store(next, Ordering::SeqCst);
        } else {
            // What any writer had written before this one began is durable with it.
            let mut durable = done.each_ref().map(|count| count.load(Ordering::SeqCst));
            kv.write(batch, Durability::Flushed).await.unwrap();
            durable[writer] = next;
            done[writer].store(next, Ordering::SeqCst);
            say(&format!("durable {}", to_text(&durable)));
        }
    }
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").unwrap();
    stdout.flush().unwrap();
}

fn to_text(counts: &Counts) -> String {
    counts.map(|count| count.to_string()).join(" ")
}

fn from_text(text: &str) -> Counts {
    let counts: Vec<u64> = text.split(' ').map(|count| count.parse().unwrap()).collect();
    counts.try_into().unwrap()
}

/// Not a test of its own: what the tests below run in another process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let (side, durable) = (std::env::var(SIDE).unwrap(), from_text(&std::env::var(DURABLE).unwrap()));
    let env = env();
    let kv = open(&side, &folder, &env).await;
    check(kv.as_ref(), &durable);
    say("opened");
    let done = std::array::from_fn(|writer| AtomicU64::new(span(kv.as_ref(), writer).1));
    let done: Arc<[AtomicU64; WRITERS]> = Arc::new(done);
    let writers = (0..WRITERS).map(|writer| {
        tokio::spawn(write(Arc::clone(&kv), Arc::clone(&env.random), writer, Arc::clone(&done)))
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

#[derive(Debug, Default)]
struct Figures {
    rounds: u64,
    killed_while_opening: u64,
    durable_writes: u64,
    pairs: u64,
}

/// Reads what a child says until it is over. Lines that libtest begins are told by what they end with.
async fn hear(lines: &mut Lines<BufReader<ChildStdout>>, durable: &mut Counts, figures: &mut Figures) {
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, counts)) = line.split_once("durable ") {
            for (known, count) in durable.iter_mut().zip(from_text(counts)) {
                *known = count.max(*known);
            }
            figures.durable_writes += 1;
        }
    }
}

/// Whether the child said that it has opened the folder.
async fn has_opened(lines: &mut Lines<BufReader<ChildStdout>>) -> bool {
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.ends_with("opened") {
            return true;
        }
    }
    false
}

async fn round(side: &str, folder: &Path, durable: &mut Counts, figures: &mut Figures, env: &Env) {
    let ms = |bound| Duration::from_millis(env.random.below(bound));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "tests::reopen::child_that_writes_until_killed"])
        .env(FOLDER, folder)
        .env(SIDE, side)
        .env(DURABLE, to_text(durable))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let patience = if env.random.below(4) == 0 { ms(100) } else { Duration::from_secs(60) };
    if timeout(patience, has_opened(&mut lines)).await.unwrap_or(false) {
        // The pipe holds more than a child says in this time.
        let _ = timeout(ms(200), hear(&mut lines, durable, figures)).await;
    } else {
        figures.killed_while_opening += 1;
    }
    // An error says that it has ended by itself, which its status shows.
    let _ = child.start_kill();
    hear(&mut lines, durable, figures).await;
    let status = child.wait().await.unwrap();
    assert_eq!(status.signal(), Some(9), "round {}: the child ended with {status}", figures.rounds);
    figures.rounds += 1;
}

async fn kill_and_reopen(side: &str, rounds: u64) {
    let (folder, env) = (tempfile::tempdir().unwrap(), env());
    let folder = folder.path().join("log");
    let (mut durable, mut figures) = (Counts::default(), Figures::default());
    for _ in 0..rounds {
        round(side, &folder, &mut durable, &mut figures, &env).await;
    }
    // The lock of a killed process goes with it, but not at once.
    sleep(Duration::from_millis(50)).await;
    let kv = open(side, &folder, &env).await;
    check(kv.as_ref(), &durable);
    figures.pairs = durable.iter().sum();
    println!("{side}: {figures:?}");
    assert!(figures.durable_writes > rounds, "{figures:?}");
}

fn rounds() -> u64 {
    std::env::var(ROUNDS).map_or(20, |rounds| rounds.parse().unwrap())
}

#[tokio::test]
async fn sled_keeps_what_it_reported_durable() {
    kill_and_reopen("sled", rounds()).await;
}

#[tokio::test]
async fn the_journal_keeps_what_it_reported_durable() {
    kill_and_reopen("journal", rounds().div_ceil(2)).await;
}
