//! Parquet files that this program makes, several side by side.

use std::{io::BufWriter, path::Path, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError};
use parquet::{
    arrow::ArrowWriter, basic::Compression, errors::ParquetError, file::properties::WriterProperties,
};
use polybolos_env::Env;
use tokio::sync::{Semaphore, mpsc};

use super::{error::CliError, files, serve};

/// Rows of a row group. Its encoded pages are what a writer holds in memory.
const ROW_GROUP_ROWS: usize = 1 << 20;
const WRITE_BUFFER_BYTES: usize = 1 << 20;

/// What a file has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    pub(crate) bytes: u64,
}

/// Writes a new file.
pub(crate) async fn write(
    path: &Path,
    schema: SchemaRef,
    compression: Compression,
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
) -> Result<Size, CliError> {
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let fail = |source: ParquetError| CliError::Parquet { path: path.to_owned(), source };
    let file = files::create_new(path);
    let file = file.map_err(|source| CliError::File { action: "making", path: path.to_owned(), source })?;
    let file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, file);
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(fail)?;
    let mut rows = 0;
    for batch in batches {
        let batch = batch?;
        writer.write(&batch).map_err(fail)?;
        rows += batch.num_rows();
        // Where an interrupted command stops.
        tokio::task::yield_now().await;
    }
    writer.finish().map_err(fail)?;
    Ok(Size { rows, bytes: writer.bytes_written() as u64 })
}

/// Does `works` on all cores, as many at once as cores, because an open file holds a row group in memory. `done` is told
/// what each gave.
///
/// # Errors
/// That of the first one that fails; the others are stopped.
pub(crate) async fn side_by_side<T, F>(works: Vec<F>, mut done: impl FnMut(T)) -> Result<(), CliError>
where
    F: Future<Output = Result<T, CliError>> + Send + 'static,
    T: Send + 'static,
{
    let cores = serve::cores() as usize;
    let env = Env::production(cores).map_err(CliError::Threads)?;
    let turns = Arc::new(Semaphore::new(cores));
    let mut left = works.len();
    let (sender, mut finished) = mpsc::channel(left.max(1));
    let mut tasks = Vec::with_capacity(left);
    for work in works {
        let (turns, sender) = (Arc::clone(&turns), sender.clone());
        tasks.push(env.cpu.spawn(Box::pin(async move {
            let Ok(_turn) = turns.acquire().await else { return };
            // Nobody listens any more once another one has failed.
            let _heard = sender.send(work.await).await;
        })));
    }
    drop(sender);
    while let Some(given) = finished.recv().await {
        done(given?);
        left -= 1;
    }
    if left > 0 { Err(CliError::Stopped) } else { Ok(()) }
}
