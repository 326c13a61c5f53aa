//! The journal on a disk that loses what was not synced, and everything else that disks do.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    io,
    path::{Path, PathBuf},
    pin::pin,
    task::Poll,
};

use polybolos_env::Env;
use proptest::prelude::*;

use super::{
    super::{
        Batch, Durability, Kv, KvError,
        crash_disk::{CrashDisk, simulated},
    },
    JournalKv, NAME, SIZES, Sizes,
};

const FOLDER: &str = "/data/log";
/// So small that the journal is written anew every few batches, and its base has several parts.
const SMALL: Sizes = Sizes { part_bytes: 300, slack_bytes: 2_000 };
/// Holds the number of the batch that put it last.
const COUNTER: &[u8] = b"~";

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

fn journal() -> PathBuf {
    Path::new(FOLDER).join(NAME)
}

async fn open(env: &Env) -> Result<JournalKv, KvError> {
    JournalKv::open_sized(env, Path::new(FOLDER), SMALL).await
}

fn all(kv: &dyn Kv) -> Pairs {
    kv.range(&[], &[u8::MAX]).map(Result::unwrap).collect()
}

fn batch_of(pairs: &[(&[u8], &[u8])]) -> Batch {
    let mut batch = Batch::default();
    pairs.iter().for_each(|(key, value)| batch.put(key.to_vec(), value.to_vec()));
    batch
}

async fn put(kv: &JournalKv, key: &[u8], value: &[u8]) -> Result<(), KvError> {
    kv.write(batch_of(&[(key, value)]), Durability::Flushed).await
}

#[derive(Debug, Clone)]
struct Write {
    puts: Vec<(u8, usize)>,
    removal: Option<(u8, u8)>,
    durability: Durability,
}

impl Write {
    fn batch(&self, number: u64) -> Batch {
        let mut batch = Batch::default();
        if let Some((from, to)) = self.removal {
            batch.remove(vec![from], vec![to]);
        }
        for (key, bytes) in &self.puts {
            batch.put(vec![*key], vec![number as u8; *bytes]);
        }
        batch.put(COUNTER.to_vec(), number.to_be_bytes().to_vec());
        batch
    }

