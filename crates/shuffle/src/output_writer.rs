//! Gathers the rows of one attempt by output partition, in memory while the budget lasts and in a file after that.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, RecordBatch, RecordBatchOptions},
    compute::BatchCoalescer,
    datatypes::SchemaRef,
    error::ArrowError,
};
use polybolos_model::{PartitionStats, limits::MAX_TASKS_PER_STAGE};

use crate::{
    OutputKey, ShuffleError, ShuffleStore,
    budget::Reservation,
    growing::Growing,
    output::{Output, Rows},
    sharing::{Slack, compact},
    size::batch_bytes,
    spill::SpillWriter,
    store::Writing,
};

/// What one writer to a file holds back at most while it gathers batches of a good size, beside the budget.
const MAX_STAGED_BYTES: usize = 16 * 1024 * 1024;
/// Spare capacity of a kept batch that is left alone: so much, and this share of its bytes.
const TOLERATED_ROOM_BYTES: usize = 4 * 1024;
const ROOM_SHARE: usize = 8;
/// A piece of at least this share of the wanted rows is kept as it is: copying it to fill a batch costs more.
const WHOLE_ENOUGH: usize = 4;

struct Partition {
    gathering: BatchCoalescer,
    batches: Vec<RecordBatch>,
    stats: PartitionStats,
}

pub(crate) struct OutputWriter<'a> {
    store: &'a ShuffleStore,
    key: OutputKey,
    schema: SchemaRef,
    target_rows: usize,
    partitions: Vec<Partition>,
    reservation: Reservation,
    /// `Some` once the memory budget was exhausted.
    file: Option<SpillWriter>,
    /// Bytes gathered and not yet in the file.
    staged_bytes: usize,
    /// For readers that don't wait for the whole output.
    growing: Option<Arc<Growing>>,
    // Last, so that it is forgotten after its memory was given back.
    writing: Writing,
}

impl<'a> OutputWriter<'a> {
    pub(crate) fn new(
        store: &'a ShuffleStore,
        key: OutputKey,
        schema: SchemaRef,
        partitions: u32,
        target_rows: usize,
    ) -> Result<Self, ShuffleError> {
        if partitions == 0 || partitions > MAX_TASKS_PER_STAGE {
            let limit = MAX_TASKS_PER_STAGE;
            return Err(ShuffleError::PartitionCount { partitions: partitions as usize, limit });
        }
        let partition = |_| Partition {
            gathering: BatchCoalescer::new(Arc::clone(&schema), target_rows)
                .with_biggest_coalesce_batch_size(Some(target_rows / WHOLE_ENOUGH)),
            batches: Vec::new(),
            stats: PartitionStats::default(),
        };
        Ok(Self {
            store,
            key,
            target_rows,
            partitions: (0..partitions).map(partition).collect(),
            reservation: store.reservation(),
            file: None,
            staged_bytes: 0,
            growing: None,
            writing: store.begin(key)?,
            schema,
        })
    }

    /// Lets readers have the rows of an output with one partition while it is written.
    pub(crate) fn let_follow(&mut self) {
        self.growing = Some(self.writing.let_follow(&self.schema));
    }

    /// Makes room for rows of `bytes` that will be pushed next.
    pub(crate) async fn admit(&mut self, bytes: usize) -> Result<(), ShuffleError> {
        if self.file.is_none() {
            if self.reservation.try_grow(bytes as u64) {
                return Ok(());
            }
            self.move_to_file().await?;
        }
        if self.staged_bytes + bytes > MAX_STAGED_BYTES {
            self.flush()?;
            self.drain().await?;
        }
        self.staged_bytes += bytes;
        Ok(())
    }

    /// Adds rows to a partition, behind those that it has.
    pub(crate) fn push(&mut self, partition: usize, batch: RecordBatch) -> Result<(), ArrowError> {
        let Some(partition) = self.partitions.get_mut(partition) else {
            return Err(ArrowError::InvalidArgumentError(format!(
                "there is no output partition {partition}"
            )));
        };
        let rows = batch.num_rows();
        if rows <= self.target_rows {
            return partition.gathering.push_batch(batch);
        }
        for start in (0..rows).step_by(self.target_rows) {
            partition.gathering.push_batch(batch.slice(start, self.target_rows.min(rows - start)))?;
        }
        Ok(())
    }

