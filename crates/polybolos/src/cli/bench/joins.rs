//! `bench joins`: what an exchange costs a join, and what a key that half of the rows have.
//!
//! ```text
//!   star join:   sales with items, a hundredth of them ─▶ as planned: items to each task │ without broadcast: both by hash
//!   skewed join: sales with parts, a quarter of them   ─▶ both by hash: even keys │ half of the sales on one key
//!     each on a cluster of processes, in turns with DataFusion in this process, on as many threads ─▶ answers compared
//!   EXPLAIN ─▶ the exchanges of each are those that it is to measure
//! ```

mod report;
mod sides;
mod tables;

use self::{
    report::{Line, Report},
    sides::Sides,
};
use super::{
    super::{
        args::{JoinsArgs, ListFormat},
        error::CliError,
        local, output,
        processes::unless_interrupted,
        text,
        tpch::Baseline,
    },
    cluster::{Cluster, Options},
    data,
    report::Cell,
};

/// They have the cluster join by hash exchange whatever the sizes.
const NO_BROADCAST: [&str; 2] = [
    "datafusion.optimizer.hash_join_single_partition_threshold",
    "datafusion.optimizer.hash_join_single_partition_threshold_rows",
];

/// Which tables are joined by which column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    Star,
    EvenKeys,
    SkewedKeys,
}

/// Who joins, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    AsPlanned,
    WithoutBroadcast,
    DataFusion,
}

/// What takes turns.
const LINES: [(Join, Way); 7] = [
    (Join::Star, Way::AsPlanned),
    (Join::Star, Way::WithoutBroadcast),
    (Join::Star, Way::DataFusion),
    (Join::EvenKeys, Way::WithoutBroadcast),
    (Join::EvenKeys, Way::DataFusion),
    (Join::SkewedKeys, Way::WithoutBroadcast),
    (Join::SkewedKeys, Way::DataFusion),
];

impl Join {
    const ALL: [Self; 3] = [Self::Star, Self::EvenKeys, Self::SkewedKeys];

    fn name(self) -> &'static str {
        match self {
            Self::Star => "star",
            Self::EvenKeys => "even keys",
            Self::SkewedKeys => "half on one key",
        }
    }

    /// All numbers are integers, so that sums are the same in any order.
    fn sql(self) -> String {
        let (group, other, condition) = match self {
            Self::Star => ("category", "items", "sales.item = items.item"),
            Self::EvenKeys => ("grade", "parts", "sales.part = parts.part"),
            Self::SkewedKeys => ("grade", "parts", "sales.skewed_part = parts.part"),
        };
        format!(
            "SELECT {group}, count(*) AS sales, sum(quantity * cents) AS turnover, max(customer) AS customer \
             FROM sales JOIN {other} ON {condition} GROUP BY {group} ORDER BY {group}"
        )
    }
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::AsPlanned => "cluster, as planned",
            Self::WithoutBroadcast => "cluster, by hash",
            Self::DataFusion => "DataFusion in one process",
        }
    }

    fn options(self) -> Options {
        match self {
            Self::WithoutBroadcast => {
                NO_BROADCAST.iter().map(|name| ((*name).to_owned(), "0".to_owned())).collect()
            }
            Self::AsPlanned | Self::DataFusion => Options::new(),
        }
    }
}

pub(crate) async fn joins(args: JoinsArgs) -> Result<(), CliError> {
    unless_interrupted(measure(args)).await
}

async fn measure(args: JoinsArgs) -> Result<(), CliError> {
    if args.fleet.executors < 2 {
        let reason = "one slot joins without an exchange; give it two".to_owned();
        return Err(CliError::Flag { flag: "--executors", reason });
    }
    let env = local::client_env()?;
    let folder = data::folder(args.fleet.dir.as_deref())?;
    eprintln!("making tables of {} rows", text::count(args.rows));
    let (tables, bytes) = data::write(&folder.path().join("data"), tables::tables(args.rows)).await?;
    let statements = data::create_statements(&tables)?;
    let cluster = Cluster::start(&env, folder.path(), &args.fleet, &statements).await?;
    let baseline = Baseline::open(args.fleet.executors as usize, &statements).await?;
    let sides = Sides::new(cluster, baseline).await?;
    let mut lines = Vec::with_capacity(LINES.len());
    for (join, way) in LINES {
        lines.push(Line { join, way, exchanges: sides.exchanges(join, way).await?, cell: Cell::default() });
    }
    for round in 0..=args.repeat {
        for turn in 0..lines.len() {
            // Who goes first finds colder caches.
            let at = (turn + round as usize) % lines.len();
            let Some(line) = lines.get_mut(at) else { continue };
            let elapsed = sides.run(line.join, line.way).await?;
            if round > 0 {
                line.cell.runs_ms.push(elapsed.as_secs_f64() * 1_000.0);
            }
        }
    }
    let peaks = sides.cluster.end().await?;
    let report = Report { rows: args.rows, table_bytes: bytes, lines, peaks };
    output::print(&match args.format {
        ListFormat::Table => report.text(),
        ListFormat::Json => format!("{:#}\n", report.json()),
    })
}
