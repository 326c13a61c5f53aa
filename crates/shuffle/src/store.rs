//! The outputs that this executor holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak, atomic::Ordering},
};

use arrow::datatypes::SchemaRef;
use futures::future::BoxFuture;
use polybolos_env::{Cpu, Disk, Env};
use polybolos_model::{AttemptId, JobId, TaskId};

use crate::{
    DurableShuffle, OutputReader, ShuffleError,
    budget::{Budget, Reservation},
    chunk,
    growing::{Follower, Growing},
    handover::Places,
    locked,
    output::Output,
    spill::{Garbage, SpillContext, sweep},
};

/// One attempt's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputKey {
    pub task: TaskId,
    pub attempt: AttemptId,
}

impl fmt::Display for OutputKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TaskId { job, stage, partition } = self.task;
        write!(f, "query {job} stage {stage} partition {partition} attempt {}", self.attempt)
    }
}

/// How Arrow data is encoded, in files or on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    #[default]
    None,
    Lz4,
}

#[derive(Debug, Clone)]
pub struct ShuffleConfig {
    /// A folder of this store alone. Shuffle files that are in it when the store opens are removed.
    pub dir: PathBuf,
    /// Outputs beyond it go to files.
    pub memory_budget_bytes: u64,
    /// Of the files.
    pub compression: Compression,
    /// Where outputs are copied to, so that they outlive this executor.
    pub durable: Option<Arc<DurableShuffle>>,
    /// Whether executors on the same machine read each other's files.
    pub host_files: bool,
}

/// What is known of an attempt's output.
enum Slot {
    Writing {
        job: JobId,
        /// For those that may read it before it is whole.
        growing: Weak<Growing>,
    },
    Whole(Arc<Output>),
}

#[derive(Default)]
struct Outputs {
    by_attempt: BTreeMap<AttemptId, Slot>,
    by_job: BTreeMap<JobId, BTreeSet<AttemptId>>,
}

impl Outputs {
    fn remove(&mut self, attempt: AttemptId) -> Option<Slot> {
        let slot = self.by_attempt.remove(&attempt)?;
        let job = match &slot {
            Slot::Writing { job, .. } => *job,
            Slot::Whole(output) => output.key.task.job,
        };
        if let Some(attempts) = self.by_job.get_mut(&job) {
            attempts.remove(&attempt);
            if attempts.is_empty() {
                self.by_job.remove(&job);
            }
        }
        Some(slot)
    }
}

/// Holds outputs in memory up to a budget and in files beyond it.
pub struct ShuffleStore {
    outputs: Arc<Mutex<Outputs>>,
    spill: SpillContext,
    cpu: Arc<dyn Cpu>,
    durable: Option<Arc<DurableShuffle>>,
    /// Of whom files are read, and who may read them.
    host: Option<Arc<str>>,
    /// Of outputs of any executor.
    places: Places,
}

impl fmt::Debug for ShuffleStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShuffleStore").field("folder", &self.spill.folder).finish_non_exhaustive()
    }
}

impl ShuffleStore {
    /// Makes the folder, removes what an earlier process left there, and starts the task that removes files of
    /// deleted outputs. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// The folder can't be made or listed.
    pub async fn open(env: &Env, config: ShuffleConfig) -> Result<Arc<Self>, ShuffleError> {
        let ShuffleConfig { dir: folder, memory_budget_bytes, compression, durable, host_files } = config;
        let disk = Arc::clone(&env.disk);
        sweep(disk.as_ref(), &folder).await?;
        let options = chunk::write_options(compression).map_err(|error| ShuffleError::Disk {
            action: "compress files in",
            path: folder.clone(),
            source: std::io::Error::other(error),
        })?;
        let garbage = Arc::new(Garbage::default());
        let cleaner = (Arc::clone(&garbage), Arc::clone(&disk));
        tokio::spawn(async move {
            let (garbage, disk) = cleaner;
            loop {
                garbage.waiting.notified().await;
                garbage.collect(disk.as_ref()).await;
                if garbage.closed.load(Ordering::Acquire) {
                    // What was added between the two, since nothing is added after the closing.
                    garbage.collect(disk.as_ref()).await;
                    break;
                }
            }
        });
        let spill = SpillContext { disk, folder, garbage, budget: Budget::new(memory_budget_bytes), options };
        Ok(Arc::new(Self {
            outputs: Arc::default(),
            spill,
            cpu: Arc::clone(&env.cpu),
            durable,
            host: env.host.clone().filter(|_| host_files),
            places: Places::default(),
        }))
    }

    /// Reads `partition` of a whole output.
    ///
    /// # Errors
    /// The output isn't here (any more), or has no such partition.
    pub fn read(&self, key: OutputKey, partition: u32) -> Result<OutputReader, ShuffleError> {
        self.read_range(key, &(partition..partition.saturating_add(1)))
    }

