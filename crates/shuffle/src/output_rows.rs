//! The rows of an output partition, wherever they come from.

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use crate::{OutputKey, OutputReader, ShuffleError, durable::DurableReader, growing::Follower};

/// All give the same batches in the same order.
#[derive(Debug)]
pub(crate) enum OutputRows {
    Held(OutputReader),
    Durable(DurableReader),
    /// Not whole yet.
    Followed(Follower),
}

impl OutputRows {
    pub(crate) fn key(&self) -> OutputKey {
        match self {
            Self::Held(reader) => reader.key(),
            Self::Durable(reader) => reader.key(),
            Self::Followed(reader) => reader.key(),
        }
    }

    /// `None` when it is not known, because there are no rows.
    pub(crate) fn schema(&self) -> Option<SchemaRef> {
        match self {
            Self::Held(reader) => Some(SchemaRef::clone(reader.schema())),
            Self::Durable(reader) => reader.schema(),
            Self::Followed(reader) => Some(SchemaRef::clone(reader.schema())),
        }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, ShuffleError> {
        match self {
            Self::Held(reader) => reader.next().await,
            Self::Durable(reader) => reader.next().await,
            Self::Followed(reader) => reader.next().await,
        }
    }
}
