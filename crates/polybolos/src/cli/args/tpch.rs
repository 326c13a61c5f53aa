//! `tpch`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{
    super::values::{address, scale},
    ListFormat,
};

/// Make TPC-H data, and run and check its queries
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos tpch generate --scale 1 --out tpch-1")]
pub(crate) struct TpchArgs {
    #[command(subcommand)]
    pub(crate) command: TpchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TpchCommand {
    Generate(GenerateArgs),
    Run(RunArgs),
    Answers(AnswersArgs),
}

/// Print what DataFusion answers in this process, one line of JSON a query: its number, text and rows
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos tpch answers --data tpch-1 --query 1")]
pub(crate) struct AnswersArgs {
    /// Folder that `tpch generate` made
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DATA")]
    pub(crate) data: PathBuf,
    /// A query to answer, 1 to 22; may be repeated [default: all]
    #[arg(long = "query", value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=22))]
    pub(crate) queries: Vec<u32>,
}

/// Compression of Parquet files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ParquetCompression {
    Snappy,
    Zstd,
}

/// Write the eight tables as Parquet files
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos tpch generate --scale 0.1 --out tpch-0.1")]
pub(crate) struct GenerateArgs {
    /// Scale factor; 1 is about 1 GB of raw text
    #[arg(long, value_name = "S", env = "POLYBOLOS_SCALE", value_parser = scale)]
    pub(crate) scale: f64,
    /// Folder to make; it must not hold anything yet
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_OUT")]
    pub(crate) out: PathBuf,
    /// Files for each large table [default: by scale, at least 2]
    #[arg(long, value_name = "N", env = "POLYBOLOS_FILES", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) files: Option<u16>,
    /// Compression of the files
    #[arg(long, value_enum, default_value = "snappy", env = "POLYBOLOS_PARQUET_COMPRESSION")]
    pub(crate) parquet_compression: ParquetCompression,
}

/// Run TPC-H queries and time them
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  polybolos tpch run --data tpch-1 --schedulers 127.0.0.1:7600 \
    --query 1 --query 5 --repeat 3 --verify")]
pub(crate) struct RunArgs {
    /// Folder that `tpch generate` made; executors must see it at the same path
    #[arg(long, value_name = "DIR", env = "POLYBOLOS_DATA")]
    pub(crate) data: PathBuf,
    /// The cluster to use [default: one in this process, 2 executors of 1 slot]
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', value_parser = address)]
    #[arg(env = "POLYBOLOS_SCHEDULERS")]
    pub(crate) schedulers: Vec<String>,
    /// A query to run, 1 to 22; may be repeated [default: all]
    #[arg(long = "query", value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=22))]
    pub(crate) queries: Vec<u32>,
    /// Timed runs of each query; with more than one, an untimed one goes before
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    #[arg(env = "POLYBOLOS_REPEAT")]
    pub(crate) repeat: u32,
    /// Run each query with DataFusion in this process too, compare every value and the times
    #[arg(long, env = "POLYBOLOS_VERIFY")]
    pub(crate) verify: bool,
    /// How the results are printed
    #[arg(long, value_enum, default_value = "table", env = "POLYBOLOS_FORMAT")]
    pub(crate) format: ListFormat,
}
