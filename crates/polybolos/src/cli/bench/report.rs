//! Times of several engines, as a table that grows or as JSON.

use std::fmt;

use serde_json::{Value, json};

use super::{
    super::{error::CliError, text::bytes},
    cluster::Moved,
};

/// Of a column: that of the longest name.
const WIDTH: usize = 19;

/// One engine and one query.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Cell {
    /// Timed runs, in ms, in the order of the rounds.
    pub(super) runs_ms: Vec<f64>,
    /// What differs, or why there is no answer.
    pub(super) trouble: Option<String>,
    /// If the engine tells.
    pub(super) moved: Option<Moved>,
}

/// Times of the first engine for one unit of another's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio {
    /// Of the medians.
    pub(super) middle: f64,
    /// Of two runs of one round.
    pub(super) least: f64,
    pub(super) most: f64,
}

/// One query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) query: u32,
    /// By engine.
    pub(super) cells: Vec<Cell>,
}

/// A bench. The other engines are compared with the first one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    pub(super) engines: Vec<String>,
    pub(super) rows: Vec<Row>,
    /// By engine.
    pub(super) peak_bytes: Vec<u64>,
}

impl Cell {
    pub(super) fn median_ms(&self) -> Option<f64> {
        let mut sorted = self.runs_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len().checked_sub(1)? / 2;
        let pair = [middle, sorted.len() / 2].map(|at| sorted.get(at).copied());
        self.trouble.is_none().then_some((pair[0]? + pair[1]?) / 2.0)
    }
}

impl Ratio {
    /// Of times of `first` to those of `other`, if both have answered.
    pub(super) fn of(first: &Cell, other: &Cell) -> Option<Self> {
        let middle = first.median_ms()? / other.median_ms()?;
        let rounds = first.runs_ms.iter().zip(&other.runs_ms).map(|(first, other)| first / other);
        let (least, most) =
            rounds.fold((middle, middle), |(least, most), one| (least.min(one), most.max(one)));
        Some(Self { middle, least, most })
    }

    pub(super) fn json(self) -> Value {
        json!({"median": self.middle, "least": self.least, "most": self.most})
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2}..{:.2})", self.middle, self.least, self.most)
    }
}

impl Row {
    pub(super) fn new(query: u32, engines: usize) -> Self {
        Self { query, cells: vec![Cell::default(); engines] }
    }

    /// Of the first engine to the one at `other`, if both have answered.
    pub(super) fn ratio(&self, other: usize) -> Option<Ratio> {
        Ratio::of(self.cells.first()?, self.cells.get(other)?)
    }

    pub(super) fn lines(&self) -> String {
        let mut line = format!("{:>5}", self.query);
        let mut troubles = String::new();
        for (at, cell) in self.cells.iter().enumerate() {
            let median = cell.median_ms().map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
            line.push_str(&format!(" {median:>WIDTH$}"));
            if at > 0 {
                let ratio = self.ratio(at).map_or_else(|| "-".to_owned(), |ratio| ratio.to_string());
                line.push_str(&format!(" {ratio:>WIDTH$}"));
            }
            if let Some(trouble) = &cell.trouble {
                troubles.push_str(&format!("      engine {}: {trouble}\n", at + 1));
            }
        }
        format!("{line}\n{troubles}")
    }
}

impl Report {
    pub(super) fn new(engines: Vec<String>) -> Self {
        Self { engines, rows: Vec::new(), peak_bytes: Vec::new() }
    }

    pub(super) fn header(&self) -> String {
        let mut line = format!("{:>5}", "query");
        for (at, name) in self.engines.iter().enumerate() {
            line.push_str(&format!(" {:>WIDTH$}", format!("{name} ms")));
            if at > 0 {
                line.push_str(&format!(" {:>WIDTH$}", "ratio (spread)"));
            }
        }
        line + "\n"
    }

    /// Of the ratios to the engine at `other`, and of how many.
    pub(super) fn geometric_mean(&self, other: usize) -> Option<(f64, usize)> {
        let logs: Vec<f64> =
            self.rows.iter().filter_map(|row| row.ratio(other)).map(|ratio| ratio.middle.ln()).collect();
        (!logs.is_empty()).then(|| ((logs.iter().sum::<f64>() / logs.len() as f64).exp(), logs.len()))
    }

    /// For all queries.
    fn moved(&self, at: usize) -> Option<Moved> {
        let mut cells = self.rows.iter().filter_map(|row| row.cells.get(at)).map(|cell| cell.moved);
        cells.try_fold(Moved::default(), |sum, one| Some(sum.and(one?)))
    }

