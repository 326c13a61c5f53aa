//! Makes TPC-H data as Parquet files: `DIR/TABLE/part-NNNNN.parquet`.
//!
//! All of it is written to a folder aside and renamed at the end, so that `DIR` is never half full.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parquet::basic::{Compression, ZstdLevel};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RecordBatchIterator,
    RegionArrow, SupplierArrow,
};

use super::{
    super::{
        args::{GenerateArgs, ParquetCompression},
        error::CliError,
        files::{self, Found},
        parquet_files, text,
    },
    TABLES,
};

/// Tables with several files; the others are small.
const LARGE_TABLES: usize = 5;
/// Files of a large table for each unit of scale: a file of `lineitem` has 1.5 million rows.
const FILES_PER_SCALE: f64 = 4.0;
const MIN_FILES: u16 = 2;
const MAX_FILES: u16 = 256;

/// What to write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writing {
    pub(crate) scale: f64,
    /// Files of each large table; by scale if `None`.
    pub(crate) files: Option<u16>,
    pub(crate) compression: ParquetCompression,
}

pub(crate) async fn generate(args: GenerateArgs) -> Result<(), CliError> {
    let fail = |action| move |path: &Path, source| CliError::File { action, path: path.to_owned(), source };
    let out = std::path::absolute(&args.out).map_err(|e| fail("using")(&args.out, e))?;
    match files::look(&out).map_err(|e| fail("looking at")(&out, e))? {
        Found::Nothing | Found::EmptyFolder => {}
        Found::File | Found::Folder => {
            let reason = format!("{} holds something; name a new or empty folder", out.display());
            return Err(CliError::Flag { flag: "--out", reason });
        }
    }
    let parent = out.parent().unwrap_or(&out);
    files::create_dir_all(parent).map_err(|e| fail("making")(parent, e))?;
    let aside = tempfile::Builder::new().prefix(".tpch-").tempdir_in(parent);
    let aside = aside.map_err(|e| fail("making a folder in")(parent, e))?;
    // Within it, because the folder for temporary files is closed to other users.
    let data = aside.path().join("data");
    let writing = Writing { scale: args.scale, files: args.files, compression: args.parquet_compression };
    tokio::select! {
        biased;
        signal = tokio::signal::ctrl_c() => {
            signal.map_err(CliError::Signals)?;
            return Err(CliError::InterruptedEarly);
        }
        done = write_tables(&data, writing, |line| eprintln!("{line}")) => done?,
    };
    files::rename(&data, &out).map_err(|e| fail("renaming to")(&out, e))?;
    eprintln!("TPC-H at scale {} is in {}", args.scale, out.display());
    Ok(())
}

/// Writes the eight tables below `folder`, on all cores. `tell` gets a line for each finished table.
pub(crate) async fn write_tables(
    folder: &Path,
    writing: Writing,
    tell: impl Fn(&str),
) -> Result<(), CliError> {
    let parts = parts(folder, writing);
    let mut left = [0_usize; TABLES.len()];
    let mut totals = [(0_usize, 0_u64); TABLES.len()];
    for part in &parts {
        let table = part.path.parent().unwrap_or(folder);
        let made = files::create_dir_all(table);
        made.map_err(|source| CliError::File { action: "making", path: table.to_owned(), source })?;
        left[part.table] += 1;
    }
    let write = |part: Part| async move { Ok((part.table, write_part(&part).await?)) };
    let works = parts.into_iter().map(write).collect();
    parquet_files::side_by_side(works, |(table, written): (usize, parquet_files::Size)| {
        let (rows, bytes) = &mut totals[table];
        (*rows, *bytes) = (*rows + written.rows, *bytes + written.bytes);
        left[table] -= 1;
        if left[table] == 0 {
            tell(&format!("{}: {rows} rows, {}", TABLES[table], text::bytes(*bytes)));
        }
    })
    .await
}