    /// Takes the batches that are complete.
    pub(crate) async fn drain(&mut self) -> Result<(), ShuffleError> {
        let key = self.key;
        let codec = |source| ShuffleError::Codec { key, source };
        for (number, partition) in self.partitions.iter_mut().enumerate() {
            while let Some(batch) = partition.gathering.next_completed_batch() {
                let slack = if self.file.is_some() { Slack::Encoded } else { Slack::Kept };
                let short = batch.num_rows() < self.target_rows / WHOLE_ENOUGH;
                if short && self.file.is_some() && polybolos_model::mutant!("spill-loses-last") {
                    continue;
                }
                let batch = compact(batch, slack).map_err(codec)?;
                let bytes = batch_bytes(&batch);
                // What is written away is freed at once.
                let roomy = self.file.is_none() && is_roomy(&batch, bytes);
                let batch = if roomy { fitted(batch).map_err(codec)? } else { batch };
                partition.stats.rows += batch.num_rows() as u64;
                partition.stats.bytes += bytes as u64;
                match &mut self.file {
                    Some(file) => {
                        let chunk = file.append(number, &batch).await?;
                        self.growing.iter().for_each(|growing| growing.add_chunk(chunk));
                        self.staged_bytes = self.staged_bytes.saturating_sub(bytes);
                    }
                    None => {
                        self.growing.iter().for_each(|growing| growing.add(&batch));
                        partition.batches.push(batch);
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the output visible, whole.
    pub(crate) async fn finish(mut self) -> Result<Vec<PartitionStats>, ShuffleError> {
        self.flush()?;
        self.drain().await?;
        polybolos_model::failpoint!("shuffle.before_published");
        let stats: Vec<PartitionStats> = self.partitions.iter().map(|partition| partition.stats).collect();
        let rows = match self.file {
            Some(file) => Rows::Files(file.finish().await?),
            None => {
                self.reservation.settle(stats.iter().map(|s| s.bytes).sum());
                let partitions = self.partitions.into_iter().map(|partition| partition.batches).collect();
                Rows::Memory { partitions, _reservation: self.reservation }
            }
        };
        self.writing.publish(Output { key: self.key, schema: self.schema, stats: stats.clone(), rows })?;
        self.growing.iter().for_each(|growing| growing.is_whole());
        Ok(stats)
    }

    /// Completes what is gathered, however little.
    fn flush(&mut self) -> Result<(), ShuffleError> {
        let codec = |source| ShuffleError::Codec { key: self.key, source };
        for partition in &mut self.partitions {
            partition.gathering.finish_buffered_batch().map_err(codec)?;
        }
        self.staged_bytes = 0;
        Ok(())
    }

    /// The budget is exhausted: what is in memory goes to a file, and everything after it.
    async fn move_to_file(&mut self) -> Result<(), ShuffleError> {
        polybolos_model::sometimes!("an output went to a file");
        self.flush()?;
        self.drain().await?;
        let context = self.store.spill_context();
        let schema = Arc::clone(&self.schema);
        let mut file = SpillWriter::create(context, self.key, schema, self.partitions.len()).await?;
        if let Some(growing) = &self.growing {
            let (disk, path) = file.place();
            growing.move_to(disk, path);
        }
        let mut left: u64 = self.partitions.iter().map(|partition| partition.stats.bytes).sum();
        for (number, partition) in self.partitions.iter_mut().enumerate() {
            for batch in std::mem::take(&mut partition.batches) {
                let codec = |source| ShuffleError::Codec { key: self.key, source };
                let batch = compact(batch, Slack::Encoded).map_err(codec)?;
                let chunk = file.append(number, &batch).await?;
                self.growing.iter().for_each(|growing| growing.add_chunk(chunk));
            }
            left -= partition.stats.bytes;
            self.reservation.settle(left);
        }
        self.file = Some(file);
        Ok(())
    }
}

/// Whether a batch of `bytes` holds on to much memory beside its rows: a short one was gathered for many, and texts are
/// gathered in blocks of up to a MiB.
fn is_roomy(batch: &RecordBatch, bytes: usize) -> bool {
    batch.get_array_memory_size() > bytes + bytes / ROOM_SHARE + TOLERATED_ROOM_BYTES
}

/// A batch without spare capacity, as far as its memory is its own.
fn fitted(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let (schema, mut columns, _) = batch.into_parts();
    columns.iter_mut().for_each(|column: &mut ArrayRef| column.shrink_to_fit());
    RecordBatch::try_new_with_options(schema, columns, &options)
}
