//! An output on disk: one data file and one index, written aside and renamed.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use arrow_ipc::writer::IpcWriteOptions;
use bytes::Bytes;
use polybolos_env::{Disk, DiskFile};
use tokio::sync::{Notify, OnceCell};

use crate::{
    OutputKey, ShuffleError,
    budget::{Budget, DiskUse},
    chunk,
    index::{Chunk, Index, MAX_INDEX_BYTES},
    locked,
};

/// File names: `PREFIX job-stage-partition-attempt SUFFIX`. The start-up sweep removes only these.
const PREFIX: &str = "shuffle-";
const DATA_SUFFIX: &str = ".data";
const INDEX_SUFFIX: &str = ".index";
/// A file that is still written.
const ASIDE_SUFFIX: &str = ".tmp";

fn base_name(key: OutputKey) -> String {
    let task = key.task;
    format!("{PREFIX}{}-{}-{}-{}", task.job, task.stage, task.partition, key.attempt)
}

/// The name of an output's data file, in the folder of the store that wrote it.
pub(crate) fn data_name(key: OutputKey) -> String {
    format!("{}{DATA_SUFFIX}", base_name(key))
}

/// Files to remove. Dropping an output can't wait for a disk, so a task of the store does it.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    /// Bounded by the files that outputs made.
    files: Mutex<Vec<PathBuf>>,
    pub(crate) waiting: Notify,
    pub(crate) closed: AtomicBool,
}

impl Garbage {
    fn add(&self, files: &mut Vec<PathBuf>) {
        locked(&self.files).append(files);
        self.waiting.notify_one();
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waiting.notify_one();
    }

    /// Removes what waits now.
    pub(crate) async fn collect(&self, disk: &dyn Disk) {
        let files = std::mem::take(&mut *locked(&self.files));
        for file in files {
            remove(disk, &file).await;
        }
    }
}

async fn remove(disk: &dyn Disk, file: &Path) {
    match disk.remove_file(file).await {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "a shuffle file could not be removed; the next start will");
        }
    }
}

/// Removes every file that a process before this one left in `folder`.
///
/// # Errors
/// The folder can't be made or listed.
pub(crate) async fn sweep(disk: &dyn Disk, folder: &Path) -> Result<(), ShuffleError> {
    disk.create_dir_all(folder).await.map_err(disk_error("create", folder))?;
    for file in disk.list(folder).await.map_err(disk_error("list", folder))? {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ours = [DATA_SUFFIX, INDEX_SUFFIX, ASIDE_SUFFIX].iter().any(|suffix| name.ends_with(suffix));
        if name.starts_with(PREFIX) && ours {
            remove(disk, &file).await;
        }
    }
    Ok(())
}

pub(crate) fn disk_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ShuffleError {
    let path = path.to_owned();
    move |source| ShuffleError::Disk { action, path, source }
}

/// Files of one attempt, removed when dropped.
struct Files {
    garbage: Arc<Garbage>,
    paths: Vec<PathBuf>,
    /// Not counted any more when the files are given up.
    use_: DiskUse,
}

impl Drop for Files {
    fn drop(&mut self) {
        if !polybolos_model::mutant!("spilled-files-kept") {
            self.garbage.add(&mut self.paths);
        }
    }
}

/// What a spill needs of its store.
#[derive(Clone)]
pub(crate) struct SpillContext {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) folder: PathBuf,
    pub(crate) garbage: Arc<Garbage>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) options: IpcWriteOptions,
}

/// An output that is being written to files.
pub(crate) struct SpillWriter {
    context: SpillContext,
    key: OutputKey,
    schema: SchemaRef,
    base: String,
    file: Box<dyn DiskFile>,
    offset: u64,
    index: Index,
    files: Files,
}

impl SpillWriter {
    pub(crate) async fn create(
        context: SpillContext,
        key: OutputKey,
        schema: SchemaRef,
        partitions: usize,
    ) -> Result<Self, ShuffleError> {
        let base = base_name(key);
        let mut files = Files {
            garbage: Arc::clone(&context.garbage),
            paths: Vec::new(),
            use_: DiskUse::new(&context.budget),
        };
        let aside = context.folder.join(format!("{base}{DATA_SUFFIX}{ASIDE_SUFFIX}"));
        files.paths.push(aside.clone());
        let file = context.disk.create(&aside).await.map_err(disk_error("create", &aside))?;
        Ok(Self { context, key, schema, base, file, offset: 0, index: Index::new(partitions), files })
    }

    /// Where the data is until the output is whole.
    pub(crate) fn place(&self) -> (Arc<dyn Disk>, PathBuf) {
        (Arc::clone(&self.context.disk), self.aside())
    }

    fn aside(&self) -> PathBuf {
        self.context.folder.join(format!("{}{DATA_SUFFIX}{ASIDE_SUFFIX}", self.base))
    }