/// One file to write.
struct Part {
    /// Position in [`TABLES`].
    table: usize,
    /// From 1, of `count`.
    number: i32,
    count: i32,
    scale: f64,
    compression: ParquetCompression,
    path: PathBuf,
}

fn parts(folder: &Path, writing: Writing) -> Vec<Part> {
    let by_scale = (writing.scale * FILES_PER_SCALE).ceil().clamp(f64::from(MIN_FILES), f64::from(MAX_FILES));
    let many = writing.files.unwrap_or(by_scale as u16);
    let mut parts = Vec::new();
    for (table, name) in TABLES.iter().enumerate() {
        let count = if table < LARGE_TABLES { i32::from(many) } else { 1 };
        parts.extend((1..=count).map(|number| Part {
            table,
            number,
            count,
            scale: writing.scale,
            compression: writing.compression,
            path: folder.join(name).join(format!("part-{number:05}.parquet")),
        }));
    }
    parts
}

fn batches(part: &Part) -> Box<dyn RecordBatchIterator> {
    let (scale, number, count) = (part.scale, part.number, part.count);
    match TABLES[part.table] {
        "lineitem" => Box::new(LineItemArrow::new(LineItemGenerator::new(scale, number, count))),
        "orders" => Box::new(OrderArrow::new(OrderGenerator::new(scale, number, count))),
        "partsupp" => Box::new(PartSuppArrow::new(PartSuppGenerator::new(scale, number, count))),
        "part" => Box::new(PartArrow::new(PartGenerator::new(scale, number, count))),
        "customer" => Box::new(CustomerArrow::new(CustomerGenerator::new(scale, number, count))),
        "supplier" => Box::new(SupplierArrow::new(SupplierGenerator::new(scale, number, count))),
        "nation" => Box::new(NationArrow::new(NationGenerator::new(scale, number, count))),
        _ => Box::new(RegionArrow::new(RegionGenerator::new(scale, number, count))),
    }
}

async fn write_part(part: &Part) -> Result<parquet_files::Size, CliError> {
    let compression = match part.compression {
        ParquetCompression::Snappy => Compression::SNAPPY,
        ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
    };
    let source = batches(part);
    let schema = Arc::clone(source.schema());
    parquet_files::write(&part.path, schema, compression, source.map(Ok)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writing(scale: f64, files: Option<u16>) -> Writing {
        Writing { scale, files, compression: ParquetCompression::Snappy }
    }

    fn files_of(scale: f64, files: Option<u16>, table: &str) -> usize {
        let at = TABLES.iter().position(|name| *name == table).unwrap();
        parts(Path::new("d"), writing(scale, files)).iter().filter(|part| part.table == at).count()
    }

    #[test]
    fn large_tables_have_several_files() {
        assert_eq!(files_of(0.01, None, "lineitem"), 2);
        assert_eq!(files_of(1.0, None, "customer"), 4);
        assert_eq!(files_of(1_000.0, None, "orders"), 256);
        assert_eq!(files_of(1.0, Some(7), "part"), 7);
        assert_eq!(files_of(1_000.0, None, "region"), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_files_hold_what_the_generator_makes() {
        use parquet::file::reader::{FileReader, SerializedFileReader};
        let folder = tempfile::tempdir().unwrap();
        write_tables(folder.path(), writing(0.001, Some(3)), |_| {}).await.unwrap();
        let mut rows = std::collections::BTreeMap::new();
        for path in files::list_files(folder.path()).unwrap() {
            let table = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
            #[allow(clippy::disallowed_methods, reason = "a test reads what it made")]
            let file = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
            *rows.entry(table).or_insert(0) += file.metadata().file_metadata().num_rows();
        }
        let expected = [
            ("customer", 150),
            ("lineitem", 6_005),
            ("nation", 25),
            ("orders", 1_500),
            ("part", 200),
            ("partsupp", 800),
            ("region", 5),
            ("supplier", 10),
        ];
        assert_eq!(rows, expected.map(|(name, count)| (name.to_owned(), count)).into());
    }
}
