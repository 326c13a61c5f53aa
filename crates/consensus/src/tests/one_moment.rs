//! A range shows what one moment left, while batches are taken on other threads.

use std::{path::Path, sync::Arc};

use super::env;
use crate::kv::{Batch, Durability, Kv, MAX_VALUE_BYTES, journal::JournalKv, sled::SledKv};

/// More than one of sled's pages holds.
const PAIRS: u8 = 40;
const BATCHES: u8 = 250;

fn key(number: u8) -> Vec<u8> {
    vec![b'k', number]
}

/// Puts all pairs anew by one batch, removes all by the next, and so on, as a log is truncated and written again.
async fn write(kv: Arc<dyn Kv>) {
    for number in 0..BATCHES {
        let mut batch = Batch::default();
        batch.remove(key(0), key(PAIRS));
        if number.is_multiple_of(2) {
            (0..PAIRS).for_each(|at| batch.put(key(at), vec![number; MAX_VALUE_BYTES]));
        }
        kv.write(batch, Durability::Buffered).await.unwrap();
    }
}

async fn is_whole(kv: impl Kv) {
    let kv: Arc<dyn Kv> = Arc::new(kv);
    let writer = tokio::spawn(write(Arc::clone(&kv)));
    while !writer.is_finished() {
        let forwards: Vec<u8> = kv.range(&key(0), &key(PAIRS)).map(|pair| pair.unwrap().1[0]).collect();
        let backwards: Vec<u8> =
            kv.range(&key(0), &key(PAIRS)).rev().map(|pair| pair.unwrap().1[0]).collect();
        for seen in [forwards, backwards] {
            assert!(seen.is_empty() || seen == vec![seen[0]; PAIRS.into()], "a part of a batch: {seen:?}");
        }
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_sled_a_range_never_shows_half_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    is_whole(SledKv::open(folder.path()).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_journal_a_range_never_shows_half_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let journal: &Path = folder.path();
    is_whole(JournalKv::open(&env(), journal).await.unwrap()).await;
}
