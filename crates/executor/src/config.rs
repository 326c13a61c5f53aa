//! What an executor is told when it starts, and what it answers when it can't.

use std::{collections::BTreeMap, fmt, io, path::PathBuf, sync::Arc};

use datafusion::{
    error::DataFusionError,
    execution::{TempFileFactory, memory_pool::MemoryPool},
};
use polybolos_model::ExecutorId;
use polybolos_shuffle::{Compression, ShuffleError};
use url::Url;

use crate::durable::DurableError;

/// Share of the memory that shuffle outputs may use before they go to disk.
pub const DEFAULT_SHUFFLE_MEMORY_FRACTION: f64 = 0.2;

/// Smallest memory with which an executor starts: operators need a few batches each.
pub const MIN_MEMORY_BYTES: u64 = 16 * 1024 * 1024;

/// Settings of one executor.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// Its name, across restarts; unique in the cluster.
    pub id: ExecutorId,
    /// `HOST:PORT` of the scheduler's replicas, any of them.
    pub schedulers: Vec<String>,
    /// `HOST:PORT` of its Arrow Flight service; port 0 picks a free one.
    pub listen: String,
    /// How others reach it, if not by `listen`. Port 0 stands for the one that it listens on.
    pub advertise: Option<String>,
    /// Tasks that run at once.
    pub slots: u32,
    /// For operators and shuffle outputs together.
    pub memory_bytes: u64,
    /// Share of `memory_bytes` for shuffle outputs, in `0.0..=0.9`.
    pub shuffle_memory_fraction: f64,
    /// For spills and shuffle outputs; the executor uses a folder of its own below it.
    pub work_dir: PathBuf,
    /// Where operators get their memory; `None` for a pool that is shared evenly. The simulator gives one that runs out.
    pub memory_pool: Option<Arc<dyn MemoryPool>>,
    /// Where operators that run out of memory spill.
    pub spill: Spill,
    pub labels: BTreeMap<String, String>,
    /// Of shuffle outputs on disk; on the wire they are not compressed.
    pub compression: Compression,
    /// Whether executors on the same machine read each other's shuffle files themselves, and not over Arrow Flight.
    pub host_files: bool,
    /// Where shuffle outputs are copied to, so that they outlive this executor; `None` for nowhere. The same on all
    /// executors of a cluster.
    pub shuffle_durable: Option<ShuffleDurable>,
}

/// A place for durable copies of shuffle outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShuffleDurable {
    /// A shared folder (`file:///…`), a bucket (`s3://bucket/prefix`), or a store of the embedding program.
    pub url: Url,
    pub mode: DurableMode,
}

/// When outputs are copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DurableMode {
    /// After the task has counted as completed. One whose executor is lost before runs again.
    #[default]
    Background,
    /// Before the task counts as completed. One whose output can't be copied fails, and runs again.
    Before,
}

/// Where operators keep what does not fit their memory.
#[derive(Clone, Default)]
pub enum Spill {
    /// In files of the work folder.
    #[default]
    WorkDir,
    /// The simulator's side: DataFusion's own files bypass `env.disk`.
    Custom(Arc<dyn TempFileFactory>),
}

impl fmt::Debug for Spill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WorkDir => "WorkDir",
            Self::Custom(_) => "Custom",
        })
    }
}

impl ExecutorConfig {
    /// The defaults: one slot, 1 GiB, any free port of the loopback interface.
    pub fn new(id: ExecutorId, schedulers: Vec<String>, work_dir: PathBuf) -> Self {
        Self {
            id,
            schedulers,
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            slots: 1,
            memory_bytes: 1024 * 1024 * 1024,
            shuffle_memory_fraction: DEFAULT_SHUFFLE_MEMORY_FRACTION,
            work_dir,
            memory_pool: None,
            spill: Spill::WorkDir,
            labels: BTreeMap::new(),
            compression: Compression::Lz4,
            host_files: true,
            shuffle_durable: None,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), StartError> {
        let problem = if self.schedulers.is_empty() {
            "no scheduler address is given; give at least one HOST:PORT".to_owned()
        } else if self.slots == 0 {
            "0 slots can't run a task; give at least 1".to_owned()
        } else if self.memory_bytes < MIN_MEMORY_BYTES {
            format!("{} bytes of memory are too little; give at least {MIN_MEMORY_BYTES}", self.memory_bytes)
        } else if !(0.0..=0.9).contains(&self.shuffle_memory_fraction) {
            format!("a shuffle memory fraction of {} is outside 0.0 to 0.9", self.shuffle_memory_fraction)
        } else {
            return Ok(());
        };
        Err(StartError::Config(problem))
    }

    /// How the memory is divided: for shuffle outputs, and for operators.
    pub fn budgets(&self) -> (u64, u64) {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let shuffle = (self.memory_bytes as f64 * self.shuffle_memory_fraction) as u64;
        (shuffle, self.memory_bytes.saturating_sub(shuffle))
    }
}

/// The executor can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the executor's settings are wrong: {0}")]
    Config(String),
    #[error(
        "the executor can't listen on {address}: {source}; choose another port (0 picks a free one) or stop what uses it"
    )]
    Listen { address: String, source: io::Error },
    #[error(
        "the executor listens on {address}, which others can't connect to; say how they reach it (advertise HOST:PORT)"
    )]
    Advertise { address: String },
    #[error("the executor can't use its work folder {path}: {source}; choose a folder that it may write to")]
    WorkDir { path: PathBuf, source: io::Error },
    #[error("the executor's shuffle store can't be opened: {0}")]
    Shuffle(#[from] ShuffleError),
    #[error(transparent)]
    Durable(#[from] DurableError),
    #[error("the executor's memory pool and spill folder can't be set up: {0}")]
    Runtime(#[from] DataFusionError),
}

/// The executor can't go on, and trying again can't help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorFailure {
    #[error("scheduler {scheduler} refused executor {executor} for good: {reason}")]
    Refused { executor: ExecutorId, scheduler: String, reason: String },
    #[error("executor {executor} stopped")]
    Stopped { executor: ExecutorId },
}
