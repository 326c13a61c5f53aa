//! Outputs in files of another process on the same machine, read without it.
//!
//! ```text
//!   reader ──DoGet, and which machine it is on──▶ owner: the same one, and the output is in a file?
//!      ◀──the folder, the chunks and their checksums──┤ yes
//!      ◀──the rows, as anybody gets them──────────────╯ no
//!   reader ──▶ the file. If anything is wrong with it: DoGet again without a machine, behind the rows that it has
//! ```
//!
//! So the owner is asked for each output: one that is gone is gone for all readers alike. The name of the file follows from
//! the output, and what is in it counts by the checksums that the owner told; a file that is deleted while it is open
//! is read to its end. Clients and executors that take outputs over get rows as ever.

use std::{
    collections::VecDeque,
    io,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use arrow::array::RecordBatch;
use arrow_flight::FlightData;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use polybolos_env::OpenFile;
use polybolos_proto::v1::{HostFile, HostFileChunk};
use prost::Message;

use crate::{
    OutputKey, OutputReader, ShuffleError, ShuffleStore, chunk,
    index::Chunk,
    spill::{data_name, disk_error},
};

/// In the metadata of a request: the machine of the reader.
pub(crate) const HOST: &str = "polybolos-host";
/// Larger answers are not given: a partition of so many chunks is worth a stream.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// What a reader on `host` is told instead of the rows. `None` when it gets the rows.
pub(crate) async fn answer(
    store: &ShuffleStore,
    reader: &OutputReader,
    host: Option<&str>,
) -> Option<FlightData> {
    if host.is_none() || host != store.host().as_deref() {
        return None;
    }
    let folder = std::path::absolute(store.folder()).ok()?.to_str()?.to_owned();
    // An index that can't be read is told as ever, by who reads the rows.
    let chunks = reader.chunks().await.ok()??;
    let chunk = |Chunk { offset, length, crc }| HostFileChunk { offset, length, crc };
    let file = HostFile { folder, chunks: chunks.into_iter().map(chunk).collect() };
    let answer = file.encode_to_vec();
    (answer.len() <= MAX_ANSWER_BYTES).then(|| FlightData::new().with_app_metadata(answer))
}

/// The file in an answer, if that has no rows.
pub(crate) fn answered(data: &FlightData) -> Option<HostFile> {
    let is_file = data.data_header.is_empty() && (1..=MAX_ANSWER_BYTES).contains(&data.app_metadata.len());
    is_file.then(|| HostFile::decode(data.app_metadata.clone()).ok())?
}

/// What came from files of other executors.
#[derive(Clone)]
pub(crate) struct HostFiles {
    /// Among the fetched bytes.
    pub(crate) bytes: Count,
    /// Files that could not be read (on), so that their executor was asked for the rows.
    pub(crate) failures: Count,
}

impl HostFiles {
    pub(crate) fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        Self {
            bytes: MetricBuilder::new(metrics).counter("host_file_bytes", partition),
            failures: MetricBuilder::new(metrics).counter("host_file_failures", partition),
        }
    }
}

/// Reads one partition of an output that another process has in a file.
pub(crate) struct HostFileReader {
    key: OutputKey,
    partition: u32,
    path: PathBuf,
    file: Box<dyn OpenFile>,
    /// Of each access to the disk, which may be another machine's.
    deadline: Duration,
    /// Not read yet.
    chunks: VecDeque<Chunk>,
    decoded: VecDeque<RecordBatch>,
}

impl HostFileReader {
    /// # Errors
    /// The file can't be opened within `deadline`, or is none.
    pub(crate) async fn open(
        store: &ShuffleStore,
        key: OutputKey,
        partition: u32,
        place: HostFile,
        deadline: Duration,
    ) -> Result<Self, ShuffleError> {
        let folder = Path::new(&place.folder);
        let path = folder.join(data_name(key));
        let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        if !folder.is_absolute() || !folder.components().all(plain) {
            return Err(disk_error("open", &path)(io::ErrorKind::InvalidInput.into()));
        }
        let file = in_time(deadline, store.disk().open(&path)).await.map_err(disk_error("open", &path))?;
        let chunk = |HostFileChunk { offset, length, crc }| Chunk { offset, length, crc };
        let chunks = place.chunks.into_iter().map(chunk).collect();
        Ok(Self { key, partition, path, file, deadline, chunks, decoded: VecDeque::new() })
    }

    /// The next batch; `None` after the last.
    ///
    /// # Errors
    /// The file can't be read, or is not what its owner told.
    pub(crate) async fn next(&mut self, store: &ShuffleStore) -> Result<Option<RecordBatch>, ShuffleError> {
        loop {
            if let Some(batch) = self.decoded.pop_front() {
                return Ok(Some(batch));
            }
            let Some(chunk) = self.chunks.pop_front() else { return Ok(None) };
            let length = usize::try_from(chunk.length).unwrap_or(usize::MAX);
            let read = in_time(self.deadline, self.file.read(chunk.offset, length)).await;
            let bytes = read.map_err(disk_error("read", &self.path))?;
            chunk
                .check(&(self.partition..=self.partition), &bytes)
                .map_err(|detail| ShuffleError::Corrupt { key: self.key, path: self.path.clone(), detail })?;
            if let Some(work) = store.charge(length) {
                work.await;
            }
            let codec = |source| ShuffleError::Codec { key: self.key, source };
            self.decoded.extend(chunk::decode(bytes).map_err(codec)?);
        }
    }
}

async fn in_time<T>(deadline: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
