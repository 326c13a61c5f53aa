//! Which output partition each row goes to.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    compute::cast,
    datatypes::SchemaRef,
    error::ArrowError,
};
use datafusion::{
    common::internal_datafusion_err,
    error::Result,
    physical_plan::{metrics::Time, repartition::BatchPartitioner},
};
use polybolos_model::Exchange;
use polybolos_planner::TaskOutput;

/// Spreads the batches of one task.
pub(crate) enum Router {
    One,
    RoundRobin { next: usize, partitions: usize },
    Hash(Box<BatchPartitioner>),
}

impl Router {
    /// For task `partition`: a round-robin starts at a place of its own, the same in every attempt.
    pub(crate) fn new(output: &TaskOutput, partition: u32) -> Result<Self> {
        let partitions = output.partitions as usize;
        match output.exchange {
            _ if partitions == 1 => Ok(Self::One),
            Exchange::RoundRobin if partitions > 1 => {
                Ok(Self::RoundRobin { next: partition as usize % partitions, partitions })
            }
            Exchange::Hash if partitions > 1 => {
                let mut keys = output.hash.clone();
                if partition % 2 == 1 && polybolos_model::mutant!("hash-keys-reordered") {
                    keys.reverse();
                }
                let hash = BatchPartitioner::new_hash_partitioner(keys, partitions, Time::new())?;
                Ok(Self::Hash(Box::new(hash)))
            }
            other => Err(internal_datafusion_err!("a {other} exchange to {partitions} partitions")),
        }
    }

    /// Hands every row of `batch` to `f`, with its partition. The pieces may share the batch's memory.
    pub(crate) fn route(
        &mut self,
        batch: RecordBatch,
        mut f: impl FnMut(usize, RecordBatch) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::One => f(0, batch),
            Self::RoundRobin { next, partitions } => {
                let partition = *next;
                *next = (partition + 1) % *partitions;
                f(partition, batch)
            }
            Self::Hash(partitioner) => partitioner.partition(batch, f),
        }
    }
}

/// `batch` under `schema`: operators and the wire may disagree with it in metadata and in the names of nested fields.
///
/// # Errors
/// The columns have other types, or nulls where the schema has none.
pub(crate) fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if Arc::ptr_eq(batch.schema_ref(), schema) {
        return Ok(batch);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let (_, columns, _) = batch.into_parts();
    if columns.len() != schema.fields().len() {
        let (found, expected) = (columns.len(), schema.fields().len());
        return Err(ArrowError::SchemaError(format!(
            "a batch of {found} columns, where {expected} are expected"
        )));
    }
    let renamed =
        columns.into_iter().zip(schema.fields()).map(|(column, field)| -> Result<ArrayRef, ArrowError> {
            let same = column.data_type() == field.data_type();
            if !same && column.data_type().equals_datatype(field.data_type()) {
                return cast(&column, field.data_type());
            }
            Ok(column)
        });
    RecordBatch::try_new_with_options(Arc::clone(schema), renamed.collect::<Result<_, _>>()?, &options)
}
