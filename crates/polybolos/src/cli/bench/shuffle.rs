//! `bench shuffle`: how fast rows move between tasks, beside DataFusion's exchange inside one process.
//!
//! ```text
//!   rows in memory ─▶ a task for each core ─▶ ShuffleStore: memory │ files │ files, LZ4 ─▶ a reader for each partition,
//!                                                  in this process │ over Flight │ by an executor of the same host
//!   rows in memory ─▶ RepartitionExec ─▶ a reader for each partition                                      (the peer)
//! ```
//!
//! Each way divides the same rows by the hash of a column into as many partitions; ways take turns.

mod data;
mod peer;
mod way;

use std::time::Duration;

use polybolos_env::Env;
use serde_json::{Value, json};

use super::{
    super::{
        args::{ListFormat, ShuffleBenchArgs},
        error::CliError,
        output,
        processes::unless_interrupted,
        text,
        tpch::Times,
    },
    data::Keys,
};
use data::Rows;
use way::{Bench, Way};

pub(crate) async fn shuffle(args: ShuffleBenchArgs) -> Result<(), CliError> {
    unless_interrupted(measure(args)).await
}

async fn measure(args: ShuffleBenchArgs) -> Result<(), CliError> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let env = Env::production(threads).map_err(CliError::Threads)?;
    let mut lines = Vec::new();
    for keys in [Keys::Even, Keys::Skewed] {
        let rows = Rows::make(keys, args.size.bytes, threads, args.partitions)?;
        lines.extend(of_rows(&args, &env, &rows).await?);
    }
    output::print(&match args.format {
        ListFormat::Table => table(&args, &lines),
        ListFormat::Json => {
            let lines: Vec<Value> = lines.iter().map(Line::json).collect();
            format!("{:#}\n", json!({"partitions": args.partitions, "threads": threads, "lines": lines}))
        }
    })
}

struct Line {
    keys: Keys,
    way: Way,
    bytes: u64,
    median: Duration,
    /// Of DataFusion's exchange of the same rows.
    peer: Duration,
}

impl Line {
    fn gigabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e9 / self.median.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn ratio(&self) -> f64 {
        self.median.as_secs_f64() / self.peer.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn json(&self) -> Value {
        json!({"keys": self.keys.name(), "way": self.way.name(), "bytes": self.bytes,
               "seconds": self.median.as_secs_f64(), "gb_per_second": self.gigabytes_per_second(),
               "over_datafusion": self.ratio()})
    }
}

/// One round is not timed.
async fn of_rows(args: &ShuffleBenchArgs, env: &Env, rows: &Rows) -> Result<Vec<Line>, CliError> {
    let mut times = Way::ALL.map(|way| (way, Times::default()));
    for round in 0..=args.repeat {
        for (way, times) in &mut times {
            let folder = tempfile::tempdir().map_err(|source| CliError::File {
                action: "making a folder in",
                path: std::env::temp_dir(),
                source,
            })?;
            let bench = Bench { env, rows, folder: folder.path() };
            let (elapsed, count) = bench.run(*way).await?;
            rows.check(way.name(), count)?;
            if round > 0 {
                times.add(elapsed);
            }
        }
    }
    let median = |times: &Times| Duration::from_secs_f64(times.median_ms() / 1_000.0);
    let peer = times.iter().find(|(way, _)| *way == Way::Peer).map_or(Duration::ZERO, |(_, it)| median(it));
    let line = |(way, times): (Way, Times)| Line {
        keys: rows.keys,
        way,
        bytes: rows.bytes,
        median: median(&times),
        peer,
    };
    Ok(times.into_iter().map(line).collect())
}

fn table(args: &ShuffleBenchArgs, lines: &[Line]) -> String {
    let row = |line: &Line| {
        vec![
            line.keys.name().to_owned(),
            line.way.name().to_owned(),
            text::bytes(line.bytes),
            text::milliseconds(line.median.as_secs_f64() * 1_000.0),
            format!("{:.2}", line.gigabytes_per_second()),
            format!("{:.2}", line.ratio()),
        ]
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    let headers = ["keys", "way", "rows", "median", "GB/s", "over DataFusion"];
    format!("{} partitions, written and read\n{}", args.partitions, text::columns(&headers, &rows))
}
