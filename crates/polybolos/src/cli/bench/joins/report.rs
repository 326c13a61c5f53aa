//! Times of the joins and their ratios, as tables or as JSON.

use serde_json::{Value, json};

use super::{
    super::{
        super::text,
        cluster::Peak,
        report::{Cell, Ratio},
    },
    Join, Way,
};

/// The most that a join with half of its rows on one key may take, in times of one with even keys.
const WANTED: f64 = 1.5;

/// Who joined what.
pub(super) struct Line {
    pub(super) join: Join,
    pub(super) way: Way,
    /// Between the stages, by `EXPLAIN`.
    pub(super) exchanges: Vec<String>,
    pub(super) cell: Cell,
}

pub(super) struct Report {
    pub(super) rows: u64,
    pub(super) table_bytes: u64,
    pub(super) lines: Vec<Line>,
    pub(super) peaks: Vec<Peak>,
}

/// Times of the first for one of the second.
struct Comparison {
    name: &'static str,
    of: [(Join, Way); 2],
    wanted: Option<f64>,
}

const COMPARISONS: [Comparison; 7] = {
    use Join::{EvenKeys, SkewedKeys, Star};
    use Way::{AsPlanned, DataFusion, WithoutBroadcast};
    const fn plain(name: &'static str, of: [(Join, Way); 2]) -> Comparison {
        Comparison { name, of, wanted: None }
    }
    [
        plain("star join, hash exchange / broadcast", [(Star, WithoutBroadcast), (Star, AsPlanned)]),
        plain("star join, broadcast / DataFusion", [(Star, AsPlanned), (Star, DataFusion)]),
        plain("star join, hash exchange / DataFusion", [(Star, WithoutBroadcast), (Star, DataFusion)]),
        Comparison {
            name: "half on one key / even keys, cluster",
            of: [(SkewedKeys, WithoutBroadcast), (EvenKeys, WithoutBroadcast)],
            wanted: Some(WANTED),
        },
        plain("half on one key / even keys, DataFusion", [(SkewedKeys, DataFusion), (EvenKeys, DataFusion)]),
        plain("even keys, cluster / DataFusion", [(EvenKeys, WithoutBroadcast), (EvenKeys, DataFusion)]),
        plain(
            "half on one key, cluster / DataFusion",
            [(SkewedKeys, WithoutBroadcast), (SkewedKeys, DataFusion)],
        ),
    ]
};

impl Report {
    fn ratio(&self, comparison: &Comparison) -> Option<Ratio> {
        let cell = |(join, way)| self.lines.iter().find(|line| (line.join, line.way) == (join, way));
        let [first, other] = comparison.of.map(cell);
        Ratio::of(&first?.cell, &other?.cell)
    }

    pub(super) fn text(&self) -> String {
        let time = |line: &Line| {
            vec![
                line.join.name().to_owned(),
                line.way.name().to_owned(),
                line.exchanges.join(", "),
                line.cell.median_ms().map_or_else(|| "-".to_owned(), text::milliseconds),
            ]
        };
        let times: Vec<Vec<String>> = self.lines.iter().map(time).collect();
        let ratio = |comparison: &Comparison| {
            let ratio = self.ratio(comparison).map_or_else(|| "-".to_owned(), |ratio| ratio.to_string());
            let wanted = comparison.wanted.map(|most| format!("at most {most:.2}")).unwrap_or_default();
            vec![comparison.name.to_owned(), ratio, wanted]
        };
        let ratios: Vec<Vec<String>> = COMPARISONS.iter().map(ratio).collect();
        let peak = |peak: &Peak| format!("{} {}", peak.process, text::bytes(peak.bytes));
        let peaks: Vec<String> = self.peaks.iter().map(peak).collect();
        format!(
            "{} rows in the largest table, {} of Parquet files; every answer is DataFusion's\n{}\n{}\npeak memory: {}\n",
            text::count(self.rows),
            text::bytes(self.table_bytes),
            text::columns(&["join", "side", "exchanges by EXPLAIN", "median"], &times),
            text::columns(&["ratio of", "medians (spread)", "wanted"], &ratios),
            peaks.join(", ")
        )
    }

    pub(super) fn json(&self) -> Value {
        let line = |line: &Line| {
            json!({"join": line.join.name(), "side": line.way.name(), "exchanges": line.exchanges,
                   "runs_ms": line.cell.runs_ms, "median_ms": line.cell.median_ms()})
        };
        let ratio = |comparison: &Comparison| {
            let ratio = self.ratio(comparison).map(Ratio::json);
            json!({"of": comparison.name, "ratio": ratio, "wanted_at_most": comparison.wanted})
        };
        let peak = |peak: &Peak| json!({"process": peak.process, "peak_bytes": peak.bytes});
        json!({"rows": self.rows, "table_bytes": self.table_bytes,
               "lines": self.lines.iter().map(line).collect::<Value>(),
               "ratios": COMPARISONS.iter().map(ratio).collect::<Value>(),
               "processes": self.peaks.iter().map(peak).collect::<Value>()})
    }
}

#[cfg(test)]
mod tests {
    use super::{super::LINES, *};

    #[test]
    fn each_side_is_compared_with_its_own_kind() {
        let line = |(at, (join, way)): (usize, (Join, Way))| {
            let runs_ms = vec![10.0 * (at + 1) as f64];
            let cell = Cell { runs_ms, ..Cell::default() };
            Line { join, way, exchanges: vec!["broadcast".to_owned(), "hash".to_owned()], cell }
        };
        let lines = LINES.into_iter().enumerate().map(line).collect();
        let peaks = vec![Peak { process: "executor-1".to_owned(), bytes: 5_000, budget_bytes: None }];
        let report = Report { rows: 20_000_000, table_bytes: 5, lines, peaks };
        let middles: Vec<f64> =
            COMPARISONS.iter().map(|comparison| report.ratio(comparison).unwrap().middle).collect();
        let expected =
            [20.0 / 10.0, 10.0 / 30.0, 20.0 / 30.0, 60.0 / 40.0, 70.0 / 50.0, 40.0 / 50.0, 60.0 / 70.0];
        assert_eq!(middles, expected);
        let text = report.text();
        for part in ["20M rows", "broadcast, hash", "1.50 (1.50..1.50)", "at most 1.50", "executor-1 5.0 kB"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(report.json()["ratios"][0]["ratio"]["median"], 2.0);
    }
}
