//! [`WriteExec`] on the wire.

use std::sync::Arc;

use datafusion::{
    arrow::csv::WriterBuilder,
    common::{internal_datafusion_err, not_impl_datafusion_err},
    datasource::{
        file_format::{csv::CsvSink, json::JsonSink},
        physical_plan::FileSink,
    },
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
    let compression_level = match write.sink() {
        Sink::Parquet(_) => None,
        Sink::Csv(sink) => sink.writer_options().compression_level,
        Sink::Json(sink) => sink.writer_options().compression_level,
    };
    Ok(wire::Write { url, extension, single_file, format: Some(format), compression_level })
}

pub(crate) fn decode_write(
    write: wire::Write,
    input: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let wire::Write { url, extension, single_file, format, compression_level } = write;
    let format =
        format.ok_or_else(|| not_impl_datafusion_err!("a file format of a newer version of this engine"))?;
    let sink = match &format {
        WriteFormat::Parquet(sink) => Sink::Parquet(Arc::new(sink.try_into()?)),
        WriteFormat::Csv(sink) => Sink::Csv(Arc::new(csv_sink(&CsvSink::try_from(sink)?, compression_level))),
        WriteFormat::Json(sink) => {
            let sink = JsonSink::try_from(sink)?;
            let mut options = sink.writer_options().clone();
            options.compression_level = compression_level;
            Sink::Json(Arc::new(JsonSink::new(sink.config().clone(), options)))
        }
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

/// DataFusion's encoding (55.2) makes an empty format of one that is not given, and with that dates would be written as
/// nothing; and it leaves the level of the compression out.
fn csv_sink(decoded: &CsvSink, compression_level: Option<u32>) -> CsvSink {
    let mut options = decoded.writer_options().clone();
    let given = options.writer_options;
    let mut builder = WriterBuilder::new()
        .with_delimiter(given.delimiter())
        .with_quote(given.quote())
        .with_escape(given.escape())
        .with_double_quote(given.double_quote())
        .with_quote_style(given.quote_style())
        .with_header(given.header())
        .with_null(given.null().to_owned())
        .with_ignore_leading_whitespace(given.ignore_leading_whitespace())
        .with_ignore_trailing_whitespace(given.ignore_trailing_whitespace());
    if let Some(format) = given.date_format().filter(|format| !format.is_empty()) {
        builder = builder.with_date_format(format.to_owned());
    }
    if let Some(format) = given.datetime_format().filter(|format| !format.is_empty()) {
        builder = builder.with_datetime_format(format.to_owned());
    }
    if let Some(format) = given.timestamp_format().filter(|format| !format.is_empty()) {
        builder = builder.with_timestamp_format(format.to_owned());
    }
    if let Some(format) = given.time_format().filter(|format| !format.is_empty()) {
        builder = builder.with_time_format(format.to_owned());
    }
    options.writer_options = builder;
    options.compression_level = compression_level;
    CsvSink::new(decoded.config().clone(), options)
}
