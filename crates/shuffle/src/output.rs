//! A whole output of one attempt, and reading it.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Weak},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use arrow_ipc::writer::IpcWriteOptions;
use bytes::Bytes;
use polybolos_model::PartitionStats;

use crate::{
    OutputKey, ShuffleError,
    budget::Reservation,
    chunk,
    index::Chunk,
    sharing::{Slack, compact},
    spill::SpilledOutput,
};

/// Never changes. Its memory and files are given up when the store forgets it.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) key: OutputKey,
    pub(crate) schema: SchemaRef,
    pub(crate) stats: Vec<PartitionStats>,
    pub(crate) rows: Rows,
}

#[derive(Debug)]
pub(crate) enum Rows {
    Memory { partitions: Vec<Vec<RecordBatch>>, _reservation: Reservation },
    Files(SpilledOutput),
}

/// Reads one partition of an output, or one after the other, each in the order in which it was written.
///
/// It does not keep the output alive: one that is deleted in between ends the read with
/// [`ShuffleError::Deleted`], so that a slow reader never holds memory that was given up.
#[derive(Debug)]
pub struct OutputReader {
    output: Weak<Output>,
    key: OutputKey,
    /// The one that is read.
    partition: u32,
    /// The one behind the last.
    end: u32,
    schema: SchemaRef,
    stats: PartitionStats,
    /// The next batch in memory or chunk in the file.
    next: usize,
    decoded: VecDeque<RecordBatch>,
}

impl OutputReader {
    pub(crate) fn new(output: &Arc<Output>, partitions: &Range<u32>) -> Result<Self, ShuffleError> {
        let (key, partition) = (output.key, partitions.start);
        let end = partitions.end.max(partition.saturating_add(1));
        let Some(of) = output.stats.get(partition as usize..end as usize) else {
            let partition = end - 1;
            return Err(ShuffleError::NoSuchPartition { key, partition, partitions: output.stats.len() });
        };
        let stats = of.iter().fold(PartitionStats::default(), |sum, one| PartitionStats {
            rows: sum.rows + one.rows,
            bytes: sum.bytes + one.bytes,
        });
        Ok(Self {
            output: Arc::downgrade(output),
            key,
            partition,
            end,
            schema: Arc::clone(&output.schema),
            stats,
            next: 0,
            decoded: VecDeque::new(),
        })
    }

    /// Leaves out the batches before the one of that number.
    pub(crate) fn starting_at(self, number: usize) -> Self {
        Self { next: number, ..self }
    }

    pub fn key(&self) -> OutputKey {
        self.key
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Of the partitions that are read.
    pub fn stats(&self) -> PartitionStats {
        self.stats
    }

    /// The next batch; `None` after the last. Ready at once for an output in memory.
    ///
    /// # Errors
    /// The output was deleted meanwhile, or its file can't be read or is damaged.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, ShuffleError> {
        loop {
            if let Some(batch) = self.next_of_partition().await? {
                return Ok(Some(batch));
            }
            if self.partition.saturating_add(1) >= self.end {
                return Ok(None);
            }
            (self.partition, self.next) = (self.partition + 1, 0);
        }
    }

    async fn next_of_partition(&mut self) -> Result<Option<RecordBatch>, ShuffleError> {
        let partition = self.partition as usize;
        loop {
            if let Some(batch) = self.decoded.pop_front() {
                return Ok(Some(batch));
            }
            let Some(output) = self.output.upgrade() else {
                return Err(ShuffleError::Deleted { key: self.key, partition: self.partition });
            };
            let position = self.next;
            match &output.rows {
                Rows::Memory { partitions, .. } => {
                    let batch = partitions.get(partition).and_then(|batches| batches.get(position));
                    self.next += usize::from(batch.is_some());
                    return Ok(batch.cloned());
                }
                Rows::Files(files) => match files.chunk(partition, position).await? {
                    Some(batches) => {
                        self.next += 1;
                        self.decoded.extend(batches);
                    }
                    None => return Ok(None),
                },
            }
        }
    }

    /// Where the partition is in a file; `None` for one in memory.
    pub(crate) async fn chunks(&self) -> Result<Option<Vec<Chunk>>, ShuffleError> {
        let Some(output) = self.output.upgrade() else {
            return Err(ShuffleError::Deleted { key: self.key, partition: self.partition });
        };
        match &output.rows {
            Rows::Memory { .. } => Ok(None),
            // A file is told of for one partition at a time.
            Rows::Files(_) if self.end > self.partition.saturating_add(1) => Ok(None),
            Rows::Files(files) => files.chunks(self.partition as usize).await.map(Some),
        }
    }

    /// The next batch as a chunk; `None` after the last. What is in a file is handed on as it is there, checked. Not to
    /// be mixed with [`OutputReader::next`].
    pub(crate) async fn next_encoded(
        &mut self,
        options: &IpcWriteOptions,
    ) -> Result<Option<Bytes>, ShuffleError> {
        let partition = self.partition as usize;
        let Some(output) = self.output.upgrade() else {
            return Err(ShuffleError::Deleted { key: self.key, partition: self.partition });
        };
        let position = self.next;
        self.next += 1;
        match &output.rows {
            Rows::Memory { partitions, .. } => {
                let Some(batch) = partitions.get(partition).and_then(|batches| batches.get(position)) else {
                    return Ok(None);
                };
                let codec = |source| ShuffleError::Codec { key: self.key, source };
                let batch = compact(batch.clone(), Slack::Encoded).map_err(codec)?;
                let parts = chunk::encode(&batch, &output.schema, options).map_err(codec)?;
                Ok(Some(parts.concat().into()))
            }
            Rows::Files(files) => files.encoded(partition, position).await,
        }
    }
}
