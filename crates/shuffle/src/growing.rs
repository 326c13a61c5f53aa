//! An output of one partition while it is written, for readers that don't wait for its end.
//!
//! ```text
//!   OutputWriter ──batch by batch──▶ Growing ◀── Follower ──▶ reader
//!        └─ whole: published ──────▶ store ◀──────┘ the rest
//! ```
//!
//! A follower takes batches by their number. It is the same in memory, in the file that is written and in the whole output, so
//! that it goes on from one to the other.

use std::{
    collections::VecDeque,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, Weak},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use polybolos_env::Disk;
use tokio::sync::watch;

use crate::{OutputKey, OutputReader, ShuffleError, ShuffleStore, chunk, index::Chunk, locked};

/// What a writer has given so far. It is the writer's: with it goes what nobody has taken.
pub(crate) struct Growing {
    schema: SchemaRef,
    given: Mutex<Given>,
    stage: watch::Sender<Stage>,
}

enum Given {
    Memory(Vec<RecordBatch>),
    /// What the disk has not got yet of it can't be read yet.
    File {
        disk: Arc<dyn Disk>,
        path: PathBuf,
        chunks: Vec<Chunk>,
    },
}

#[derive(Debug, Clone, Copy, Default)]
struct Stage {
    /// Raised with each batch.
    batches: usize,
    is_whole: bool,
}

impl Growing {
    pub(crate) fn new(schema: SchemaRef) -> Arc<Self> {
        let given = Mutex::new(Given::Memory(Vec::new()));
        Arc::new(Self { schema, given, stage: watch::Sender::default() })
    }

    /// The next batch, whose memory is shared with the writer's.
    pub(crate) fn add(&self, batch: &RecordBatch) {
        if let Given::Memory(batches) = &mut *locked(&self.given) {
            batches.push(batch.clone());
        }
        self.stage.send_modify(|stage| stage.batches += 1);
    }

    /// Gives up what is in memory: all batches come again, as chunks of this file.
    pub(crate) fn move_to(&self, disk: Arc<dyn Disk>, path: PathBuf) {
        let in_memory =
            std::mem::replace(&mut *locked(&self.given), Given::File { disk, path, chunks: Vec::new() });
        drop(in_memory);
    }

    /// The next batch in the file.
    pub(crate) fn add_chunk(&self, chunk: Chunk) {
        if let Given::File { chunks, .. } = &mut *locked(&self.given) {
            chunks.push(chunk);
        }
        self.stage.send_modify(|stage| stage.batches += 1);
    }

    /// The whole output is in the store.
    pub(crate) fn is_whole(&self) {
        self.stage.send_modify(|stage| stage.is_whole = true);
    }

    /// The batch of that number, if it can be read by now. What is wrong with a file shows when the output is whole.
    async fn get(&self, position: usize) -> Option<Vec<RecordBatch>> {
        let (disk, path, chunk) = match &*locked(&self.given) {
            Given::Memory(batches) => return batches.get(position).map(|batch| vec![batch.clone()]),
            Given::File { disk, path, chunks } => (Arc::clone(disk), path.clone(), *chunks.get(position)?),
        };
        let bytes = disk.read(&path, chunk.offset, usize::try_from(chunk.length).ok()?).await.ok()?;
        let is_sound = crc32fast::hash(&bytes) == chunk.crc;
        chunk::decode(bytes).ok().filter(|_| is_sound)
    }
}

/// Reads the only partition of an output that may not be whole yet, in the order in which it is written.
pub(crate) struct Follower {
    key: OutputKey,
    schema: SchemaRef,
    store: Arc<ShuffleStore>,
    /// Gone with its writer.
    growing: Weak<Growing>,
    stage: watch::Receiver<Stage>,
    /// Number of the next batch.
    next: usize,
    decoded: VecDeque<RecordBatch>,
    whole: Option<OutputReader>,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("key", &self.key).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Follower {
    pub(crate) fn new(store: &Arc<ShuffleStore>, key: OutputKey, growing: &Arc<Growing>) -> Self {
        Self {
            key,
            schema: Arc::clone(&growing.schema),
            store: Arc::clone(store),
            growing: Arc::downgrade(growing),
            stage: growing.stage.subscribe(),
            next: 0,
            decoded: VecDeque::new(),
            whole: None,
        }
    }

    pub(crate) fn key(&self) -> OutputKey {
        self.key
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next batch, as soon as it is there, however long that takes; `None` after the last one of the whole output.
    ///
    /// # Errors
    /// The output is given up before it is whole, or as for [`OutputReader::next`].
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, ShuffleError> {
        loop {
            if let Some(batch) = self.decoded.pop_front() {
                return Ok(Some(batch));
            }
            if let Some(whole) = &mut self.whole {
                return whole.next().await;
            }
            // What comes after this wakes.
            if self.stage.borrow_and_update().is_whole {
                self.whole = Some(self.store.read(self.key, 0)?.starting_at(self.next));
                continue;
            }
            let given = match self.growing.upgrade() {
                Some(growing) => growing.get(self.next).await,
                None => None,
            };
            if let Some(batches) = given {
                self.next += 1;
                self.decoded.extend(batches);
                polybolos_model::sometimes!("an output was read while it was written");
            } else if self.stage.changed().await.is_err() && !self.stage.borrow().is_whole {
                return Err(ShuffleError::Deleted { key: self.key, partition: 0 });
            }
        }
    }
}
