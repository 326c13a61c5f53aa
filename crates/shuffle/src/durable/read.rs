//! Reading partitions of a durable output: its index, then ranges of its data.

use std::{collections::VecDeque, fmt, ops::Range, path::PathBuf, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use bytes::Bytes;
use object_store::{Error as StoreError, ObjectStoreExt, path::Path};

use super::DurableShuffle;
use crate::{
    OutputKey, ShuffleError, chunk,
    index::{Chunk, Index, MAX_INDEX_BYTES},
};

/// Neighbouring chunks are read by one request up to this size, if not one alone is larger.
const RANGE_BYTES: u64 = 4 * 1024 * 1024;

/// Reads one partition, or one after the other, each in the order in which it was written.
pub(crate) struct DurableReader {
    durable: Arc<DurableShuffle>,
    key: OutputKey,
    partitions: Range<u32>,
    data: Path,
    /// Not read yet.
    chunks: VecDeque<Chunk>,
    decoded: VecDeque<RecordBatch>,
    /// Rows that are left out.
    skip: u64,
}

impl fmt::Debug for DurableReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableReader").field("data", &self.data).finish_non_exhaustive()
    }
}

impl DurableShuffle {
    /// Reads `partitions` of an output, and with them the first of their rows, so that a store that can't give them is
    /// found at once.
    ///
    /// # Errors
    /// There is no whole output, it has no such partition, or the store can't be read.
    pub(crate) async fn read(
        self: &Arc<Self>,
        key: OutputKey,
        partitions: &Range<u32>,
    ) -> Result<DurableReader, ShuffleError> {
        let place = self.place(key)?;
        let mut index = self.read_index(key, &place.index).await?;
        let count = index.partitions.len();
        let end = partitions.end.max(partitions.start.saturating_add(1));
        let Some(read) = index.partitions.get_mut(partitions.start as usize..end as usize) else {
            return Err(ShuffleError::NoSuchPartition { key, partition: end - 1, partitions: count });
        };
        let mut reader = DurableReader {
            durable: Arc::clone(self),
            key,
            partitions: partitions.start..end,
            data: place.data,
            chunks: read.iter_mut().flat_map(std::mem::take).collect(),
            decoded: VecDeque::new(),
            skip: 0,
        };
        reader.fill().await?;
        polybolos_model::sometimes!("an output was read from the durable store");
        Ok(reader)
    }

    async fn read_index(&self, key: OutputKey, path: &Path) -> Result<Index, ShuffleError> {
        let get = || async move {
            let found = self.store.get(path).await?;
            if found.meta.size > MAX_INDEX_BYTES {
                return Ok(Err(found.meta.size));
            }
            found.bytes().await.map(Ok)
        };
        let bytes = match self.persist("read", path, get).await {
            Err(ShuffleError::Store { source: StoreError::NotFound { .. }, object, .. }) => {
                polybolos_model::sometimes!("an output was not in the durable store");
                return Err(ShuffleError::NotDurable { key, object });
            }
            got => got?,
        };
        let bytes =
            bytes.map_err(|size| self.corrupt(key, path, format!("the index is {size} bytes long")))?;
        Index::decode(&bytes).map_err(|detail| self.corrupt(key, path, detail))
    }

    fn corrupt(&self, key: OutputKey, path: &Path, detail: String) -> ShuffleError {
        ShuffleError::Corrupt { key, path: PathBuf::from(self.name(path)), detail }
    }
}

impl DurableReader {
    pub(crate) fn key(&self) -> OutputKey {
        self.key
    }

    /// Of the rows; `None` when there are none.
    pub(crate) fn schema(&self) -> Option<SchemaRef> {
        self.decoded.front().map(RecordBatch::schema)
    }

    /// The next batch; `None` after the last.
    ///
    /// # Errors
    /// The store can't be read, or what it gives is damaged.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, ShuffleError> {
        loop {
            if self.decoded.is_empty() {
                self.fill().await?;
            }
            let Some(batch) = self.decoded.pop_front() else { return Ok(None) };
            let rows = batch.num_rows();
            let left_out = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rows);
            self.skip -= left_out as u64;
            if left_out < rows {
                return Ok(Some(batch.slice(left_out, rows - left_out)));
            }
        }
    }

    /// Without the first `rows`, which came from elsewhere.
    #[must_use]
    pub(crate) fn after(mut self, rows: u64) -> Self {
        if !polybolos_model::mutant!("durable-resume-repeats") {
            self.skip = rows;
        }
        self
    }

    /// Reads the next range. Afterwards something is decoded, unless all is read.
    async fn fill(&mut self) -> Result<(), ShuffleError> {
        while self.decoded.is_empty()
            && let Some(first) = self.chunks.pop_front()
        {
            let mut range = vec![first];
            let mut end = first.offset.saturating_add(first.length);
            while let Some(next) = self.chunks.front()
                && next.offset == end
                && end.saturating_add(next.length) - first.offset <= RANGE_BYTES
            {
                end += next.length;
                range.extend(self.chunks.pop_front());
            }
            let bytes = self.get(first.offset, end).await?;
            for chunk in range {
                let start = usize::try_from(chunk.offset - first.offset).unwrap_or(usize::MAX);
                let length = usize::try_from(chunk.length).unwrap_or(usize::MAX);
                let bytes = bytes.slice(start..start + length);
                self.check(chunk, &bytes)?;
                let batches =
                    chunk::decode(bytes).map_err(|source| ShuffleError::Codec { key: self.key, source })?;
                self.decoded.extend(batches);
            }
        }
        Ok(())
    }

    async fn get(&self, start: u64, end: u64) -> Result<Bytes, ShuffleError> {
        let (durable, path) = (&self.durable, &self.data);
        let get = || async move { durable.store.get_range(path, start..end).await };
        let bytes = match durable.persist("read", path, get).await {
            Err(ShuffleError::Store { source: StoreError::NotFound { .. }, .. }) => {
                return Err(durable.corrupt(
                    self.key,
                    path,
                    "the index is there, and the data is not".into(),
                ));
            }
            got => got?,
        };
        if bytes.len() as u64 != end - start {
            let detail = format!("of bytes {start}..{end} there are {}", bytes.len());
            return Err(durable.corrupt(self.key, path, detail));
        }
        Ok(bytes)
    }

    fn check(&self, chunk: Chunk, bytes: &Bytes) -> Result<(), ShuffleError> {
        chunk.check(&(self.partitions.start..=self.partitions.end.saturating_sub(1)), bytes).map_err(
            |detail| {
                polybolos_model::sometimes!("a damaged durable output was found");
                self.durable.corrupt(self.key, &self.data, detail)
            },
        )
    }
}