    /// As [`ShuffleStore::read`], of neighbouring partitions, one after the other.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn read_range(
        &self,
        key: OutputKey,
        partitions: &Range<u32>,
    ) -> Result<OutputReader, ShuffleError> {
        let outputs = locked(&self.outputs);
        match outputs.by_attempt.get(&key.attempt) {
            Some(Slot::Whole(output)) if output.key == key => OutputReader::new(output, partitions),
            _ => {
                polybolos_model::sometimes!("an output was gone when it was read");
                Err(ShuffleError::NotFound { key })
            }
        }
    }

    /// Reads the only partition of an output that is written, as it grows.
    ///
    /// # Errors
    /// No such output is written here, or it can't be read before it is whole.
    pub(crate) fn follow(self: &Arc<Self>, key: OutputKey) -> Result<Follower, ShuffleError> {
        let growing = match locked(&self.outputs).by_attempt.get(&key.attempt) {
            Some(Slot::Writing { job, growing }) if *job == key.task.job => growing.upgrade(),
            _ => None,
        };
        growing.map(|growing| Follower::new(self, key, &growing)).ok_or(ShuffleError::NotFound { key })
    }

    /// Output partitions of a whole output.
    pub(crate) fn partitions(&self, key: OutputKey) -> Result<u32, ShuffleError> {
        match locked(&self.outputs).by_attempt.get(&key.attempt) {
            Some(Slot::Whole(output)) if output.key == key => {
                Ok(u32::try_from(output.stats.len()).unwrap_or(u32::MAX))
            }
            _ => Err(ShuffleError::NotFound { key }),
        }
    }

    /// The durable side, if there is one.
    pub fn durable(&self) -> Option<&Arc<DurableShuffle>> {
        self.durable.as_ref()
    }

    /// Copies a whole output to where it outlives this executor. Waits while others are copied.
    ///
    /// # Errors
    /// There is no such place, it can't be written to, or the output is deleted meanwhile. Nothing of it stays there.
    pub async fn make_durable(&self, key: OutputKey) -> Result<(), ShuffleError> {
        match &self.durable {
            Some(durable) => durable.upload(self, key).await,
            None => Err(ShuffleError::NoDurableStore { key }),
        }
    }

    /// Deletes an attempt's output, here and its durable copy.
    pub fn delete(&self, attempt: AttemptId) {
        self.forget(attempt);
        if let Some(durable) = &self.durable {
            durable.delete(attempt);
        }
    }

    /// Forgets an attempt's output, whole or not; one that isn't here is no error. Frees memory at once, files soon. A
    /// durable copy stays.
    pub fn forget(&self, attempt: AttemptId) {
        // Dropped after the lock is released.
        let slot = locked(&self.outputs).remove(attempt);
        drop(slot);
    }

    /// Deletes all outputs of a job, whole or not, and all durable copies, also those that other executors made.
    pub fn delete_job(&self, job: JobId) {
        self.forget_job(job);
        if let Some(durable) = &self.durable {
            durable.delete_job(job);
        }
    }

    /// The machine on which files are read without their owner; `None` for nowhere.
    pub(crate) fn host(&self) -> Option<Arc<str>> {
        self.host.clone()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.spill.folder
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.spill.disk.as_ref()
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    fn forget_job(&self, job: JobId) {
        self.places.forget_job(job);
        let mut outputs = locked(&self.outputs);
        let attempts = outputs.by_job.remove(&job).unwrap_or_default();
        let slots: Vec<Slot> =
            attempts.into_iter().filter_map(|attempt| outputs.by_attempt.remove(&attempt)).collect();
        drop(outputs);
        drop(slots);
    }

    /// What outputs take in memory and on disk, also those that are still written.
    pub fn bytes(&self) -> u64 {
        self.memory_bytes() + self.disk_bytes()
    }

    pub fn memory_bytes(&self) -> u64 {
        self.spill.budget.memory_bytes()
    }

    pub fn disk_bytes(&self) -> u64 {
        self.spill.budget.disk_bytes()
    }

    /// See [`Cpu::charge`].
    pub(crate) fn charge(&self, bytes: usize) -> Option<BoxFuture<'static, ()>> {
        self.cpu.charge(bytes)
    }

    pub(crate) fn spill_context(&self) -> SpillContext {
        self.spill.clone()
    }

    pub(crate) fn reservation(&self) -> Reservation {
        Reservation::new(&self.spill.budget)
    }

    /// Announces an output.
    pub(crate) fn begin(&self, key: OutputKey) -> Result<Writing, ShuffleError> {
        let mut outputs = locked(&self.outputs);
        if outputs.by_attempt.contains_key(&key.attempt) {
            return Err(ShuffleError::Duplicate { key });
        }
        let job = key.task.job;
        outputs.by_attempt.insert(key.attempt, Slot::Writing { job, growing: Weak::new() });
        outputs.by_job.entry(job).or_default().insert(key.attempt);
        Ok(Writing { outputs: Arc::clone(&self.outputs), key, published: false })
    }
}

impl Drop for ShuffleStore {
    fn drop(&mut self) {
        locked(&self.outputs).by_attempt.clear();
        self.spill.garbage.close();
    }
}

/// An output that was announced and isn't visible yet; forgotten when dropped.
pub(crate) struct Writing {
    outputs: Arc<Mutex<Outputs>>,
    key: OutputKey,
    published: bool,
}

impl Writing {
    /// From now on [`ShuffleStore::follow`] finds it.
    pub(crate) fn let_follow(&self, schema: &SchemaRef) -> Arc<Growing> {
        let new = Growing::new(Arc::clone(schema));
        if let Some(Slot::Writing { growing, .. }) =
            locked(&self.outputs).by_attempt.get_mut(&self.key.attempt)
        {
            *growing = Arc::downgrade(&new);
        }
        new
    }

    /// Makes the whole output visible.
    ///
    /// # Errors
    /// It was deleted while it was written.
    pub(crate) fn publish(mut self, output: Output) -> Result<(), ShuffleError> {
        let mut outputs = locked(&self.outputs);
        match outputs.by_attempt.get_mut(&self.key.attempt) {
            Some(slot @ Slot::Writing { .. }) => {
                *slot = Slot::Whole(Arc::new(output));
                drop(outputs);
                self.published = true;
                Ok(())
            }
            _ => Err(ShuffleError::DeletedWhileWritten { key: self.key }),
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        let mut outputs = locked(&self.outputs);
        if matches!(outputs.by_attempt.get(&self.key.attempt), Some(Slot::Writing { .. })) {
            outputs.remove(self.key.attempt);
        }
    }
}