    pub(super) fn summary(&self) -> String {
        let mut text = String::new();
        for (at, name) in self.engines.iter().enumerate() {
            let total: f64 = self.rows.iter().filter_map(|row| row.cells.get(at)?.median_ms()).sum();
            text.push_str(&format!("{name}: {total:.0} ms"));
            if let Some((mean, count)) = self.geometric_mean(at).filter(|_| at > 0) {
                let first = &self.engines[0];
                text.push_str(&format!(
                    "; {first} takes {mean:.3} times as long (geometric mean of {count} queries)"
                ));
            }
            if let Some(peak) = self.peak_bytes.get(at) {
                text.push_str(&format!("; peak memory of its processes {}", bytes(*peak)));
            }
            if let Some(moved) = self.moved(at) {
                text.push_str(&format!("; {} between tasks", bytes(moved.shuffled_bytes)));
                if moved.spilled_bytes > 0 {
                    text.push_str(&format!("; {} spilled", bytes(moved.spilled_bytes)));
                }
            }
            text.push('\n');
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let cell = |row: &Row, at: usize, name: &String| {
            let cell = row.cells.get(at).cloned().unwrap_or_default();
            json!({
                "engine": name, "runs_ms": cell.runs_ms, "median_ms": cell.median_ms(), "trouble": cell.trouble,
                "shuffled_bytes": cell.moved.map(|moved| moved.shuffled_bytes),
                "spilled_bytes": cell.moved.map(|moved| moved.spilled_bytes), "ratio": row.ratio(at).map(Ratio::json),
            })
        };
        let cells = |row: &Row| -> Value {
            self.engines.iter().enumerate().map(|(at, name)| cell(row, at, name)).collect()
        };
        let engine = |(at, name): (usize, &String)| {
            json!({
                "engine": name, "peak_bytes": self.peak_bytes.get(at),
                "shuffled_bytes": self.moved(at).map(|moved| moved.shuffled_bytes),
                "spilled_bytes": self.moved(at).map(|moved| moved.spilled_bytes),
                "geometric_mean_ratio": self.geometric_mean(at).map(|mean| mean.0),
            })
        };
        json!({
            "queries": self.rows.iter().map(|row| json!({"query": row.query, "engines": cells(row)})).collect::<Value>(),
            "engines": self.engines.iter().enumerate().map(engine).collect::<Value>(),
        })
    }

    /// # Errors
    /// The first engine has answered wrong, or not at all.
    pub(super) fn verdict(&self) -> Result<(), CliError> {
        let troubled =
            self.rows.iter().filter(|row| row.cells.first().is_some_and(|cell| cell.trouble.is_some()));
        let queries: Vec<String> = troubled.map(|row| row.query.to_string()).collect();
        if queries.is_empty() {
            return Ok(());
        }
        Err(CliError::Mismatch { count: queries.len(), queries: queries.join(", ") })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn report() -> Report {
        let moved = Some(Moved { shuffled_bytes: 10, spilled_bytes: 1 });
        let cell = |runs: &[f64]| Cell { runs_ms: runs.to_vec(), moved, trouble: None };
        let mut report = Report::new(vec!["a".to_owned(), "b".to_owned()]);
        report.rows = vec![
            Row { query: 1, cells: vec![cell(&[20.0, 10.0, 30.0]), cell(&[10.0, 10.0, 20.0])] },
            Row { query: 2, cells: vec![cell(&[5.0]), cell(&[10.0])] },
        ];
        report.peak_bytes = vec![1 << 20, 2 << 20];
        report
    }

    #[test]
    fn ratios_are_of_medians_and_their_spread_of_rounds() {
        let mut report = report();
        assert_eq!(report.rows[0].ratio(1), Some(Ratio { middle: 2.0, least: 1.0, most: 2.0 }));
        assert_eq!(report.geometric_mean(1), Some((1.0, 2)));
        assert!(report.rows[0].lines().contains("2.00 (1.00..2.00)"), "{}", report.rows[0].lines());
        assert!(report.summary().contains("a takes 1.000 times as long (geometric mean of 2 queries)"));
        assert!(report.summary().contains("; 20 B between tasks; 2 B spilled\n"), "{}", report.summary());
        assert_eq!(report.json()["engines"][0]["shuffled_bytes"], 20);
        assert!(report.verdict().is_ok());
        report.rows[1].cells[1].trouble = Some("FAILED: no".to_owned());
        assert_eq!((report.geometric_mean(1), report.verdict().is_ok()), (Some((2.0, 1)), true));
        report.rows[0].cells[0].trouble = Some("DIFFERS: a row".to_owned());
        assert!(report.verdict().unwrap_err().to_string().contains('1'));
        assert!(report.rows[0].lines().contains("engine 1: DIFFERS: a row"));
    }
}