    fn apply(&self, pairs: &Pairs, number: u64) -> Pairs {
        let mut pairs = pairs.clone();
        if let Some((from, to)) = self.removal {
            pairs.retain(|key, _| key[0] < from || key[0] >= to);
        }
        pairs.extend(self.puts.iter().map(|(key, bytes)| (vec![*key], vec![number as u8; *bytes])));
        pairs.insert(COUNTER.to_vec(), number.to_be_bytes().to_vec());
        pairs
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(Write),
    /// Its caller stops waiting after so many pauses.
    Abandoned(Write, usize),
    /// The disk is as good as full for one write, which is then tried again.
    Full(Write, u64),
    /// The process ends and comes back.
    Kill,
    Crash,
    /// The power goes after so many operations, wherever that is.
    CrashAfter(u64),
    /// It goes while the journal is being opened, too.
    CrashTwice(u64),
}

fn write() -> impl Strategy<Value = Write> {
    let put = (0..20u8, prop_oneof![4 => 0..50usize, 1 => 0..1_500usize]);
    let removal = prop::option::weighted(0.3, (0..20u8, 0..25u8));
    let durability = prop_oneof![Just(Durability::Buffered), Just(Durability::Flushed)];
    (prop::collection::vec(put, 0..5), removal, durability).prop_map(|(puts, removal, durability)| Write {
        puts,
        removal,
        durability,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => write().prop_map(Step::Write),
        2 => (write(), 0..12usize).prop_map(|(write, pauses)| Step::Abandoned(write, pauses)),
        1 => (write(), 0..500u64).prop_map(|(write, room)| Step::Full(write, room)),
        1 => Just(Step::Kill),
        2 => Just(Step::Crash),
        2 => (0..40u64).prop_map(Step::CrashAfter),
        1 => (0..20u64).prop_map(Step::CrashTwice),
    ]
}

/// What may come back.
struct Expected {
    /// As each batch left it; those before the first can't come back.
    states: Vec<Pairs>,
    number: u64,
    /// Those that were not seen to happen. They are gone for good as soon as another one is seen.
    doubtful: Vec<Pairs>,
}

impl Expected {
    fn last(&self) -> &Pairs {
        self.states.last().unwrap()
    }

    /// A write that readers see.
    fn happened(&mut self, write: &Write) {
        self.states.push(write.apply(self.last(), self.number));
        self.doubtful.clear();
    }

    fn acknowledged(&mut self, write: &Write) {
        self.happened(write);
        if write.durability == Durability::Flushed {
            self.states.drain(..self.states.len() - 1);
        }
    }

    fn in_doubt(&mut self, write: &Write) {
        self.doubtful.push(write.apply(self.last(), self.number));
    }

    /// What came back must be one of those that may; it is durable from now on.
    fn came_back(&mut self, found: Pairs) {
        assert!(
            self.states.iter().chain(&self.doubtful).any(|state| *state == found),
            "batch {:?} came back, of those from {:?} to {:?} and {} in doubt",
            found.get(COUNTER),
            self.states[0].get(COUNTER),
            self.last().get(COUNTER),
            self.doubtful.len(),
        );
        (self.states, self.doubtful) = (vec![found], Vec::new());
    }
}

struct Run {
    disk: CrashDisk,
    env: Env,
    kv: Option<JournalKv>,
    expected: Expected,
}

impl Run {
    async fn new(seed: u64) -> Self {
        let (disk, env) = simulated(seed);
        let kv = Some(open(&env).await.unwrap());
        let expected = Expected { states: vec![Pairs::new()], number: 0, doubtful: Vec::new() };
        Self { disk, env, kv, expected }
    }

    async fn reopen(&mut self) {
        drop(self.kv.take());
        let kv = open(&self.env).await.unwrap();
        self.expected.came_back(all(&kv));
        self.kv = Some(kv);
    }

    async fn write(&mut self, write: &Write) {
        self.expected.number += 1;
        let batch = write.batch(self.expected.number);
        let kv = self.kv.as_ref().unwrap();
        match kv.write(batch, write.durability).await {
            Ok(()) => {
                self.expected.acknowledged(write);
                assert_eq!(&all(kv), self.expected.last());
            }
            // Only the power does that here.
            Err(error) => {
                assert!(matches!(error, KvError::Io { .. }), "{error}");
                self.failed(write);
                self.crash().await;
            }
        }
    }

    /// Readers may see a write that failed or was abandoned, or not.
    fn failed(&mut self, write: &Write) {
        let seen = all(self.kv.as_ref().unwrap());
        if seen == *self.expected.last() {
            self.expected.in_doubt(write);
        } else {
            self.expected.happened(write);
            assert_eq!(&seen, self.expected.last());
        }
    }

    async fn crash(&mut self) {
        drop(self.kv.take());
        self.disk.crash();
        self.reopen().await;
    }

    async fn abandon(&mut self, write: &Write, pauses: usize) {
        self.expected.number += 1;
        let batch = write.batch(self.expected.number);
        let done = {
            let mut writing = pin!(self.kv.as_ref().unwrap().write(batch, write.durability));
            let mut left = pauses + 1;
            poll_fn(|context| {
                left -= 1;
                match writing.as_mut().poll(context) {
                    Poll::Ready(done) => Poll::Ready(Some(done)),
                    Poll::Pending if left == 0 => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await
        };
        match done {
            Some(Ok(())) => self.expected.acknowledged(write),
            Some(Err(_)) => {
                self.failed(write);
                self.crash().await;
            }
            None => self.failed(write),
        }
    }

    async fn fill(&mut self, write: &Write, room: u64) {
        self.disk.set_capacity(self.disk.used_bytes() + room);
        self.expected.number += 1;
        let batch = write.batch(self.expected.number);
        let kv = self.kv.as_ref().unwrap();
        let mut done = kv.write(batch.clone(), write.durability).await;
        if let Err(KvError::Full { .. }) = done {
            let _ = kv.write(batch.clone(), write.durability).await;
            self.disk.set_capacity(u64::MAX);
            done = kv.write(batch, write.durability).await;
        }
        self.disk.set_capacity(u64::MAX);
        match done {
            Ok(()) => {
                let seen = all(self.kv.as_ref().unwrap());
                self.expected.acknowledged(write);
                assert_eq!(&seen, self.expected.last());
            }
            Err(error) => {
                assert!(matches!(error, KvError::Io { .. }), "{error}");
                self.failed(write);
                self.crash().await;
            }
        }
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Write(write) => self.write(write).await,
            Step::Abandoned(write, pauses) => self.abandon(write, *pauses).await,
            Step::Full(write, room) => self.fill(write, *room).await,
            Step::Kill => {
                drop(self.kv.take());
                self.disk.kill();
                self.reopen().await;
            }
            Step::Crash => self.crash().await,
            Step::CrashAfter(operations) => self.disk.cut_power_after(*operations),
            Step::CrashTwice(operations) => {
                drop(self.kv.take());
                self.disk.crash();
                self.disk.cut_power_after(*operations);
                if let Ok(kv) = open(&self.env).await {
                    self.expected.came_back(all(&kv));
                }
                self.disk.crash();
                self.reopen().await;
            }
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_was_acknowledged_comes_back_whole_and_in_order(
        seed: u64,
        steps in prop::collection::vec(step(), 1..40),
    ) {
        block_on(async {
            let mut run = Run::new(seed).await;
            for step in &steps {
                run.step(step).await;
            }
            run.crash().await;
        });
    }

    #[test]
    fn a_bit_that_flipped_in_what_was_acknowledged_is_refused(
        seed: u64,
        writes in prop::collection::vec(write(), 1..20),
        at: prop::sample::Index,
        bit in 0..8,
    ) {
        block_on(async {
            let mut run = Run::new(seed).await;
            for write in &writes {
                run.write(write).await;
            }
            let durable_bytes = run.disk.durable_bytes(&journal());
            drop(run.kv.take());
            run.disk.crash();
            let at = at.index(durable_bytes);
            run.disk.damage(&journal(), |bytes| bytes[at] ^= 1u8 << bit);
            let error = open(&run.env).await.err().unwrap();
            assert!(matches!(error, KvError::Damaged { .. }), "byte {at}: {error}");
            // Nothing was changed by the refusal.
            run.disk.damage(&journal(), |bytes| bytes[at] ^= 1u8 << bit);
            run.reopen().await;
        });
    }

    /// Without a power cut the witness knows the last number.
    #[test]
    fn a_journal_that_was_cut_short_is_refused(
        seed: u64,
        writes in prop::collection::vec(write(), 1..20),
        at: prop::sample::Index,
    ) {
        block_on(async {
            let mut run = Run::new(seed).await;
            for write in &writes {
                run.write(write).await;
            }
            let at = at.index(run.disk.durable_bytes(&journal()));
            drop(run.kv.take());
            run.disk.kill();
            run.disk.damage(&journal(), |bytes| bytes.truncate(at));
            let error = open(&run.env).await.err().unwrap();
            assert!(matches!(error, KvError::Damaged { .. }), "cut at {at}: {error}");
        });
    }
}

/// A journal with three acknowledged batches that each fill several sectors, and where each begins.
async fn three_batches(env: &Env, disk: &CrashDisk) -> Vec<usize> {
    let kv = open(env).await.unwrap();
    let mut starts = Vec::new();
    for key in 0..3 {
        starts.push(disk.durable_bytes(&journal()));
        put(&kv, &[key], &[7; 2_000]).await.unwrap();
    }
    starts
}

#[tokio::test]
async fn sectors_that_read_as_zeros_are_refused_where_a_later_batch_says_they_were_durable() {
    let (disk, env) = simulated(1);
    let starts = three_batches(&env, &disk).await;
    disk.crash();
    let second = starts[1].next_multiple_of(512);
    disk.damage(&journal(), |bytes| bytes[second..second + 512].fill(0));
    let error = open(&env).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "the database file is damaged (it ends at batch 1, and 2 were acknowledged)"
    );
}

/// What `replay` says can't be told: the witness lost its last numbers too.
#[tokio::test]
async fn sectors_of_the_last_batch_that_read_as_zeros_after_a_power_cut_look_as_if_never_written() {
    let (disk, env) = simulated(1);
    let starts = three_batches(&env, &disk).await;
    disk.crash();
    let third = starts[2].next_multiple_of(512);
    disk.damage(&journal(), |bytes| bytes[third..third + 512].fill(0));
    assert_eq!(all(&open(&env).await.unwrap()).len(), 2);
}

#[tokio::test]
async fn a_missing_file_is_refused() {
    for name in [NAME, "acknowledged"] {
        let (disk, env) = simulated(1);
        three_batches(&env, &disk).await;
        disk.kill();
        env.disk.remove_file(&Path::new(FOLDER).join(name)).await.unwrap();
        let error = open(&env).await.err().unwrap();
        assert!(matches!(error, KvError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("is gone from /data/log"), "{error}");
    }
}

#[tokio::test]
async fn a_failed_append_or_sync_ends_the_journal_and_what_was_acknowledged_is_kept() {
    for operations in 0..20 {
        let (disk, env) = simulated(operations);
        let kv = open(&env).await.unwrap();
        disk.fail_after(operations, io::ErrorKind::Other);
        let mut acknowledged = Pairs::new();
        let mut failed = false;
        for key in 0..20 {
            let done = put(&kv, &[key], b"value").await;
            assert!(!failed || done.is_err());
            match done {
                Ok(()) => assert!(acknowledged.insert(vec![key], b"value".to_vec()).is_none()),
                Err(error) => {
                    assert!(matches!(error, KvError::Io { .. }), "{error}");
                    failed = true;
                }
            }
        }
        assert!(failed, "after {operations} operations");
        drop(kv);
        disk.crash();
        let back = all(&open(&env).await.unwrap());
        assert!(acknowledged.iter().all(|(key, value)| back.get(key) == Some(value)));
        assert!(back.len() <= acknowledged.len() + 1);
    }
}

#[tokio::test]
async fn a_full_disk_leaves_the_journal_as_it_is_until_there_is_room() {
    let (disk, env) = simulated(1);
    disk.set_capacity(40_000);
    let kv = open(&env).await.unwrap();
    let mut written = 0;
    let full = loop {
        match put(&kv, &[written], &[written; 4_000]).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, KvError::Full { .. }), "{full}");
    assert!(written > 4, "{written}");
    // What was live is more than half of the disk, so that there is no room to write it anew.
    assert!(matches!(put(&kv, &[written], &[written; 4_000]).await, Err(KvError::Full { .. })));
    assert_eq!(all(&kv).len(), usize::from(written));
    disk.set_capacity(400_000);
    put(&kv, &[written], &[written; 4_000]).await.unwrap();
    drop(kv);
    disk.crash();
    assert_eq!(all(&open(&env).await.unwrap()).len(), usize::from(written) + 1);
}

#[tokio::test]
async fn a_full_disk_refuses_to_open_and_changes_nothing() {
    let (disk, env) = simulated(1);
    three_batches(&env, &disk).await;
    disk.kill();
    disk.set_capacity(disk.used_bytes() + 100);
    let error = open(&env).await.err().unwrap();
    assert!(matches!(error, KvError::Full { free_bytes: 100 }), "{error}");
    disk.set_capacity(u64::MAX);
    assert_eq!(all(&open(&env).await.unwrap()).len(), 3);
}

#[tokio::test]
async fn the_journal_does_not_outgrow_what_is_live() {
    let (disk, env) = simulated(1);
    let kv = open(&env).await.unwrap();
    for round in 0..200u8 {
        put(&kv, &[round % 3], &[round; 1_000]).await.unwrap();
        assert!(disk.used_bytes() < 2 * 3 * 1_100 + 2_000 + 2_000, "{}", disk.used_bytes());
    }
    assert_eq!(all(&kv).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_second_process_is_kept_out() {
    let (_, env) = simulated(1);
    let first = open(&env).await.unwrap();
    assert!(matches!(open(&env).await, Err(KvError::Locked)));
    drop(first);
    open(&env).await.unwrap();
}

#[tokio::test]
async fn ranges_go_both_ways_and_meet() {
    let (_, env) = simulated(1);
    let kv = open(&env).await.unwrap();
    let pairs: Vec<_> = (0..5u8).map(|key| (vec![key], vec![key; 3])).collect();
    for (key, value) in &pairs {
        put(&kv, key, value).await.unwrap();
    }
    assert_eq!(kv.range(&[1], &[4]).map(Result::unwrap).collect::<Vec<_>>(), pairs[1..4]);
    let mut backwards: Vec<_> = kv.range(&[1], &[4]).rev().map(Result::unwrap).collect();
    backwards.reverse();
    assert_eq!(backwards, pairs[1..4]);
    let mut range = kv.range(&[0], &[9]);
    let mut both = Vec::new();
    while let Some(first) = range.next() {
        both.push(first.unwrap().0[0]);
        both.extend(range.next_back().map(|last| last.unwrap().0[0]));
    }
    assert_eq!(both, [0, 4, 1, 3, 2]);
    assert_eq!(kv.range(&[4], &[1]).count(), 0);
}

#[tokio::test]
async fn it_opens_again_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let env = Env::production(1).unwrap();
    let path = folder.path().join("made/on/demand");
    for round in 0..3u8 {
        let kv = JournalKv::open_sized(&env, &path, SIZES).await.unwrap();
        assert_eq!(all(&kv).len(), usize::from(round));
        put(&kv, &[round], b"value").await.unwrap();
        assert!(kv.free_bytes().await.unwrap() > 0);
    }
}
