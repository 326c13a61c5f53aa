//! DataFusion's writers of files, one of the three that can be sent to an executor.

use std::sync::Arc;

use datafusion::{
    common::{GetExt, parsers::CompressionTypeVariant},
    datasource::{
        file_format::{
            csv::CsvSink, file_compression_type::FileCompressionType, json::JsonSink, parquet::ParquetSink,
        },
        physical_plan::{FileGroup, FileSink, FileSinkConfig},
        sink::DataSink,
    },
};

/// A format with its options, and the columns of the rows.
#[derive(Debug, Clone)]
pub(crate) enum Sink {
    Parquet(Arc<ParquetSink>),
    Csv(Arc<CsvSink>),
    Json(Arc<JsonSink>),
}

impl Sink {
    /// The writer without its places, and what it was planned with; `None` for a sink that writes something else.
    pub(crate) fn of(sink: &dyn DataSink) -> Option<(Self, &FileSinkConfig)> {
        if let Some(sink) = sink.downcast_ref::<ParquetSink>() {
            let (config, options) = (sink.config(), sink.parquet_options().clone());
            return Some((Self::Parquet(Arc::new(ParquetSink::new(for_tasks(config), options))), config));
        }
        if let Some(sink) = sink.downcast_ref::<CsvSink>() {
            let (config, options) = (sink.config(), sink.writer_options().clone());
            return Some((Self::Csv(Arc::new(CsvSink::new(for_tasks(config), options))), config));
        }
        let sink = sink.downcast_ref::<JsonSink>()?;
        let (config, options) = (sink.config(), sink.writer_options().clone());
        Some((Self::Json(Arc::new(JsonSink::new(for_tasks(config), options))), config))
    }

    pub(crate) fn files(&self) -> &dyn FileSink {
        match self {
            Self::Parquet(sink) => sink.as_ref(),
            Self::Csv(sink) => sink.as_ref(),
            Self::Json(sink) => sink.as_ref(),
        }
    }

    pub(crate) fn config(&self) -> &FileSinkConfig {
        self.files().config()
    }

    pub(crate) fn format(&self) -> &'static str {
        match self {
            Self::Parquet(_) => "parquet",
            Self::Csv(_) => "csv",
            Self::Json(_) => "json",
        }
    }

    /// Of its files, with the dot. For an `INSERT` DataFusion leaves the compression out, and would not find the file.
    pub(crate) fn extension(&self) -> String {
        let compression = match self {
            Self::Parquet(_) => CompressionTypeVariant::UNCOMPRESSED,
            Self::Csv(sink) => sink.writer_options().compression,
            Self::Json(sink) => sink.writer_options().compression,
        };
        let compressed = FileCompressionType::from(compression).get_ext();
        let base = self.config().file_extension.trim_start_matches('.');
        format!(".{}{compressed}", base.strip_suffix(&compressed).unwrap_or(base))
    }
}

/// Without the files that are there already, which can be many, and without places: a task gets its own.
fn for_tasks(config: &FileSinkConfig) -> FileSinkConfig {
    FileSinkConfig { file_group: FileGroup::default(), table_paths: vec![], ..config.clone() }
}