    /// Adds a batch, of which the caller vouches that it wastes no memory, at the end of `partition`.
    pub(crate) async fn append(
        &mut self,
        partition: usize,
        batch: &RecordBatch,
    ) -> Result<Chunk, ShuffleError> {
        let parts = chunk::encode(batch, &self.schema, &self.context.options)
            .map_err(|source| ShuffleError::Codec { key: self.key, source })?;
        let (length, crc) = chunk::measure(&parts);
        self.file.append_parts(parts).await.map_err(disk_error("write", &self.aside()))?;
        let entry = Chunk { offset: self.offset, length, crc };
        self.offset += entry.length;
        self.files.use_.grow(entry.length);
        if let Some(chunks) = self.index.partitions.get_mut(partition) {
            chunks.push(entry);
        }
        Ok(entry)
    }

    /// Gives the files their names, the index last. Nothing is forced to the disk: an output does not outlive its
    /// process, and the start-up sweep removes what is left of it.
    pub(crate) async fn finish(mut self) -> Result<SpilledOutput, ShuffleError> {
        let data = self.rename_into_place(DATA_SUFFIX, None).await?;
        let encoded = self.index.encode();
        self.files.use_.grow(encoded.len() as u64);
        let index = self.rename_into_place(INDEX_SUFFIX, Some(encoded)).await?;
        let Self { context, key, files, .. } = self;
        Ok(SpilledOutput {
            disk: context.disk,
            key,
            data,
            index_path: index,
            index: OnceCell::new(),
            _files: files,
        })
    }

    async fn rename_into_place(
        &mut self,
        suffix: &str,
        content: Option<Vec<u8>>,
    ) -> Result<PathBuf, ShuffleError> {
        let disk = &self.context.disk;
        let aside = self.context.folder.join(format!("{}{suffix}{ASIDE_SUFFIX}", self.base));
        let path = self.context.folder.join(format!("{}{suffix}", self.base));
        self.files.paths.extend([aside.clone(), path.clone()]);
        if let Some(content) = content {
            self.file = disk.create(&aside).await.map_err(disk_error("create", &aside))?;
            self.file.append(&content).await.map_err(disk_error("write", &aside))?;
        }
        self.file.finish(false).await.map_err(disk_error("write", &aside))?;
        disk.rename(&aside, &path).await.map_err(disk_error("rename", &aside))?;
        Ok(path)
    }
}

/// A whole output in files.
pub(crate) struct SpilledOutput {
    disk: Arc<dyn Disk>,
    key: OutputKey,
    data: PathBuf,
    index_path: PathBuf,
    index: OnceCell<Index>,
    _files: Files,
}

impl fmt::Debug for SpilledOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpilledOutput").field("data", &self.data).finish_non_exhaustive()
    }
}

impl SpilledOutput {
    /// The batches of the `position`-th chunk of `partition`; `None` after the last.
    pub(crate) async fn chunk(
        &self,
        partition: usize,
        position: usize,
    ) -> Result<Option<Vec<RecordBatch>>, ShuffleError> {
        let Some(bytes) = self.encoded(partition, position).await? else { return Ok(None) };
        let batches = chunk::decode(bytes).map_err(|source| ShuffleError::Codec { key: self.key, source })?;
        Ok(Some(batches))
    }

    /// The bytes of such a chunk, checked.
    pub(crate) async fn encoded(
        &self,
        partition: usize,
        position: usize,
    ) -> Result<Option<Bytes>, ShuffleError> {
        let index = self.index.get_or_try_init(|| self.read_index()).await?;
        let Some(&chunk) = index.partitions.get(partition).and_then(|chunks| chunks.get(position)) else {
            return Ok(None);
        };
        let length =
            usize::try_from(chunk.length).map_err(|_| self.corrupt(&self.data, "a chunk is too long"))?;
        let bytes = self.read(&self.data, chunk.offset, length).await?;
        let number = u32::try_from(partition).unwrap_or(u32::MAX);
        if let Err(detail) = chunk.check(&(number..=number), &bytes) {
            polybolos_model::sometimes!("a damaged output was found");
            return Err(self.corrupt(&self.data, detail));
        }
        Ok(Some(bytes))
    }

    /// Where the chunks of `partition` are.
    pub(crate) async fn chunks(&self, partition: usize) -> Result<Vec<Chunk>, ShuffleError> {
        let index = self.index.get_or_try_init(|| self.read_index()).await?;
        Ok(index.partitions.get(partition).cloned().unwrap_or_default())
    }

    async fn read_index(&self) -> Result<Index, ShuffleError> {
        let path = &self.index_path;
        let length = self.disk.length(path).await.map_err(disk_error("read", path))?;
        if length > MAX_INDEX_BYTES {
            return Err(self.corrupt(path, format!("the index is {length} bytes long")));
        }
        let bytes = self.read(path, 0, length as usize).await?;
        Index::decode(&bytes).map_err(|detail| self.corrupt(path, detail))
    }

    async fn read(&self, path: &Path, offset: u64, length: usize) -> Result<Bytes, ShuffleError> {
        match self.disk.read(path, offset, length).await {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.corrupt(path, format!("it ends before byte {}", offset + length as u64)))
            }
            Err(error) => Err(disk_error("read", path)(error)),
        }
    }

    fn corrupt(&self, path: &Path, detail: impl Into<String>) -> ShuffleError {
        ShuffleError::Corrupt { key: self.key, path: path.to_owned(), detail: detail.into() }
    }
}
