//! Holds writes back while the disk is full, so that the side below never meets the end of it.
//!
//! ```text
//!   write ─▶ is there room for it and the reserve? ──yes──▶ the side below
//!                 ▲         │ no: say so by the state
//!                 └─ again ─┘
//! ```
//!
//! Reads go on. Absent: a deadline. A replica that can't write can do nothing but wait, and the others go on without
//! it; what is committed stays so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{Mutex, watch};

use super::{Batch, Durability, Kv, KvError, Pairs};
use crate::api::DiskState;

/// What must be left after a write: the side below tidies up in it, and other programs must not be starved.
const RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// How much a side below may write for each byte that a batch puts, by rewriting what lies around it. Measured on sled:
/// its file grew by up to 2.8 bytes for batches of 1 to 32 MiB, and by no more than 240 KiB for smaller ones.
const WRITTEN_PER_PUT_BYTE: u64 = 4;
/// And for each byte that it removes: 1.1 bytes on sled, which rewrites a page for every few keys that leave it.
const WRITTEN_PER_REMOVED_BYTE: u64 = 2;
/// How often a write that waits looks again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// A [`Kv`] whose writes wait for room.
pub(crate) struct PatientKv {
    kv: Arc<dyn Kv>,
    reserve_bytes: u64,
    state: watch::Sender<DiskState>,
    /// Held by the write that is next to be let through.
    turn: Mutex<()>,
    /// What the writes that were let through may still take.
    granted_bytes: AtomicU64,
}

/// Room for a write, until it is done.
struct Grant<'a> {
    granted_bytes: &'a AtomicU64,
    bytes: u64,
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        self.granted_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl PatientKv {
    pub(crate) fn new(kv: Arc<dyn Kv>) -> Self {
        Self::with_reserve(kv, RESERVE_BYTES)
    }

    pub(crate) fn with_reserve(kv: Arc<dyn Kv>, reserve_bytes: u64) -> Self {
        let state = watch::Sender::new(DiskState::Ok);
        Self { kv, reserve_bytes, state, turn: Mutex::default(), granted_bytes: AtomicU64::new(0) }
    }

    /// Full while a write waits.
    pub(crate) fn state(&self) -> watch::Receiver<DiskState> {
        self.state.subscribe()
    }

    /// What `batch` may take.
    fn bytes_of(&self, batch: &Batch) -> Result<u64, KvError> {
        let mut bytes = batch.bytes().saturating_mul(WRITTEN_PER_PUT_BYTE);
        for pair in batch.0.removals.iter().flat_map(|(from, to)| self.kv.range(from, to)) {
            bytes = bytes.saturating_add(super::bytes_of(&pair?).saturating_mul(WRITTEN_PER_REMOVED_BYTE));
        }
        Ok(bytes)
    }

    async fn wait_for_room(&self, batch: &Batch) -> Result<Grant<'_>, KvError> {
        let _turn = self.turn.lock().await;
        let bytes = self.bytes_of(batch)?;
        loop {
            let free_bytes = self.kv.free_bytes().await?;
            let granted_bytes = self.granted_bytes.load(Ordering::Relaxed);
            let needed_bytes = self.reserve_bytes.saturating_add(granted_bytes).saturating_add(bytes);
            if free_bytes >= needed_bytes {
                self.granted_bytes.fetch_add(bytes, Ordering::Relaxed);
                self.has_room();
                return Ok(Grant { granted_bytes: &self.granted_bytes, bytes });
            }
            self.wait(free_bytes, needed_bytes).await;
        }
    }

    async fn wait(&self, free_bytes: u64, needed_bytes: u64) {
        if self.state.send_replace(DiskState::Full { free_bytes }) == DiskState::Ok {
            polybolos_model::sometimes!("a write waited for a full disk");
            tracing::warn!(
                free_bytes,
                needed_bytes,
                "the disk is full: this replica writes nothing until there is room"
            );
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }

    fn has_room(&self) {
        let was_full = |state: &mut DiskState| std::mem::take(state) != DiskState::Ok;
        if self.state.send_if_modified(was_full) {
            tracing::info!("the disk has room again");
        }
    }
}

