//! [`WriteExec`] on the wire.

use std::sync::Arc;

use datafusion::{
    common::{internal_datafusion_err, not_impl_datafusion_err},
    error::Result,
    physical_plan::ExecutionPlan,
};
use polybolos_model::WriteTarget;

use super::{exec::WriteExec, sink::Sink};
use crate::wire::{self, WriteFormat};

pub(crate) fn encode_write(write: &WriteExec) -> Result<wire::Write> {
    let WriteTarget { url, extension, single_file } = write.target().clone();
    let format = match write.sink() {
        Sink::Parquet(sink) => WriteFormat::Parquet(sink.as_ref().try_into()?),
        Sink::Csv(sink) => WriteFormat::Csv(sink.as_ref().try_into()?),
        Sink::Json(sink) => WriteFormat::Json(sink.as_ref().try_into()?),
    };
    Ok(wire::Write { url, extension, single_file, format: Some(format) })
}

pub(crate) fn decode_write(
    write: wire::Write,
    input: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let wire::Write { url, extension, single_file, format } = write;
    let format =
        format.ok_or_else(|| not_impl_datafusion_err!("a file format of a newer version of this engine"))?;
    let sink = match &format {
        WriteFormat::Parquet(sink) => Sink::Parquet(Arc::new(sink.try_into()?)),
        WriteFormat::Csv(sink) => Sink::Csv(Arc::new(sink.try_into()?)),
        WriteFormat::Json(sink) => Sink::Json(Arc::new(sink.try_into()?)),
    };
    let columns = (sink.config().output_schema().fields().len(), input.schema().fields().len());
    if columns.0 != columns.1 {
        return Err(internal_datafusion_err!(
            "{} columns are to be written, and there are {}",
            columns.0,
            columns.1
        ));
    }
    Ok(Arc::new(WriteExec::new(input, sink, WriteTarget { url, extension, single_file })))
}
