//! Outputs that go from an executor that leaves to another one, and what readers know of that.
//!
//! ```text
//!   scheduler ──PullOutput──▶ executor B ──Flight──▶ executor A     B keeps the output under A's attempt
//!       │ OutputMoved is committed
//!       ╰───OutputsMoved──▶ every executor: a reader whose source breaks at A goes on at B, behind the rows it has
//! ```
//!
//! A copy has the same rows in the same order, though maybe in other batches.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use arrow::datatypes::Schema;
use futures::StreamExt;
use polybolos_model::{AttemptId, JobId, PartitionStats};

use crate::{
    FetchError, FlightPool, OutputKey, ShuffleError, ShuffleStore, encode_ticket, locked,
    output_writer::OutputWriter, size::batch_bytes,
};

/// Rows of a batch of a copy, but for short ones.
const TARGET_ROWS: usize = 8_192;
/// Moved outputs that are remembered; beyond that the oldest attempts are forgotten, and a reader of one of them fails and
/// runs again.
const MAX_MOVED: usize = 100_000;

/// An output that another executor holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    pub key: OutputKey,
    /// `HOST:PORT` of its Flight service.
    pub address: String,
    /// One for each output partition.
    pub outputs: Vec<PartitionStats>,
}

/// Where outputs are that have moved, as far as this executor was told.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<BTreeMap<AttemptId, (JobId, String)>>);

impl Places {
    fn note(&self, job: JobId, attempt: AttemptId, address: String) {
        let mut places = locked(&self.0);
        places.insert(attempt, (job, address));
        if places.len() > MAX_MOVED {
            places.pop_first();
        }
    }

    fn get(&self, attempt: AttemptId) -> Option<String> {
        locked(&self.0).get(&attempt).map(|(_, address)| address.clone())
    }

    pub(crate) fn forget_job(&self, job: JobId) {
        locked(&self.0).retain(|_, (of, _)| *of != job);
    }
}

impl ShuffleStore {
    /// Fetches a whole output and keeps it. It is visible when it is whole. Dropping the future frees all that it held.
    ///
    /// # Errors
    /// It can't be fetched, has other rows than it should, can't be stored, or is deleted meanwhile. Nothing of it is
    /// here then.
    pub async fn pull(&self, pool: &Arc<FlightPool>, from: &Handover) -> Result<(), FetchError> {
        let Handover { key, address, outputs } = from;
        let partitions = u32::try_from(outputs.len()).unwrap_or(u32::MAX);
        let codec = |source| ShuffleError::Codec { key: *key, source };
        let new = |schema| OutputWriter::new(self, *key, schema, partitions, TARGET_ROWS);
        let mut writer = None;
        for (number, stats) in outputs.iter().enumerate().filter(|(_, stats)| stats.rows > 0) {
            let partition = u32::try_from(number).unwrap_or(u32::MAX);
            let mut rows = 0;
            let mut batches = std::pin::pin!(pool.fetch(address, encode_ticket(*key, partition)));
            while let Some(batch) = batches.next().await {
                let batch = batch?;
                rows += batch.num_rows() as u64;
                let bytes = batch_bytes(&batch);
                let writer = match &mut writer {
                    Some(writer) => writer,
                    None => writer.insert(new(batch.schema())?),
                };
                writer.admit(bytes).await?;
                writer.push(number, batch).map_err(codec)?;
                writer.drain().await?;
                if let Some(work) = self.charge(bytes) {
                    work.await;
                }
                polybolos_model::failpoint!("shuffle.mid_pull");
            }
            if rows != stats.rows {
                return Err(FetchError::Rows { rows, expected: stats.rows });
            }
        }
        let writer = match writer {
            Some(writer) => writer,
            // Without rows nobody needs to know their columns.
            None => new(Arc::new(Schema::empty()))?,
        };
        writer.finish().await?;
        polybolos_model::sometimes!("an output was taken over");
        Ok(())
    }

    /// The attempt's output is there now; a reader that was told of another place finds it by that.
    pub fn note_moved(&self, job: JobId, attempt: AttemptId, address: String) {
        self.places().note(job, attempt, address);
    }

    pub(crate) fn moved_to(&self, attempt: AttemptId) -> Option<String> {
        self.places().get(attempt)
    }
}