#[async_trait]
impl Kv for PatientKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.kv.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
        self.kv.range(from, to)
    }

    async fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        loop {
            let _grant = self.wait_for_room(&batch).await?;
            match self.kv.write(batch.clone(), durability).await {
                // Somebody else took the room first.
                Err(KvError::Full { free_bytes }) => {
                    self.wait(free_bytes, self.reserve_bytes.saturating_add(batch.bytes())).await;
                }
                done => return done,
            }
        }
    }

    async fn free_bytes(&self) -> Result<u64, KvError> {
        self.kv.free_bytes().await
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::kv::memory::MemoryKv;

    /// Pairs in memory, on a disk with as much room as a test says.
    #[derive(Default)]
    struct Small {
        kv: MemoryKv,
        free_bytes: AtomicU64,
        /// So many writes find less room than they were told.
        surprises: AtomicU64,
    }

    #[async_trait]
    impl Kv for Small {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
            self.kv.get(key)
        }

        fn range(&self, from: &[u8], to: &[u8]) -> Pairs<'_> {
            self.kv.range(from, to)
        }

        async fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
            let left = |surprises: u64| surprises.checked_sub(1);
            if self.surprises.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok() {
                return Err(KvError::Full { free_bytes: 7 });
            }
            // Long enough for another write to be let through or held back.
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.free_bytes.fetch_sub(batch.bytes(), Ordering::Relaxed);
            self.kv.write(batch, durability).await
        }

        async fn free_bytes(&self) -> Result<u64, KvError> {
            Ok(self.free_bytes.load(Ordering::Relaxed))
        }
    }

    fn batch(key: u8, bytes: usize) -> Batch {
        let mut batch = Batch::default();
        batch.put(vec![key], vec![0; bytes - 1]);
        batch
    }

    fn patient(free_bytes: u64) -> (Arc<Small>, Arc<PatientKv>) {
        let small = Arc::new(Small { free_bytes: AtomicU64::new(free_bytes), ..Small::default() });
        let kv = Arc::clone(&small) as Arc<dyn Kv>;
        (small, Arc::new(PatientKv::with_reserve(kv, 1_000)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_waits_for_room_and_readers_do_not() {
        let (small, kv) = patient(1_400);
        let mut state = kv.state();
        kv.write(batch(1, 100), Durability::Flushed).await.unwrap();
        assert_eq!(*state.borrow(), DiskState::Ok);

        let writer = Arc::clone(&kv);
        let write = tokio::spawn(async move { writer.write(batch(2, 100), Durability::Flushed).await });
        state.wait_for(|state| *state == DiskState::Full { free_bytes: 1_300 }).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert!(!write.is_finished());
        assert_eq!(kv.get(&[1]).unwrap(), Some(vec![0; 99]));
        assert_eq!(kv.range(&[0], &[9]).count(), 1);

        small.free_bytes.store(1_399, Ordering::Relaxed);
        state.wait_for(|state| *state == DiskState::Full { free_bytes: 1_399 }).await.unwrap();
        small.free_bytes.store(1_400, Ordering::Relaxed);
        timeout(RETRY_INTERVAL * 2, write).await.unwrap().unwrap().unwrap();
        assert_eq!(*state.borrow(), DiskState::Ok);
        assert_eq!(kv.range(&[0], &[9]).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn writes_at_the_same_time_do_not_count_on_the_same_room() {
        let (small, kv) = patient(1_700);
        let writes: Vec<_> = (1..=2)
            .map(|key| {
                let kv = Arc::clone(&kv);
                tokio::spawn(async move { kv.write(batch(key, 100), Durability::Flushed).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(small.range(&[0], &[9]).count(), 1);
        // What the first did not take of its grant is given back.
        for write in writes {
            timeout(RETRY_INTERVAL * 2, write).await.unwrap().unwrap().unwrap();
        }
        assert_eq!(small.range(&[0], &[9]).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_removal_needs_room_too() {
        let (small, kv) = patient(10_000);
        kv.write(batch(1, 400), Durability::Flushed).await.unwrap();
        let mut removal = Batch::default();
        removal.remove(vec![0], vec![9]);
        small.free_bytes.store(1_799, Ordering::Relaxed);
        let removed = || kv.write(removal.clone(), Durability::Flushed);
        assert!(timeout(Duration::from_secs(5), removed()).await.is_err());
        small.free_bytes.store(1_800, Ordering::Relaxed);
        removed().await.unwrap();
        assert_eq!(small.range(&[0], &[9]).count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_finds_the_disk_full_after_all_is_tried_again() {
        let (small, kv) = patient(10_000);
        small.surprises.store(2, Ordering::Relaxed);
        let mut state = kv.state();
        let writer = Arc::clone(&kv);
        let write = tokio::spawn(async move { writer.write(batch(1, 100), Durability::Flushed).await });
        state.wait_for(|state| *state == DiskState::Full { free_bytes: 7 }).await.unwrap();
        timeout(RETRY_INTERVAL * 4, write).await.unwrap().unwrap().unwrap();
        assert_eq!(*state.borrow(), DiskState::Ok);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_whose_caller_gave_up_leaves_the_turn_and_the_room_to_the_next() {
        let (small, kv) = patient(0);
        assert!(timeout(Duration::from_secs(5), kv.write(batch(1, 100), Durability::Flushed)).await.is_err());
        small.free_bytes.store(1_400, Ordering::Relaxed);
        kv.write(batch(2, 100), Durability::Flushed).await.unwrap();
        assert_eq!(small.range(&[0], &[9]).count(), 1);
    }
}
