//! Random writes, crashes and full disks: what was acknowledged comes back.

use std::{future::poll_fn, pin::pin, task::Poll};

use polybolos_env::Env;
use proptest::prelude::*;

use super::{
    super::super::{
        Batch, Durability, Kv, KvError,
        crash_disk::{CrashDisk, simulated},
    },
    JournalKv, Pairs, all, journal, open,
};

/// Holds the number of the batch that put it last.
const COUNTER: &[u8] = b"~";

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
